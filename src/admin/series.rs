//! The metrics as the page reads them. Doesn't know what they mean.

use std::collections::BTreeMap;

/// The metrics, as their text has them.
pub(super) struct Series<'a>(Vec<(&'a str, &'a str, f64)>);

impl<'a> Series<'a> {
    pub(super) fn read(text: &'a str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            Some((name, labels.trim_end_matches('}'), value.parse().ok()?))
        });
        Self(series.collect())
    }

    /// The values of a metric, added up.
    pub(super) fn sum(&self, name: &str) -> f64 {
        let named = self.0.iter().filter(|(its, _, _)| *its == name);
        named.map(|(_, _, value)| value).sum()
    }

    /// The values of a metric, added up for each value of a label.
    pub(super) fn sums(&self, name: &str, label: &str) -> BTreeMap<&'a str, f64> {
        let mut sums = BTreeMap::new();
        for (_, labels, value) in self.0.iter().filter(|(its, _, _)| *its == name) {
            let mut pairs = labels
                .split("\",")
                .filter_map(|pair| pair.split_once("=\""));
            if let Some((_, text)) = pairs.find(|(its, _)| *its == label) {
                *sums.entry(text.trim_end_matches('"')).or_default() += value;
            }
        }
        sums
    }
}
