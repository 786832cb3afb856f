//! What the listener counts, as metrics: read from its counters at each scrape.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use crate::server::{Closed, Counters};

/// Shows a listener's counters.
#[derive(Debug)]
pub struct Listener(pub Arc<Counters>);

const PREFIX: &str = "onboardflow_gateway";

impl Collector for Listener {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        self.connections(&mut encoder)
    }
}

impl Listener {
    fn connections(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let workers = || self.0.workers().iter().zip(0_u64..);
        let open = workers().map(|(worker, index)| {
            let labels = [("worker", index)];
            (labels, ConstGauge::new(worker.open()))
        });
        let name = format!("{PREFIX}_connections");
        family(encoder, &name, "Connections of callers that are open", open)?;
        let opened = workers().map(|(worker, index)| {
            let labels = [("worker", index)];
            (labels, ConstCounter::new(worker.opened()))
        });
        let name = format!("{PREFIX}_connections_opened");
        family(encoder, &name, "Connections that callers opened", opened)?;
        let closed = Closed::ALL.map(|why| {
            let labels = [("reason", why.as_str())];
            (labels, ConstCounter::new(self.0.closed(why)))
        });
        let name = format!("{PREFIX}_connections_closed");
        family(encoder, &name, "Connections that ended, by reason", closed)
    }
}

fn family<L, M>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = (L, M)>,
) -> Result<(), fmt::Error>
where
    L: prometheus_client::encoding::EncodeLabelSet,
    M: EncodeMetric,
{
    let mut series = series.into_iter().peekable();
    let Some((_, first)) = series.peek() else {
        return Ok(());
    };
    let kind = first.metric_type();
    let mut descriptor = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, metric) in series {
        metric.encode(descriptor.encode_family(&labels)?)?;
    }
    Ok(())
}
