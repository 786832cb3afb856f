//! What an operator sees of the quota. Decides nothing.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};

use super::{Allotment, Key, Quota, Shared, account_of, asked};

/// Shows the quota at each scrape: a gauge that calls set would be missing before the first one, and
/// show yesterday's count until the day's first one. Callers' own keys have no names to show.
#[derive(Debug)]
pub(in super::super) struct Shown(pub(in super::super) Weak<Shared>);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Some(shared) = self.0.upgrade() else {
            return Ok(());
        };
        let (keys, quota) = (shared.keys.named(), &shared.quota);
        let mut show = |name, help, value: &dyn Fn(&Key) -> Option<u64>| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for key in &keys {
                let Some(value) = value(key) else { continue };
                let labels = [("key", &*key.name)];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
            Ok(())
        };
        // OnboardFlow's word counts without --daily-quota, too.
        show(
            "onboardflow_gateway_upstream_quota_spent_seconds",
            "How long calls with a key will be refused, because OnboardFlow's limit is reached",
            &|key| Some(quota.spent_for(key).as_secs()),
        )?;
        show(
            "onboardflow_gateway_upstream_quota_left",
            "Calls that --daily-quota leaves a key today, as this instance, or the ledger, counts them",
            &|key| quota.left(key),
        )?;
        show(
            "onboardflow_gateway_upstream_quota",
            "Calls that --daily-quota allows a key a day",
            &|_| quota.daily,
        )?;
        shares_of_callers(&shared, encoder)
    }
}

fn shares_of_callers(shared: &Shared, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
    let (rules, quota) = (shared.callers.rules(), &shared.quota);
    let Some(daily) = quota.daily else {
        return Ok(());
    };
    let mut divided = Vec::new();
    for key in shared.keys.named() {
        for entry in rules.named() {
            if let Some(allotment) = entry.allotment(daily) {
                let left = quota.left_of(&key, &allotment);
                divided.push((
                    Arc::clone(&entry.name),
                    Arc::clone(&key.name),
                    allotment.calls,
                    left,
                ));
            }
        }
    }
    let mut show = |name, help, value: fn((u64, u64)) -> u64| {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (caller, key, calls, left) in &divided {
            let labels = [("caller", &**caller), ("key", &**key)];
            let value = ConstGauge::new(value((*calls, *left)));
            value.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    };
    show(
        "onboardflow_gateway_caller_quota",
        "Calls that a caller's daily_share allows it a day, with an API key",
        |(calls, _)| calls,
    )?;
    show(
        "onboardflow_gateway_caller_quota_left",
        "Calls that a caller's daily_share leaves it today, as this instance, or the ledger, counts them",
        |(_, left)| left,
    )
}

impl Quota {
    /// Calls that `--daily-quota` leaves a key today.
    pub(super) fn left(&self, key: &Key) -> Option<u64> {
        let calls = self.counter.calls(&account_of(key));
        Some(self.daily?.saturating_sub(calls))
    }

    /// Calls that a share leaves its callers today, with this key.
    fn left_of(&self, key: &Key, allotment: &Allotment) -> u64 {
        let asked = asked(key, allotment);
        asked
            .daily
            .saturating_sub(self.counter.calls(&asked.account))
    }

    /// How long calls with this key will be refused.
    fn spent_for(&self, key: &Key) -> Duration {
        let said = self.refused.left(&account_of(key));
        if self.left(key) == Some(0) {
            said.max(self.until_midnight())
        } else {
            said
        }
    }
}
