//! Medians, and what is said of them in Markdown.

use std::{fs, path::Path};

use crate::{Fallible, drive::Sample};

/// Between which lines a document holds what a run printed.
#[derive(Clone, Copy)]
pub(crate) enum Marks {
    Distant,
    Figures,
}

impl Marks {
    fn lines(self) -> [&'static str; 2] {
        match self {
            Self::Distant => [
                "<!-- What roundtrip --only distant --write wrote, to its end mark. -->",
                "<!-- The end mark of distant. -->",
            ],
            Self::Figures => [
                "<!-- What roundtrip --write wrote, to the end mark. -->",
                "<!-- The end mark. -->",
            ],
        }
    }
}

/// The middle of what the rounds gave.
pub(crate) fn median(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> f64 {
    median_of(samples.iter().map(figure).collect())
}

pub(crate) fn median_of(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => figures[middle],
        _ => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}

/// The least and the most that the rounds gave, to show the noise.
pub(crate) fn range(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> String {
    let figures: Vec<f64> = samples.iter().map(figure).collect();
    let (least, most) = extremes(&figures);
    format!("{least:.1}–{most:.1}")
}

fn extremes(figures: &[f64]) -> (f64, f64) {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (least, most)
}

/// How far figures are from the middle between the least and the most of them, in percent of it.
pub(crate) fn spread(figures: &[f64]) -> f64 {
    let (least, most) = extremes(figures);
    100.0 * (most - least) / (most + least)
}

/// The median of the ratios within each round: what the machine did to both cancels out.
pub(crate) fn ratio(samples: &[Sample], floor: &[Sample], figure: impl Fn(&Sample) -> f64) -> f64 {
    let ratios = samples.iter().zip(floor);
    median_of(
        ratios
            .map(|(sample, floor)| figure(sample) / figure(floor))
            .collect(),
    )
}

pub(crate) fn failures(samples: &[Sample]) -> usize {
    samples.iter().map(|sample| sample.failures).sum()
}

/// Tables in Markdown, printed as they grow, and kept.
#[derive(Default)]
pub(crate) struct Report {
    text: String,
}

impl Report {
    pub(crate) fn begin_table(&mut self, title: &str, columns: &[&str]) {
        self.line(&format!("\n### {title}\n"));
        self.line(&format!("| {} |", columns.join(" | ")));
        self.line(&format!("|{}", " --- |".repeat(columns.len())));
    }

    pub(crate) fn row(&mut self, cells: &[String]) {
        self.line(&format!("| {} |", cells.join(" | ")));
    }

    fn line(&mut self, line: &str) {
        println!("{line}");
        self.text += line;
        self.text.push('\n');
    }

    /// Puts all of it between these marks in this file, in place of what is there.
    pub(crate) fn write_into(&self, file: &Path, marks: Marks) -> Fallible<()> {
        let document = fs::read_to_string(file)?;
        let [begin, end] = marks.lines();
        let marked = document.split_once(begin).and_then(|(before, rest)| {
            let (_, after) = rest.split_once(end)?;
            Some(format!("{before}{begin}\n{}\n{end}{after}", self.text))
        });
        let marked = marked.ok_or_else(|| format!("{} lacks the marks", file.display()))?;
        Ok(fs::write(file, marked)?)
    }
}
