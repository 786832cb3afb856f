//! The log: where it goes, what it may hold, and how its level is changed while the gateway runs.

use std::{
    io::{self, IsTerminal as _},
    panic,
};

use tracing::{error, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    reload,
    util::SubscriberInitExt as _,
};

use crate::config::{LogConfig, LogFormat, log_filter};

/// The most that other crates log, whatever `--log` says: below it some write headers and bodies.
const FOREIGN: LevelFilter = LevelFilter::INFO;

/// Changes what is logged.
#[derive(Clone, Debug)]
pub struct LogControl(reload::Handle<Targets, Registry>);

impl LogControl {
    /// What is logged, in the syntax of `--log`.
    #[must_use]
    pub fn get(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Logs this from now on, in the syntax of `--log`. Says what is wrong with it otherwise.
    pub fn set(&self, filter: &str) -> Result<(), &'static str> {
        let filter = log_filter(filter)?;
        self.0.reload(filter).map_err(|_| "the log is closed")
    }
}

/// Logs to standard error from now on, panics included.
#[must_use]
pub fn start(config: &LogConfig) -> LogControl {
    let on_terminal = io::stderr().is_terminal();
    let format = match config.format {
        LogFormat::Auto if on_terminal => LogFormat::Text,
        LogFormat::Auto => LogFormat::Json,
        format @ (LogFormat::Json | LogFormat::Text) => format,
    };
    let (subscriber, control) = subscriber(config, format, on_terminal, io::stderr);
    subscriber.init();
    report_panics();
    control
}

/// What writes the log, and what changes its level.
pub fn subscriber<W>(
    config: &LogConfig,
    format: LogFormat,
    ansi: bool,
    writer: W,
) -> (impl tracing::Subscriber + Send + Sync, LogControl)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(config.filter.clone());
    let cap = Targets::new()
        .with_default(FOREIGN)
        .with_target("onboardflow_gateway", LevelFilter::TRACE);
    let lines = fmt::layer().with_writer(writer).with_ansi(ansi);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json | LogFormat::Auto => lines.json().flatten_event(true).boxed(),
    };
    let subscriber = tracing_subscriber::registry()
        .with(filter)
        .with(cap)
        .with(lines);
    (subscriber, LogControl(handle))
}

/// Logs where, and not what: the message of a panic may hold what was being worked on.
pub fn report_panics() {
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        error!(location, "a task panicked");
    }));
}
