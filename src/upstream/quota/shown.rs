//! What an operator sees of the quota.

use std::{fmt, sync::Weak, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};
use tokio::time::Instant;

use super::{Allotment, DAY, Key, Quota, Shared};

/// Shows what is left at each scrape: a gauge that calls set would be missing before the first one,
/// and show yesterday's count until the day's first one. Callers' own keys have no names to show.
#[derive(Debug)]
pub(in super::super) struct Left(pub(in super::super) Weak<Shared>);

impl Collector for Left {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Some(shared) = self.0.upgrade() else {
            return Ok(());
        };
        let mut family = encoder.encode_descriptor(
            "onboardflow_gateway_upstream_quota_left",
            "Calls that --daily-quota leaves a key today, as this instance, or the ledger, counts them",
            None,
            MetricType::Gauge,
        )?;
        let keys = shared.keys.named();
        for key in &keys {
            let Some(left) = shared.quota.left(key) else {
                continue;
            };
            ConstGauge::new(left).encode(family.encode_family(&[("key", &*key.name)])?)?;
        }
        let mut family = encoder.encode_descriptor(
            "onboardflow_gateway_upstream_quota_spent_seconds",
            "How long calls with a key will be refused, because OnboardFlow's limit is reached",
            None,
            MetricType::Gauge,
        )?;
        for key in &keys {
            let spent = ConstGauge::new(shared.quota.spent_for(key).as_secs());
            spent.encode(family.encode_family(&[("key", &*key.name)])?)?;
        }
        let mut family = encoder.encode_descriptor(
            "onboardflow_gateway_upstream_quota",
            "Calls that --daily-quota allows a key a day",
            None,
            MetricType::Gauge,
        )?;
        for (key, daily) in keys.iter().zip(std::iter::repeat(shared.quota.daily)) {
            let Some(daily) = daily else { break };
            ConstGauge::new(daily).encode(family.encode_family(&[("key", &*key.name)])?)?;
        }
        left_of_callers(&shared, encoder)
    }
}

fn left_of_callers(shared: &Shared, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
    let (rules, daily) = (
        shared.callers.rules(),
        shared.quota.daily.unwrap_or_default(),
    );
    let mut family = encoder.encode_descriptor(
        "onboardflow_gateway_caller_quota_left",
        "Calls that a caller's daily_share leaves it today, as this instance counts them",
        None,
        MetricType::Gauge,
    )?;
    for key in shared.keys.named() {
        for entry in rules.named() {
            let Some(allotment) = entry.allotment(daily) else {
                continue;
            };
            let left = shared.quota.left_of(&key, &allotment);
            let labels = [("caller", &*entry.name), ("key", &*key.name)];
            ConstGauge::new(left).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

impl Quota {
    /// Calls that `--daily-quota` leaves a key today.
    pub(super) fn left(&self, key: &Key) -> Option<u64> {
        let today = self.seconds() / DAY;
        let keys = self.keys();
        let calls = match keys.get(&key.id) {
            Some(account) if account.day == today => account.calls,
            Some(_) | None => 0,
        };
        Some(self.daily?.saturating_sub(calls))
    }

    /// Calls that a share leaves its callers today, with this key.
    pub(super) fn left_of(&self, key: &Key, allotment: &Allotment) -> u64 {
        let today = self.seconds() / DAY;
        let keys = self.keys();
        let account = keys.get(&key.id).filter(|account| account.day == today);
        let used = account.map_or(0, |account| account.used_by(&allotment.owner));
        allotment.calls.saturating_sub(used)
    }

    /// How long calls with this key will be refused.
    fn spent_for(&self, key: &Key) -> Duration {
        let now = self.seconds();
        let keys = self.keys();
        let Some(account) = keys.get(&key.id) else {
            return Duration::ZERO;
        };
        let said = account.spent.map_or(Duration::ZERO, |spent| {
            spent.until.saturating_duration_since(Instant::now())
        });
        let counted = account.day == now / DAY && self.daily.is_some_and(|d| account.calls >= d);
        let until_midnight = Duration::from_secs(DAY - now % DAY);
        said.max(if counted {
            until_midnight
        } else {
            Duration::ZERO
        })
    }
}
