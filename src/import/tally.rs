//! Counts what became of the rows, and shows it: a bar on a terminal, a line every ten seconds elsewhere.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    io::{self, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::time::sleep;

use super::pace::Pace;

/// Time between two lines, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Time between two looks of the bar.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// What became of the rows so far: the summary, and the content of `--report`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Rows that are in, by this run.
    pub sent: u64,
    /// Rows that were in before.
    pub replayed: u64,
    /// Rows that break a rule, and were not sent.
    pub invalid: u64,
    /// Rows that are not in, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Rows that may be in, by reason.
    pub unknown: BTreeMap<String, u64>,
    /// Whether the run was ended before all rows were dealt with.
    pub interrupted: bool,
}

impl Counts {
    /// Rows that were dealt with.
    fn done(&self) -> u64 {
        self.sent + self.replayed + self.troubled()
    }

    pub(super) fn fail(&mut self, reason: String) {
        *self.failed.entry(reason).or_default() += 1;
    }

    pub(super) fn lose(&mut self, reason: String) {
        *self.unknown.entry(reason).or_default() += 1;
    }

    /// Rows that are not known to be in.
    pub(super) fn troubled(&self) -> u64 {
        let failed: u64 = self.failed.values().sum();
        let unknown: u64 = self.unknown.values().sum();
        self.invalid + failed + unknown
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sent {}, replayed {}, invalid {}",
            self.sent, self.replayed, self.invalid
        )?;
        for (what, reasons) in [("failed", &self.failed), ("unknown", &self.unknown)] {
            write!(f, ", {what} {}", reasons.values().sum::<u64>())?;
            for (reason, count) in reasons {
                write!(f, " ({reason} {count})")?;
            }
        }
        Ok(())
    }
}

/// The counts, as they are now.
#[derive(Debug)]
pub(super) struct Tally {
    counts: Mutex<Counts>,
    /// Hidden where there is no terminal.
    bar: ProgressBar,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            counts: Mutex::default(),
            bar: ProgressBar::no_length(),
        }
    }

    /// So many rows are to come.
    pub(super) fn expect(&mut self, rows: u64) {
        self.bar.set_length(rows);
    }

    pub(super) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock());
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows how it goes until it is dropped.
    pub(super) async fn show(&self, pace: &Pace) -> Infallible {
        let template = "{wide_bar} {human_pos}/{human_len} rows, {per_sec}\n{wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.reset();
        loop {
            if self.bar.is_hidden() {
                sleep(LINE_EVERY).await;
                let done = self.counts().done();
                let rows = self.bar.length().map(|rows| format!(" of {rows}"));
                let (rows, message) = (rows.unwrap_or_default(), self.message(pace));
                let _ = writeln!(io::stderr(), "{done}{rows} rows: {message}");
            } else {
                self.draw(pace);
                sleep(DRAW_EVERY).await;
            }
        }
    }

    /// Leaves the bar as it is at the end.
    pub(super) fn finish(&self, pace: &Pace) {
        self.draw(pace);
        self.bar.abandon();
    }

    fn draw(&self, pace: &Pace) {
        self.bar.set_position(self.counts().done());
        self.bar.set_message(self.message(pace));
    }

    fn message(&self, pace: &Pace) -> String {
        let counts = self.counts();
        let left = pace.left();
        let left = left.map(|left| format!("{left} left of today's budget"));
        let wait = pace.wait().map(|wait| {
            let lasts = Duration::from_secs(wait.lasts.as_secs() + 1);
            format!(
                "waiting for {}: {}",
                humantime::format_duration(lasts),
                wait.why
            )
        });
        let open = self
            .bar
            .length()
            .map(|rows| rows.saturating_sub(counts.done()));
        let done = open.filter(|open| *open > 0).map(|open| {
            let at = pace.done_at(open);
            let at = at.unwrap_or_else(|| pace.now_and(self.bar.eta()));
            format!("done after {}", humantime::format_rfc3339_seconds(at))
        });
        let parts = [Some(counts.to_string()), left, wait, done];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}
