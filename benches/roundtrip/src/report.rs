//! Medians, and tables in Markdown.

use crate::drive::Sample;

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
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for figure in samples.iter().map(figure) {
        (least, most) = (least.min(figure), most.max(figure));
    }
    format!("{least:.1}–{most:.1}")
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

/// A table in Markdown, printed as it grows.
pub(crate) struct Table {
    columns: usize,
}

impl Table {
    pub(crate) fn begin(title: &str, columns: &[&str]) -> Self {
        println!("\n### {title}\n\n| {} |", columns.join(" | "));
        println!("|{}", " --- |".repeat(columns.len()));
        Self {
            columns: columns.len(),
        }
    }

    pub(crate) fn row(&self, cells: &[String]) {
        debug_assert_eq!(cells.len(), self.columns);
        println!("| {} |", cells.join(" | "));
    }
}
