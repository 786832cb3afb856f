//! The process: arguments, logs, ports, signals and exit codes. Everything else is in the library.

use std::{
    env, fmt,
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    panic,
    process::ExitCode,
};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use onboardflow_gateway::{
    config::{
        AuthScheme, Cli, Command, Credentials, LogConfig, LogFormat, Problems, SandboxConfig,
        ServeConfig, UpstreamConfig,
    },
    error::Source,
    healthcheck,
    sandbox::{OnboardFlow, Welcome},
    server::{self, Handles},
    service::Service,
    upstream::Upstream,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tracing::error;
use url::Url;

/// A call allocates dozens of times, on one thread, and gives most of it back on the same one: what
/// mimalloc is quickest at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `EX_USAGE` of sysexits(3): the configuration is bad.
const BAD_CONFIGURATION: u8 = 64;

/// Why the process ends, other than well.
enum Failure {
    /// The configuration is bad.
    Configuration(Problems),
    /// Anything else.
    Other(Source),
}

impl<E: Into<Source>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

fn main() -> ExitCode {
    let cli = match Cli::read(env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return refuse_arguments(&error),
    };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(problems)) => {
            complain(format_args!("bad configuration\n{problems}"));
            ExitCode::from(BAD_CONFIGURATION)
        }
        Err(Failure::Other(error)) => {
            complain(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says why the process ends. Nobody may be listening, which is no reason to panic.
fn complain(why: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "onboardflow-gateway: {why}");
}

/// Prints help and version as clap made them, and of anything else no more than the flag that is at
/// fault: clap would quote its value, which may be a key put in the wrong place.
fn refuse_arguments(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let printed = error.print();
            return if printed.is_ok() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            complain(format_args!(
                "say serve, sandbox or healthcheck; see --help"
            ));
        }
        kind => {
            let problem = kind.as_str().unwrap_or("bad arguments");
            let flag = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::String(arg)) if arg.starts_with("--") => {
                    arg.split(['=', ' ']).next().unwrap_or_default()
                }
                _ => "the command line",
            };
            complain(format_args!("{flag}: {problem}; see --help"));
        }
    }
    ExitCode::from(BAD_CONFIGURATION)
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => {
            let config = args.check().map_err(Failure::Configuration)?;
            start_logging(&config.log);
            block_on(serve(&config))
        }
        Command::Sandbox(args) => {
            let config = args.check().map_err(Failure::Configuration)?;
            start_logging(&config.log);
            block_on(sandbox(&config))
        }
        Command::Healthcheck(args) => {
            let address = args.check().map_err(Failure::Configuration)?;
            block_on(async move { Ok(healthcheck::check(address).await?) })
        }
    }
}

/// Runs to the end of `program`, and no longer: a lookup of a name that hangs can't be cancelled, and
/// must not hold up the exit.
fn block_on(program: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(program);
    runtime.shutdown_background();
    outcome
}

async fn serve(config: &ServeConfig) -> Result<(), Failure> {
    let stop = stop_signal()?;
    let upstream = Upstream::new(&config.upstream)?;
    let listener = bind(config.listen).await?;
    let handles = Handles::new(&config.server).await;
    let service = move || Service::new(upstream.for_worker());
    server::run(listener, stop, service, &config.server, &handles).await?;
    Ok(())
}

async fn sandbox(config: &SandboxConfig) -> Result<(), Failure> {
    let stop = stop_signal()?;
    let rest = bind(config.rest_listen).await?;
    let grpc = bind(config.listen).await?;
    let token = SecretString::from(sandbox_key());
    let base_url = Url::parse(&format!("http://{}", rest.local_addr()?))?;
    let credentials = Credentials::Gateway {
        token: token.clone(),
        scheme: AuthScheme::Token,
    };
    let upstream = Upstream::new(&UpstreamConfig {
        max_response_bytes: config.max_response_bytes,
        ..UpstreamConfig::new(base_url, credentials)
    })?;
    let welcome = Welcome {
        grpc: grpc.local_addr()?,
        rest: rest.local_addr()?,
        token: token.expose_secret(),
    };
    writeln!(io::stdout(), "{welcome}")?;

    // The emulated API outlives the gateway, so that calls in flight can finish.
    let (drained, until_drained) = oneshot::channel::<()>();
    let emulated = tokio::spawn(OnboardFlow::new(token).serve(rest, async {
        let _ = until_drained.await;
    }));
    let handles = Handles::new(&config.server).await;
    let service = move || Service::new(upstream.for_worker());
    server::run(grpc, stop, service, &config.server, &handles).await?;
    drop(drained);
    emulated.await??;
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Source> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| format!("can't listen on {address}: {error}").into())
}

/// 40 hex digits, as a real key has, and another one for each run.
fn sandbox_key() -> String {
    (0..40)
        .map(|_| char::from_digit(fastrand::u32(..16), 16).unwrap_or('0'))
        .collect()
}

/// Ready when the process is told to stop. From then on a second signal ends it at once.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "told twice: at once, drained or not"
            )]
            std::process::exit(1);
        });
    })
}

fn start_logging(config: &LogConfig) {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(config.filter.clone())
        .with_writer(io::stderr);
    let as_text = match config.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => io::stderr().is_terminal(),
    };
    if as_text {
        lines.with_ansi(io::stderr().is_terminal()).init();
    } else {
        lines.json().flatten_event(true).init();
    }
    // Where, and not what: the message of a panic may hold what was being worked on.
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        error!(location, "a task panicked");
    }));
}
