//! The log: where it goes, what it may hold, and how its level is changed while the gateway
//! runs. Knows nothing of calls.

use std::{
    io::{self, IsTerminal as _},
    panic,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::counter::ConstCounter,
};
use tracing::{error, level_filters::LevelFilter};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
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

/// Lines that wait for whoever reads the log. A line has some 400 bytes; one that finds no room is
/// dropped and counted, as a reader that stalls must not stall calls.
const MAX_WAITING: usize = 2048;

/// Changes what is logged.
#[derive(Clone, Debug)]
pub struct LogControl(reload::Handle<Targets, Registry>);

impl LogControl {
    /// What is logged, in the syntax of `--log`.
    pub fn get(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Logs this from now on, in the syntax of `--log`. Says what is wrong with it otherwise.
    pub fn set(&self, filter: &str) -> Result<(), &'static str> {
        let filter = log_filter(filter)?;
        self.0.reload(filter).map_err(|_| "the log is closed")
    }
}

/// The log of the process.
#[derive(Debug)]
pub struct Log {
    /// Changes its level.
    pub control: LogControl,
    /// Its lines that had no room.
    pub dropped: DroppedLines,
    /// Writes what still waits when it is dropped, for a second at most.
    _writing: WorkerGuard,
}

/// Logs to standard error from now on, panics included.
#[must_use]
pub fn start(config: &LogConfig) -> Log {
    let reader = if io::stderr().is_terminal() {
        Reader::Terminal
    } else {
        Reader::Program
    };
    let (lines, dropped, writing) = lines_to(io::stderr());
    let (subscriber, control) = subscriber(config, reader, lines);
    subscriber.init();
    report_panics();
    Log {
        control,
        dropped,
        _writing: writing,
    }
}

/// Writes lines on a thread of its own: whoever logs never waits.
pub fn lines_to(
    output: impl io::Write + Send + 'static,
) -> (NonBlocking, DroppedLines, WorkerGuard) {
    let (lines, writing) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(MAX_WAITING)
        .thread_name("log")
        .finish(output);
    let dropped = DroppedLines(lines.error_counter());
    (lines, dropped, writing)
}

/// Lines of the log that were dropped, as a metric.
#[derive(Clone, Debug)]
pub struct DroppedLines(ErrorCounter);

impl Collector for DroppedLines {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let dropped = u64::try_from(self.0.dropped_lines()).unwrap_or(u64::MAX);
        let dropped = ConstCounter::new(dropped);
        dropped.encode(encoder.encode_descriptor(
            "onboardflow_gateway_log_lines_dropped",
            "Log lines that were dropped because nobody read the log",
            None,
            dropped.metric_type(),
        )?)
    }
}

/// Who reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Somebody at a terminal, who likes text in colours.
    Terminal,
    /// A program.
    Program,
}

/// What writes the log, and what changes its level.
pub fn subscriber<W>(
    config: &LogConfig,
    reader: Reader,
    writer: W,
) -> (impl tracing::Subscriber + Send + Sync, LogControl)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(config.filter.clone());
    let cap = Targets::new()
        .with_default(FOREIGN)
        .with_target("onboardflow_gateway", LevelFilter::TRACE);
    let lines = fmt::layer()
        .with_writer(writer)
        .with_ansi(reader == Reader::Terminal);
    let lines = match (config.format, reader) {
        (LogFormat::Text, _) | (LogFormat::Auto, Reader::Terminal) => lines.boxed(),
        (LogFormat::Json, _) | (LogFormat::Auto, Reader::Program) => {
            lines.json().flatten_event(true).boxed()
        }
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

#[cfg(test)]
mod tests {
    use std::{io::Write as _, sync::mpsc};

    use super::*;
    use crate::telemetry::Metrics;

    /// Takes nothing until it is told to.
    struct Stalled(mpsc::Receiver<()>);

    impl io::Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_that_are_counted() {
        let (read_on, stalled) = mpsc::channel();
        let (mut lines, dropped, writing) = lines_to(Stalled(stalled));
        for _ in 0..MAX_WAITING + 11 {
            lines.write_all(b"a line\n").unwrap();
        }
        let metrics = Metrics::new();
        metrics.collect(dropped);
        drop(read_on);
        drop(writing);

        let metrics = metrics.encode().unwrap();
        let counted = metrics
            .lines()
            .find_map(|line| line.strip_prefix("onboardflow_gateway_log_lines_dropped_total "));
        // The writer holds one line.
        assert!(matches!(counted, Some("10" | "11")), "{counted:?}");
    }
}
