//! Metrics by OTLP, beside `/metrics` and from the same instruments: what a scrape would read is sent to a
//! collector every minute, or as often as the environment says.
//!
//! The SDK's own instruments would be a second set of the same numbers. So this takes a snapshot of the
//! registry, and writes it in OTLP's words: a counter is a monotonic sum, names and labels stay as they are, and
//! `service.name` and the rest of the resource are those of the spans.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point::Value as Number,
    },
    resource::v1::Resource,
};
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::{
    self as prometheus, LabelPair,
};
use prost::Message as _;
use reqwest::{blocking::Client, header::CONTENT_TYPE};
use tracing::{info, warn};
use url::Url;

use super::{Metrics, traces};
use crate::{config::MetricsExport, error::Source};

/// Sends metrics until it is told to stop.
#[derive(Debug)]
pub struct Exporting {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Exporting {
    /// Sends these metrics from a thread of its own. Blocks, so no runtime may call it.
    pub fn start(config: MetricsExport, metrics: Metrics) -> Result<Self, Source> {
        let client = Client::builder()
            .timeout(config.timeout)
            .default_headers(config.headers)
            .build()?;
        let (stop, stopped) = mpsc::channel();
        let sender = Sender {
            client,
            endpoint: config.endpoint,
            metrics,
            resource: resource(),
            started: now(),
        };
        let thread = thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || sender.run(config.interval, &stopped))?;
        Ok(Self { stop, thread })
    }

    /// Sends what there is, once more. Blocks, for as long as the environment lets an export take.
    pub fn stop(self) {
        drop(self.stop);
        // A panic there was logged by the hook.
        let _ = self.thread.join();
    }
}

struct Sender {
    client: Client,
    endpoint: Url,
    metrics: Metrics,
    resource: Resource,
    /// In nanoseconds since the epoch.
    started: u64,
}

impl Sender {
    fn run(&self, interval: Duration, stopped: &mpsc::Receiver<()>) {
        let mut is_failing = false;
        loop {
            let is_last = stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout);
            let sent = self.send();
            // Once, and not each minute of an outage.
            match &sent {
                Ok(()) if is_failing => info!("metrics are sent again"),
                Err(error) if !is_failing => warn!(%error, "metrics can't be sent"),
                Ok(()) | Err(_) => {}
            }
            is_failing = sent.is_err();
            if is_last {
                return;
            }
        }
    }

    fn send(&self) -> Result<(), Source> {
        let request = self.request()?;
        let response = self
            .client
            .post(self.endpoint.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(request.encode_to_vec())
            .send()
            .map_err(reqwest::Error::without_url)?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("the collector answered with status {}", status.as_u16()).into()),
        }
    }

    fn request(&self) -> Result<ExportMetricsServiceRequest, Source> {
        let times = Times {
            started: self.started,
            now: now(),
        };
        let families = self.metrics.snapshot()?;
        let scope = ScopeMetrics {
            scope: Some(InstrumentationScope {
                name: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..InstrumentationScope::default()
            }),
            metrics: families
                .into_iter()
                .filter_map(|family| times.metric(family))
                .collect(),
            ..ScopeMetrics::default()
        };
        Ok(ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![scope],
                ..ResourceMetrics::default()
            }],
        })
    }
}

/// When a series began, and when it was read, in nanoseconds since the epoch.
#[derive(Clone, Copy)]
struct Times {
    started: u64,
    now: u64,
}

impl Times {
    /// A family in OTLP's words, unless there is nothing in it.
    fn metric(self, family: prometheus::MetricFamily) -> Option<Metric> {
        let series = || family.metric.iter();
        let counters: Vec<_> = series()
            .filter_map(|one| Some(self.number(&one.label, one.counter.as_ref()?.value)))
            .collect();
        let gauges: Vec<_> = series()
            .filter_map(|one| Some(self.number(&one.label, one.gauge.as_ref()?.value)))
            .collect();
        let histograms: Vec<_> = series()
            .filter_map(|one| Some(self.histogram(&one.label, one.histogram.as_ref()?)))
            .collect();
        let aggregation_temporality = AggregationTemporality::Cumulative.into();
        let data = if !counters.is_empty() {
            Data::Sum(Sum {
                data_points: counters,
                aggregation_temporality,
                is_monotonic: true,
            })
        } else if !gauges.is_empty() {
            Data::Gauge(Gauge {
                data_points: gauges,
            })
        } else if !histograms.is_empty() {
            Data::Histogram(Histogram {
                data_points: histograms,
                aggregation_temporality,
            })
        } else {
            return None;
        };
        Some(Metric {
            name: family.name,
            description: family.help,
            unit: unit(&family.unit).to_owned(),
            data: Some(data),
            ..Metric::default()
        })
    }

    fn number(self, labels: &[LabelPair], value: f64) -> NumberDataPoint {
        NumberDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: self.started,
            time_unix_nano: self.now,
            value: Some(Number::AsDouble(value)),
            ..NumberDataPoint::default()
        }
    }

    fn histogram(
        self,
        labels: &[LabelPair],
        histogram: &prometheus::Histogram,
    ) -> HistogramDataPoint {
        let is_finite = |bucket: &&prometheus::Bucket| bucket.upper_bound.is_finite();
        let buckets: Vec<_> = histogram.bucket.iter().filter(is_finite).collect();
        let up_to = buckets.iter().map(|bucket| bucket.cumulative_count);
        // OTLP counts each bucket by itself, and what is beyond the last bound in one without.
        let below = std::iter::once(0).chain(up_to.clone());
        let counts = up_to.chain([histogram.sample_count]).zip(below);
        HistogramDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: self.started,
            time_unix_nano: self.now,
            count: histogram.sample_count,
            sum: Some(histogram.sample_sum),
            bucket_counts: counts
                .map(|(up_to, below)| up_to.saturating_sub(below))
                .collect(),
            explicit_bounds: buckets.iter().map(|bucket| bucket.upper_bound).collect(),
            ..HistogramDataPoint::default()
        }
    }
}

/// A unit as UCUM writes it, which OTLP asks for.
fn unit(name: &str) -> &str {
    match name {
        "seconds" => "s",
        "bytes" => "By",
        name => name,
    }
}

fn attributes(labels: &[LabelPair]) -> Vec<KeyValue> {
    let labels = labels.iter();
    labels
        .map(|label| attribute(&label.name, &label.value))
        .collect()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

fn resource() -> Resource {
    let resource = traces::resource();
    let pairs = resource.iter();
    Resource {
        attributes: pairs
            .map(|(key, value)| attribute(key.as_str(), &value.as_str()))
            .collect(),
        ..Resource::default()
    }
}

fn now() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "OTLP is in Unix time")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
