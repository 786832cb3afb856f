//! The command line, as clap reads it. [`super`] checks what was read.

#![expect(clippy::doc_markdown, reason = "these comments are what --help prints")]

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{
    Arg, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
    error::ErrorKind,
};
use http::uri::Authority;

use crate::callers::Name;

use super::{
    callers::{CallerArgs, caller_name},
    checked::{
        Checked, Problems, address, authority, boolean, checked, choice, duration, proven, size,
        timeout, variable,
    },
    import::ImportArgs,
    ledger::{LedgerArgs, PlaceArgs, RetentionArgs},
    listener::{ConnectionArgs, TlsArgs},
    misread::{Unread, mend, note_unknown_variables, variable_of},
    telemetry::Effective,
    upstream::UpstreamArgs,
};

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
    Sandbox(SandboxArgs),
    /// Send the rows of files to a running gateway.
    Import(ImportArgs),
    /// List, settle or forget what the ledger holds.
    Ledger(LedgerArgs),
    /// Ask a gateway for its health, and exit with 0 if it is SERVING.
    Healthcheck(HealthcheckArgs),
    /// Look at the rules on who may do what.
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
    #[arg(long, value_name = "NAME", value_parser = checked(caller_name))]
    pub(super) caller: Option<Checked<Name>>,
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
    /// Address for gRPC.
    #[arg(long, value_name = "ADDR", default_value = "[::]:50051", value_parser = checked(address))]
    pub(super) listen: Checked<SocketAddr>,
    /// Address for the admin port: /livez, /readyz, /metrics, /config, /log, and grpc.health.v1 in
    /// plaintext.
    #[arg(long, value_name = "ADDR", default_value = "[::]:9090", value_parser = checked(address))]
    pub(super) admin_listen: Checked<SocketAddr>,
    #[command(flatten)]
    pub(super) upstream: UpstreamArgs,
    #[command(flatten)]
    pub(super) ledger: PlaceArgs,
    #[command(flatten)]
    pub(super) retention: RetentionArgs,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    #[command(flatten)]
    pub(super) callers: CallerArgs,
    /// Time between the signal to stop, which makes health NOT_SERVING, and the end of accepting
    /// connections: as long as load balancers take to notice.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = checked(duration))]
    pub(super) drain_delay: Checked<Duration>,
    #[command(flatten)]
    pub(super) shared: SharedArgs,
}

/// Flags of `sandbox`.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Address for gRPC.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051", value_parser = checked(address))]
    pub(super) listen: Checked<SocketAddr>,
    /// Address for the admin port: /livez, /readyz, /metrics, /config, /log, and grpc.health.v1 in
    /// plaintext.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090", value_parser = checked(address))]
    pub(super) admin_listen: Checked<SocketAddr>,
    /// Address for the emulated REST API, to call it with curl. A free port of 127.0.0.1 unless
    /// given.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", hide_default_value = true, value_parser = checked(address))]
    pub(super) rest_listen: Checked<SocketAddr>,
    /// Time between the signal to stop and the end of accepting connections. Nobody balances load
    /// over sandboxes.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = checked(duration))]
    pub(super) drain_delay: Checked<Duration>,
    #[command(flatten)]
    pub(super) shared: SharedArgs,
}

/// Flags of `healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// Host and port of a gateway's admin port, or of its gRPC port where that is in plaintext
    /// [default: the port of ONBOARDFLOW_ADMIN_LISTEN, or else 127.0.0.1:9090]
    #[arg(value_name = "ADDR", value_parser = checked(authority))]
    pub(super) address: Option<Checked<Authority>>,
}

/// Flags that `serve` and `sandbox` have alike, defaults included.
#[derive(Debug, Args)]
pub(super) struct SharedArgs {
    /// Deadline of calls that come without one.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = checked(timeout))]
    pub(super) default_timeout: Checked<Duration>,
    /// Cap on the deadline of calls that come with one.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = checked(timeout))]
    pub(super) max_timeout: Checked<Duration>,
    /// Largest request message, after decompression.
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = checked(size))]
    pub(super) max_request_bytes: Checked<usize>,
    /// Largest reply body that is read from OnboardFlow, after decompression.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = checked(size))]
    pub(super) max_response_bytes: Checked<usize>,
    /// Serve gRPC reflection, which grpcurl and other tools need.
    #[arg(long, value_name = "BOOL", default_value = "true", value_parser = checked(boolean))]
    pub(super) reflection: Checked<bool>,
    #[command(flatten)]
    pub(super) connections: ConnectionArgs,
    /// Longest wait for calls in flight once no more connections are accepted. The process ends
    /// after it whatever happens.
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = checked(duration))]
    pub(super) drain_timeout: Checked<Duration>,
    /// Format of the log on standard error; `auto` is text on a terminal and JSON elsewhere.
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = checked(choice::<LogFormat>))]
    pub(super) log_format: Checked<LogFormat>,
    /// What to log: a level, also by target, as in `info,onboardflow_gateway=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(super) log: String,
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

impl Default for ServeArgs {
    /// What clap reads when no flag is given: so each default stands in one place, with its flag.
    fn default() -> Self {
        let command = Self::augment_args(clap::Command::new("serve"));
        proven(
            command
                .try_get_matches_from(["serve"])
                .and_then(|matches| Self::from_arg_matches(&matches)),
        )
    }
}

impl Cli {
    /// Reads a command line, and the environment for what it leaves out. Where anything in them is
    /// misread, all else that is wrong with the configuration is told too.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, Unread> {
        let mut command = Self::command_with_variables();
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
                    if !mend(&error, &mut args, &mut problems) {
                        return Err(Unread::Configuration(problems));
                    }
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

    /// Every flag, with its variable where that is set. Help shows the rule in place of the
    /// variables, as it would show what they hold.
    fn command_with_variables() -> clap::Command {
        fn with_variable(arg: Arg) -> Arg {
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
            match variable(&name) {
                Some(_) => arg.env(name).hide_env(true),
                None => arg,
            }
        }
        Self::command().mut_subcommands(|command| command.mut_args(with_variable))
    }
}
