//! The process: arguments, logs, ports, signals and exit codes. Everything else is in the library.

use std::{
    env, fmt,
    io::{self, Write as _},
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
};

use clap::error::ErrorKind;
use futures_util::future::BoxFuture;
use onboardflow_gateway::{
    admin::Admin,
    callers::{Question, Rules},
    config::{
        AuthScheme, CallersCommand, Cli, Command, Credentials, Effective, ImportConfig, Location,
        Problems, ProcessConfig, SandboxConfig, ServeConfig, ServerConfig, Unread, UpstreamConfig,
    },
    error::Source,
    healthcheck,
    import::{self, Ended},
    ledger::{self, Ledger},
    port,
    sandbox::{OnboardFlow, Welcome},
    server::{self, Handles, Health},
    service::Service,
    telemetry::{
        Metrics, Telemetry, Tracer,
        logs::{self, Log},
        otlp, traces,
    },
    upstream::Upstream,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
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
    /// An import that didn't get all rows in, and has said why.
    Import(u8),
    /// Anything else.
    Other(Source),
}

impl<E: Into<Source>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

fn main() -> ExitCode {
    let (effective, ended) = match Cli::read(env::args_os()) {
        Ok(cli) => (cli.effective.clone(), run(cli)),
        Err(Unread::Other(error)) => return say(&error),
        Err(Unread::Configuration(problems)) => {
            (Effective::default(), Err(Failure::Configuration(problems)))
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(problems)) => {
            let problems = problems.named_as_set(&effective);
            complain(format_args!("bad configuration\n{problems}"));
            ExitCode::from(BAD_CONFIGURATION)
        }
        Err(Failure::Import(code)) => ExitCode::from(code),
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

/// Prints help or the version, or asks for a command.
fn say(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        _ => {
            complain(format_args!(
                "say serve, sandbox, import, ledger, healthcheck or callers; see --help"
            ));
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Serve(args) => {
            let config = args.check().map_err(Failure::Configuration)?;
            let seen = Seen::start(&config.process, &cli.effective)?;
            let result = block_on(serve(&config, &seen));
            seen.stop(result)
        }
        Command::Sandbox(args) => {
            let config = args.check().map_err(Failure::Configuration)?;
            let seen = Seen::start(&config.process, &cli.effective)?;
            let result = block_on(sandbox(&config, &seen));
            seen.stop(result)
        }
        Command::Import(args) => {
            let config = args.check().map_err(Failure::Configuration)?;
            block_on(import(config))
        }
        Command::Ledger(args) => {
            let command = args.check().map_err(Failure::Configuration)?;
            block_on(async move { Ok(ledger::run(command, &mut io::stdout()).await?) })
        }
        Command::Healthcheck(args) => {
            let address = args.check().map_err(Failure::Configuration)?;
            block_on(async move { Ok(healthcheck::check(address).await?) })
        }
        Command::Callers(CallersCommand::Check(args)) => {
            let (rules, question) = args.check().map_err(Failure::Configuration)?;
            check_callers(&rules, question.as_ref())
        }
    }
}

fn check_callers(rules: &Rules, question: Option<&Question>) -> Result<(), Failure> {
    let Some(question) = question else {
        return Ok(write!(io::stdout(), "{rules}")?);
    };
    let answer = rules.answer(question);
    write!(io::stdout(), "{answer}")?;
    if answer.is_yes() {
        Ok(())
    } else {
        Err(Failure::Other("this caller may not".into()))
    }
}

/// What an operator sees of the process.
struct Seen {
    telemetry: Telemetry,
    spans: Option<traces::Exporting>,
    metrics: Option<otlp::Exporting>,
    log: Log,
    config: Arc<str>,
}

impl Seen {
    fn start(process: &ProcessConfig, effective: &Effective) -> Result<Self, Failure> {
        let log = logs::start(&process.log);
        let config = effective.to_json();
        let version = env!("CARGO_PKG_VERSION");
        let tracing = process.exports.traces;
        info!(version, tracing, config, "starting");
        let (tracer, spans) = if process.exports.traces {
            let (tracer, exporting) = Tracer::from_environment()?;
            (tracer, Some(exporting))
        } else {
            (Tracer::default(), None)
        };
        let telemetry = Telemetry {
            metrics: Metrics::new(),
            tracer,
        };
        telemetry.metrics.collect(log.dropped.clone());
        let metrics = process.exports.metrics.clone();
        let metrics = metrics
            .map(|export| otlp::Exporting::start(export, telemetry.metrics.clone()))
            .transpose()?;
        Ok(Self {
            telemetry,
            spans,
            metrics,
            log,
            config: config.into(),
        })
    }

    /// Opens the admin port.
    async fn show(
        &self,
        address: SocketAddr,
        health: &Health,
        ledger: Option<Ledger>,
    ) -> Result<(), Source> {
        let listener = port::open("admin-listen", address).await?;
        info!(address = %listener.local_addr()?, "admin port");
        let admin = Admin {
            ledger,
            metrics: self.telemetry.metrics.clone(),
            health: health.clone(),
            log: Some(self.log.control.clone()),
            config: Arc::clone(&self.config),
        };
        tokio::spawn(admin.serve(listener));
        Ok(())
    }

    fn stop(self, result: Result<(), Failure>) -> Result<(), Failure> {
        if let Some(exporting) = self.spans {
            exporting.stop();
        }
        if let Some(exporting) = self.metrics {
            exporting.stop();
        }
        info!("stopped");
        result
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

async fn serve(config: &ServeConfig, seen: &Seen) -> Result<(), Failure> {
    let ledger = match &config.ledger {
        Some(config) => Some(Ledger::follow(config, &seen.telemetry.metrics).await?),
        None => None,
    };
    let metrics = &seen.telemetry.metrics;
    let upstream = Upstream::new(&config.upstream, ledger.clone(), metrics)?;
    let gateway = Gateway::open(&config.process, seen, ledger.clone()).await?;
    Ok(gateway.run(upstream, ledger).await?)
}

async fn sandbox(config: &SandboxConfig, seen: &Seen) -> Result<(), Failure> {
    let rest = port::open("rest-listen", config.rest_listen).await?;
    let directory = tempfile::tempdir();
    let ledger = match &directory {
        Ok(directory) => Some(Ledger::new(&Location::Sqlite(
            directory.path().join("ledger.db"),
        ))?),
        Err(error) => {
            warn!(%error, "no temporary directory, so no ledger: calls with a request_id are refused");
            None
        }
    };
    let gateway = Gateway::open(&config.process, seen, ledger.clone()).await?;
    let token = SecretString::from(sandbox_key());
    let welcome = Welcome {
        grpc: gateway.listener.local_addr()?,
        rest: rest.local_addr()?,
        token: token.expose_secret(),
    };
    writeln!(io::stdout(), "{welcome}")?;
    let credentials = Credentials::Gateway {
        token: token.clone(),
        scheme: AuthScheme::Token,
    };
    let upstream = UpstreamConfig {
        max_response_bytes: config.process.max_response_bytes,
        // Each call meets what its site key names, whatever calls before it met.
        breaker: None,
        heed_retry_after: false,
        ..UpstreamConfig::new(
            Url::parse(&format!("http://{}", welcome.rest))?,
            credentials,
        )
    };

    // The emulated API outlives the gateway, so that calls in flight can finish.
    let (drained, until_drained) = oneshot::channel::<()>();
    let emulated = tokio::spawn(OnboardFlow::new(token).serve(rest, async {
        let _ = until_drained.await;
    }));
    let upstream = Upstream::new(&upstream, ledger.clone(), &seen.telemetry.metrics)?;
    gateway.run(upstream, ledger).await?;
    drop(drained);
    emulated.await??;
    Ok(())
}

/// A first signal lets what is under way finish.
async fn import(config: ImportConfig) -> Result<(), Failure> {
    let (told, stop) = (stop_signal()?, CancellationToken::new());
    let stopping = stop.clone();
    tokio::spawn(async move {
        told.await;
        stopping.cancel();
    });
    let ended = import::run(config, stop).await?;
    if let Some(counts) = ended.counts() {
        writeln!(io::stdout(), "{counts}")?;
    }
    match ended {
        Ended::Complete(_) => Ok(()),
        Ended::Incomplete(_) => Err(Failure::Import(1)),
        Ended::Stopped(why, _) => {
            complain(format_args!("{why}"));
            Err(Failure::Import(1))
        }
        Ended::Interrupted(_) => Err(Failure::Import(130)),
        Ended::BadFile(why) => {
            complain(format_args!("{why}"));
            Err(Failure::Import(BAD_CONFIGURATION))
        }
    }
}

/// A gateway whose ports are open, and that doesn't take calls yet.
struct Gateway<'a> {
    config: &'a ServerConfig,
    stop: BoxFuture<'static, ()>,
    handles: Handles,
    listener: TcpListener,
}

impl<'a> Gateway<'a> {
    /// Listens for signals, and on the ports for operators and for callers.
    async fn open(
        config: &'a ProcessConfig,
        seen: &Seen,
        ledger: Option<Ledger>,
    ) -> Result<Self, Source> {
        let stop = Box::pin(stop_signal()?);
        let handles = Handles::new(&seen.telemetry).await;
        seen.show(config.admin_listen, &handles.health, ledger)
            .await?;
        Ok(Self {
            config: &config.server,
            stop,
            handles,
            listener: port::open("listen", config.listen).await?,
        })
    }

    /// Serves until it is told to stop, and has drained.
    async fn run(self, upstream: Upstream, ledger: Option<Ledger>) -> io::Result<()> {
        let max_bytes = self.config.max_request_bytes;
        let make = move || Service::new(upstream.for_worker()).services(max_bytes);
        let ended = server::run(self.listener, self.stop, make, self.config, &self.handles).await;
        if let Some(ledger) = ledger {
            ledger.close().await;
        }
        ended
    }
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
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            info!("SIGHUP: nothing to do; changed files are read again without a signal");
        }
    });
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
