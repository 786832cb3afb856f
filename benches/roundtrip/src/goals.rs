//! What the gateway is to cost at most, and whether it does.

use crate::report::{Report, spread};

/// CPU a call, in multiples of the floor's.
pub(crate) const CPU: f64 = 1.35;
/// CPU a call with a token, in multiples of one without.
pub(crate) const JWT: f64 = 1.5;
/// p99 beyond the floor's at half the floor's throughput, in milliseconds.
pub(crate) const P99_BEYOND_FLOOR: f64 = 1.0;
/// Calls in flight, and memory resident then, in MiB.
pub(crate) const MEMORY: [(usize, f64); 2] = [(64, 20.0), (1000, 64.0)];
/// From the start of the process until it says SERVING, in milliseconds.
pub(crate) const START: f64 = 100.0;
/// CPU a call over a sweep, in percent of the middle.
const FLAT: f64 = 10.0;

/// Goals, and what was measured of each.
#[derive(Default)]
pub(crate) struct Goals {
    rows: Vec<[String; 3]>,
}

impl Goals {
    /// Notes a goal that is a bound.
    pub(crate) fn at_most(&mut self, what: &str, bound: f64, measured: f64, unit: &str) {
        self.note(
            format!("{what}: at most {bound:.2}{unit}"),
            format!("{measured:.2}{unit}"),
            measured <= bound,
        );
    }

    /// Notes the goal that CPU a call is flat, with what the floor does over the same points.
    pub(crate) fn flat(&mut self, who: &str, over: &str, cpu: &[f64], floor: &[f64]) {
        let ratios: Vec<f64> = cpu
            .iter()
            .zip(floor)
            .map(|(cpu, floor)| cpu / floor)
            .collect();
        let spreads = [cpu, floor, &ratios].map(spread);
        let [own, of_floor, of_ratios] = spreads;
        self.note(
            format!("{who}, CPU a call from {over}: flat, ±{FLAT:.0} %"),
            format!(
                "±{own:.0} %; the floor ±{of_floor:.0} %; in multiples of it ±{of_ratios:.0} %"
            ),
            own <= FLAT,
        );
    }

    fn note(&mut self, goal: String, measured: String, is_met: bool) {
        let verdict = if is_met { "yes" } else { "**no**" };
        self.rows.push([goal, measured, verdict.to_owned()]);
    }

    pub(crate) fn report(&self, report: &mut Report) {
        if self.rows.is_empty() {
            return;
        }
        report.begin_table("Goals", &["goal", "measured", "met"]);
        for row in &self.rows {
            report.row(row);
        }
    }
}
