//! Counts what became of the rows, and shows it: a bar on a terminal, a line every ten seconds elsewhere.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, IsTerminal as _, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::time::sleep;

use super::pace::Pace;

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
    /// Rows in all, where that is known.
    total: Option<u64>,
}

impl Tally {
    pub(super) fn new(total: Option<u64>) -> Self {
        Self {
            counts: Mutex::default(),
            total,
        }
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
    pub(super) async fn show(&self, pace: &Pace) {
        if io::stderr().is_terminal() {
            self.show_bar(pace).await;
        } else {
            loop {
                sleep(Duration::from_secs(10)).await;
                let done = self.counts().done();
                let of = self
                    .total
                    .map_or(String::new(), |total| format!(" of {total}"));
                let message = self.message(pace);
                let _ = writeln!(io::stderr(), "{done}{of} rows: {message}");
            }
        }
    }

    async fn show_bar(&self, pace: &Pace) {
        let bar = match self.total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        let template = "{wide_bar} {pos}/{len} rows, {per_sec}\n{msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        loop {
            bar.set_position(self.counts().done());
            bar.set_message(self.message(pace));
            sleep(Duration::from_millis(200)).await;
        }
    }

    fn message(&self, pace: &Pace) -> String {
        let counts = self.counts();
        let (left, wait) = pace.left();
        let left = left.map(|left| format!("{left} left of today's budget"));
        let wait = (!wait.is_zero()).then(|| {
            let wait = humantime::format_duration(Duration::from_secs(wait.as_secs()));
            format!("waiting for {wait}")
        });
        let open = self.total.map(|total| total.saturating_sub(counts.done()));
        let done = open.and_then(|open| pace.done_at(open));
        let done = done.map(|at| format!("done after {}", humantime::format_rfc3339_seconds(at)));
        let parts = [Some(counts.to_string()), left, wait, done];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}
