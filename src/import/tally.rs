//! Counts what became of the rows, and shows it: a bar on a terminal, a line every ten seconds elsewhere. Decides
//! nothing.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    io::{self, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
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
    pub(super) fn done(&self) -> u64 {
        self.sent + self.replayed + self.troubled()
    }

    /// Rows that are not known to be in.
    pub(super) fn troubled(&self) -> u64 {
        let failed: u64 = self.failed.values().sum();
        let unknown: u64 = self.unknown.values().sum();
        self.invalid + failed + unknown
    }
}

/// The alternate form (`{:#}`) leaves the reasons out.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_short = f.alternate();
        write!(
            f,
            "sent {}, replayed {}, invalid {}",
            self.sent, self.replayed, self.invalid
        )?;
        for (what, reasons) in [("failed", &self.failed), ("unknown", &self.unknown)] {
            write!(f, ", {what} {}", reasons.values().sum::<u64>())?;
            for (reason, count) in reasons.iter().filter(|_| !is_short) {
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
        // Only `wide` parts are cut to the terminal's width: the other lines have to be short.
        let rows = match self.bar.length() {
            Some(_) => "{wide_bar} {human_pos}/{human_len} rows",
            None => "{human_pos} rows",
        };
        let template = format!("{{wide_msg}}\n{rows}, {{per_sec:0}}\n{{prefix}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            self.bar.set_style(style);
        }
        self.bar.reset();
        loop {
            if self.bar.is_hidden() {
                sleep(LINE_EVERY).await;
                let _ = writeln!(io::stderr(), "{}", self.line(pace));
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
        let counts = self.counts();
        self.bar.set_position(counts.done());
        self.bar.set_message(waits(pace).unwrap_or_default());
        let times = [left(pace), self.end(pace, &counts)];
        let times = times.into_iter().flatten().collect::<Vec<_>>().join("; ");
        let lines = format!("{counts:#}\n{times}");
        self.bar.set_prefix(lines.trim_end().to_owned());
    }

    fn line(&self, pace: &Pace) -> String {
        let counts = self.counts();
        let rows = self.bar.length().map(|rows| format!(" of {rows}"));
        let rows = format!("{}{} rows", counts.done(), rows.unwrap_or_default());
        let end = self.end(pace, &counts);
        let parts = [Some(counts.to_string()), left(pace), waits(pace), end];
        let parts = parts.into_iter().flatten().collect::<Vec<_>>();
        format!("{rows}: {}", parts.join("; "))
    }

    /// When it will be done: the last day's beginning where a budget spreads the rows over days, else a guess by
    /// the rows of late.
    fn end(&self, pace: &Pace, counts: &Counts) -> Option<String> {
        let open = self.bar.length()?.checked_sub(counts.done())?;
        if open == 0 {
            return None;
        }
        if let Some(at) = pace.done_at(open) {
            return Some(format!("done after {}", minute(at)));
        }
        let eta = Some(self.bar.eta()).filter(|eta| !eta.is_zero())?;
        Some(format!("done about {}", minute(pace.now_and(eta))))
    }
}

fn left(pace: &Pace) -> Option<String> {
    let left = pace.left()?;
    Some(format!("{left} left of today's budget"))
}

fn waits(pace: &Pace) -> Option<String> {
    let wait = pace.wait()?;
    let lasts = Duration::from_secs(wait.lasts.as_secs() + 1);
    let lasts = humantime::format_duration(lasts);
    Some(format!("waiting for {lasts}: {}", wait.why))
}

/// A day and an hour, for people.
fn minute(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    let text = text.get(..16).unwrap_or(&text).replace('T', " ");
    format!("{text} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_lines_of_the_bar_that_are_not_cut_fit_80_columns() {
        let most = 9_999_999;
        let (mut tally, pace) = (Tally::new(), Pace::new(Some(most), None));
        tally.expect(10 * most);
        tally.note(|counts| {
            (counts.sent, counts.replayed, counts.invalid) = (most, most, most);
            counts.failed.insert("UPSTREAM_CONFLICT".to_owned(), most);
            counts
                .unknown
                .insert("UPSTREAM_CONNECTION_LOST".to_owned(), 1);
        });
        tally.draw(&pace);
        let shown = tally.bar.prefix();
        let (counts, times) = shown.split_once('\n').unwrap();
        assert_eq!(
            counts,
            "sent 9999999, replayed 9999999, invalid 9999999, failed 9999999, unknown 1"
        );
        let (left, end) = times.split_once("; ").unwrap();
        assert_eq!(left, "9999999 left of today's budget");
        assert!(
            end.starts_with("done after 20") && end.ends_with(":00 UTC"),
            "{end}"
        );
        assert!(shown.lines().all(|line| line.len() <= 80), "{shown}");
        // The reasons are told where there is no terminal.
        assert!(
            tally
                .line(&pace)
                .contains("failed 9999999 (UPSTREAM_CONFLICT 9999999)")
        );
    }
}
