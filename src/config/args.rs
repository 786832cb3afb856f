//! The command line, as clap reads it: each flag with its words and its default. [`super`] checks what
//! goes together.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{
    Arg, ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
    error::ErrorKind,
};
use http::uri::Authority;
use tracing_subscriber::filter::Targets;

use super::{
    CallerConfig, ConnectionConfig, Effective, Exports, ImportConfig, RELOAD_INTERVAL,
    callers::{CallerArgs, caller_name},
    checked::{
        Problems, address, authority, boolean, choice, count, defaults, duration, size, timeout,
        variable, variable_of,
    },
    granted_cpus,
    ledger::{LedgerArgs, PlaceArgs},
    listener::TlsArgs,
    log_filter,
    misread::{Unread, mend, note_unknown_variables},
    upstream::UpstreamArgs,
};
use crate::{callers::Name, pem::TlsFiles};

/// A gRPC gateway in front of OnboardFlow's Customers REST API.
///
/// Every flag `--some-name` is also read from the environment as `ONBOARDFLOW_SOME_NAME`; a flag
/// wins. Exit codes: 0 after a clean end, 64 for a bad configuration, 1 otherwise.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// The flags of what to do, as they are in force.
    #[arg(skip)]
    pub effective: Effective,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve gRPC, and call OnboardFlow with the API key in ONBOARDFLOW_TOKEN or --token-file.
    Serve(Box<ServeArgs>),
    /// Serve gRPC in front of an emulated OnboardFlow, in one process with nothing to configure.
    Sandbox(Box<SandboxConfig>),
    /// Send the rows of files to a running gateway.
    Import(Box<ImportConfig>),
    /// List, settle or forget what the ledger holds.
    Ledger(LedgerArgs),
    /// Ask a gateway for its health, and exit with 0 if it is SERVING.
    Healthcheck(HealthcheckArgs),
    /// Check a file of callers.
    #[command(subcommand)]
    Callers(CallersCommand),
}

/// What to do with the rules.
#[derive(Debug, Subcommand)]
pub enum CallersCommand {
    /// Say what a --callers-file means, and exit with 64 if it is broken. With --caller, say what that
    /// caller may do, and exit with 0 if it is allowed.
    Check(CallersArgs),
}

/// Flags of `callers check`.
#[derive(Debug, Args)]
pub struct CallersArgs {
    /// The file.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// A caller, as the file would name it.
    #[arg(long, value_name = "NAME", value_parser = caller_name)]
    pub(super) caller: Option<Name>,
    /// The key of a site that it would use.
    #[arg(long, value_name = "KEY", requires = "caller")]
    pub(super) site: Option<String>,
    /// A method that it would use, such as CreateCustomer.
    #[arg(long, value_name = "METHOD", requires = "caller")]
    pub(super) method: Option<String>,
}

/// Flags of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub(super) process: ProcessConfig,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    #[command(flatten)]
    pub(super) callers: CallerArgs,
    #[command(flatten)]
    pub(super) upstream: UpstreamArgs,
    #[command(flatten)]
    pub(super) ledger: PlaceArgs,
}

/// Everything that `sandbox` needs.
#[derive(Debug, Args)]
#[command(
    mut_arg("listen", |arg| arg.default_value("127.0.0.1:50051")),
    mut_arg("admin_listen", |arg| arg.default_value("127.0.0.1:9090")),
    mut_arg("drain_delay", |arg| arg.default_value("0s").help(
        "Time between the signal to stop and the end of accepting connections")),
)]
pub struct SandboxConfig {
    /// The process around the gateway.
    #[command(flatten)]
    pub process: ProcessConfig,
    /// Address for the emulated REST API, to call it with curl. A free port of 127.0.0.1 unless
    /// given.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", hide_default_value = true, value_parser = address)]
    pub rest_listen: SocketAddr,
}

/// Flags of `healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// Host and port of a gateway's admin port, or of its gRPC port where that is in plaintext
    /// [default: the port of ONBOARDFLOW_ADMIN_LISTEN, or else 127.0.0.1:9090]
    #[arg(value_name = "ADDR", value_parser = authority)]
    pub(super) address: Option<Authority>,
}

/// What a gateway needs whatever it calls: the flags that `serve` and `sandbox` have alike.
#[derive(Clone, Debug, Args)]
pub struct ProcessConfig {
    /// Address for gRPC.
    #[arg(long, value_name = "ADDR", default_value = "[::]:50051", value_parser = address)]
    pub listen: SocketAddr,
    /// Address for the admin port: /livez, /readyz, /metrics, /config, /log, and grpc.health.v1 in
    /// plaintext.
    #[arg(long, value_name = "ADDR", default_value = "[::]:9090", value_parser = address)]
    pub admin_listen: SocketAddr,
    /// How callers are served.
    #[command(flatten)]
    pub server: ServerConfig,
    /// Largest reply body that is read from OnboardFlow, after decompression.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    pub max_response_bytes: usize,
    /// What is logged.
    #[command(flatten)]
    pub log: LogConfig,
    /// Which of traces and metrics are sent.
    #[arg(skip)]
    pub exports: Exports,
}

