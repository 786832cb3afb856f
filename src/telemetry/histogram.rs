//! A histogram of durations. `prometheus_client`'s own takes a mutex for each observation (as of
//! 0.25.2), which workers would meet at; this one is two atomic adds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// Upper bounds in milliseconds, as OpenTelemetry's conventions have them for RPC and HTTP alike.
const BOUNDS: [u64; 14] = [
    5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000,
];

/// Durations, counted in buckets. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    /// One for each bound, and one for what is beyond them.
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// Enough for 584 years.
    sum_nanos: AtomicU64,
}

impl Histogram {
    pub(super) fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS
            .iter()
            .position(|bound| nanos <= bound * 1_000_000)
            .unwrap_or(BOUNDS.len());
        self.0.counts[bucket].fetch_add(1, Relaxed);
        self.0.sum_nanos.fetch_add(nanos, Relaxed);
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        // The encoder adds the buckets up.
        let bounds = BOUNDS
            .iter()
            .map(|&bound| Duration::from_millis(bound).as_secs_f64())
            .chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds
            .zip(self.0.counts.iter().map(|count| count.load(Relaxed)))
            .collect();
        let count = buckets.iter().map(|&(_, count)| count).sum();
        let sum = Duration::from_nanos(self.0.sum_nanos.load(Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    #[test]
    fn durations_fall_into_their_buckets() {
        let histogram = Histogram::default();
        let mut registry = Registry::default();
        registry.register("h", "Help", histogram.clone());
        for millis in [0, 5, 6, 10_000, 10_001] {
            histogram.observe(Duration::from_millis(millis));
        }

        let mut encoded = String::new();
        text::encode(&mut encoded, &registry).unwrap();

        for line in [
            "h_sum 20.012\n",
            "h_count 5\n",
            "h_bucket{le=\"0.005\"} 2\n",
            "h_bucket{le=\"0.01\"} 3\n",
            "h_bucket{le=\"10.0\"} 4\n",
            "h_bucket{le=\"+Inf\"} 5\n",
        ] {
            assert!(encoded.contains(line), "{line} in {encoded}");
        }
    }
}