/// How callers are served.
#[derive(Clone, Debug, Args)]
pub struct ServerConfig {
    /// Deadline of calls that come without one.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = timeout)]
    pub default_timeout: Duration,
    /// Longest deadline of calls that come with one; longer ones are shortened to it.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = timeout)]
    pub max_timeout: Duration,
    /// Largest request message, after decompression.
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = size)]
    pub max_request_bytes: usize,
    /// Serve gRPC reflection, which grpcurl and other tools need.
    #[arg(long, value_name = "BOOL", default_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub reflection: bool,
    /// Threads that serve connections [default: the CPUs granted]
    #[arg(long, value_name = "COUNT", default_value_t = granted_cpus(), hide_default_value = true, value_parser = count::<usize>)]
    pub workers: usize,
    /// Most calls at once, over all workers; further calls are refused. One connection or one
    /// caller gets at most a quarter of them.
    #[arg(long, value_name = "COUNT", default_value = "1024", value_parser = count::<usize>)]
    pub max_in_flight: usize,
    /// How a connection lives.
    #[command(flatten)]
    pub connections: ConnectionConfig,
    /// The files for TLS, or none for plaintext.
    #[arg(skip)]
    pub tls: Option<TlsFiles>,
    /// Who may call.
    #[arg(skip)]
    pub callers: CallerConfig,
    /// Time between looks at the files of both, for a change.
    #[arg(skip = RELOAD_INTERVAL)]
    pub reload_interval: Duration,
    /// Time between the signal to stop, when health becomes NOT_SERVING, and the end of accepting
    /// connections. Give load balancers the time to notice.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub drain_delay: Duration,
    /// Longest wait for calls in flight after the gateway stopped accepting connections. Then the
    /// process ends in any case.
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = duration)]
    pub drain_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        defaults()
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, Args)]
pub struct LogConfig {
    /// Format of the log on standard error; `auto` is text on a terminal and JSON elsewhere.
    #[arg(long = "log-format", value_name = "FORMAT", default_value = "auto", value_parser = choice::<LogFormat>)]
    pub format: LogFormat,
    /// What to log: a level, also by target, as in `info,onboardflow_gateway=debug`.
    #[arg(long = "log", value_name = "FILTER", default_value = "info", value_parser = log_filter)]
    pub filter: Targets,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// A JSON object a line.
    Json,
    /// A line for people.
    Text,
}

impl Command {
    /// What is wrong with the values of its flags.
    fn problems(self) -> Problems {
        let problems = match self {
            Self::Serve(args) => args.check().err(),
            Self::Sandbox(args) => args.check().err(),
            Self::Import(args) => args.check().err(),
            Self::Ledger(args) => args.check().err(),
            Self::Callers(CallersCommand::Check(args)) => args.check().err(),
            Self::Healthcheck(args) => args.check().err(),
        };
        problems.unwrap_or_default()
    }
}

impl Cli {
    /// Reads a command line, and the environment for what it leaves out. Where anything in them is
    /// misread, all else that is wrong with the configuration is told too.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, Unread> {
        let (mut command, mut unusable) = (Self::command_with_variables(&[]), Vec::new());
        let mut args: Vec<_> = args.into_iter().collect();
        let mut problems = Problems::default();
        note_unknown_variables(&command, &mut problems);
        let matches = loop {
            match command.try_get_matches_from_mut(&args) {
                Ok(matches) => break matches,
                Err(error) if Self::is_no_misreading(error.kind()) => {
                    return Err(Unread::Other(error));
                }
                Err(error) => {
                    if !mend(&error, &mut args, &mut unusable, &mut problems) {
                        return Err(Unread::Configuration(problems));
                    }
                    command = Self::command_with_variables(&unusable);
                }
            }
        };
        let mut cli = Self::from_arg_matches(&matches).map_err(Unread::Other)?;
        if let Some((name, matches)) = matches.subcommand()
            && let Some(command) = command.find_subcommand(name)
        {
            cli.effective = Effective::of(command, matches);
        }
        if problems.is_empty() {
            return Ok(cli);
        }
        problems.extend(cli.command.problems().named_as_set(&cli.effective));
        Err(Unread::Configuration(problems))
    }

    fn is_no_misreading(kind: ErrorKind) -> bool {
        matches!(
            kind,
            ErrorKind::DisplayHelp
                | ErrorKind::DisplayVersion
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                | ErrorKind::MissingSubcommand
        )
    }

    /// Every flag, with its variable where that is set and not unusable. Help shows the rule in place of the
    /// variables, as it would show what they hold.
    fn command_with_variables(unusable: &[String]) -> clap::Command {
        let with_variable = |arg: Arg| {
            let Some(flag) = arg
                .get_long()
                .filter(|flag| !matches!(*flag, "help" | "version"))
            else {
                return arg;
            };
            let name = variable_of(flag);
            // So that -1 is a bad value, and no unknown flag.
            let is_switch = !arg.get_action().takes_values();
            let arg = arg.allow_negative_numbers(!is_switch);
            let is_usable = !unusable.iter().any(|flag| variable_of(flag) == name);
            match variable(&name).filter(|_| is_usable) {
                Some(_) => arg.env(name).hide_env(true),
                None => arg,
            }
        };
        Self::command().mut_subcommands(|command| command.mut_args(with_variable))
    }
}
