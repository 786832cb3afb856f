//! Calls by caller, where a file names the callers: an open set of names is no set of labels.

use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::add;
use crate::{
    callers::{Caller, Rules},
    error::{Kind, Refusal},
};

type ByCaller = Family<[(&'static str, Arc<str>); 1], Counter>;
type ByReason = Family<(CallerLabel, [(&'static str, &'static str); 1]), Counter>;
type CallerLabel = [(&'static str, Arc<str>); 1];

/// Calls by caller.
#[derive(Clone, Debug)]
pub struct CallerMetrics {
    calls: ByCaller,
    refusals: ByReason,
    /// Locked while a series is made or forgotten: a call that ends under rules of yesterday must not bring
    /// back the series of a caller that is gone.
    rules: Arc<RwLock<Arc<Rules>>>,
}

/// Refusals that are about the caller: there from the start, so that the first one is an increase.
const OWN: [Refusal; 2] = [Refusal::CallerNotAllowed, Refusal::CallerQuotaSpent];

impl CallerMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            calls: add(
                registry,
                "caller_calls",
                "Calls of a caller of --callers-file, by the name of its entry",
            ),
            refusals: add(
                registry,
                "caller_refusals",
                "Calls of a caller of --callers-file that the gateway refused, with nothing sent to OnboardFlow",
            ),
            rules: Arc::default(),
        }
    }

    /// Has a series for each caller of these rules, and none for others.
    pub fn hold_to(&self, rules: &Arc<Rules>) {
        let has = |name: &Arc<str>| rules.named().any(|entry| entry.name == *name);
        let mut held = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        for old in held.named() {
            if !has(&old.name) {
                self.forget(&old.name);
            }
        }
        *held = Arc::clone(rules);
        for entry in rules.named() {
            drop(self.calls.get_or_create(&label(&entry.name)));
            for refusal in OWN {
                drop(self.refusals.get_or_create(&refused(&entry.name, refusal)));
            }
        }
    }

    /// The rules in force, where they are a file's.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        let held = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&held)
    }

    /// Counts a call that is over.
    pub(crate) fn ended(&self, caller: &Caller, failure: Option<Kind>) {
        let Some(name) = caller.label() else { return };
        let held = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        if !caller.is_held_to(&held) && !held.named().any(|entry| entry.name == *name) {
            return;
        }
        self.calls.get_or_create(&label(name)).inc();
        if let Some(Kind::Refused(refusal)) = failure {
            self.refusals.get_or_create(&refused(name, refusal)).inc();
        }
    }

    fn forget(&self, name: &Arc<str>) {
        self.calls.remove(&label(name));
        for refusal in Refusal::ALL {
            self.refusals.remove(&refused(name, refusal));
        }
    }
}

fn label(name: &Arc<str>) -> CallerLabel {
    [("caller", Arc::clone(name))]
}

fn refused(name: &Arc<str>, refusal: Refusal) -> (CallerLabel, [(&'static str, &'static str); 1]) {
    let reason = Kind::Refused(refusal).row().reason;
    (label(name), [("reason", reason)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callers::{Name, NameKind};

    #[test]
    fn a_caller_that_is_gone_has_no_series_whatever_ends_after_it() {
        let mut registry = Registry::default();
        let metrics = CallerMetrics::new(&mut registry);
        let rules = |name: &str| {
            let file = format!("[[caller]]\nname = \"{name}\"");
            Arc::new(Rules::parse(file.as_bytes(), &[], None).unwrap())
        };
        let caller = |rules: &Arc<Rules>, text: &str| {
            let (kind, text) = (NameKind::Dns, text.to_owned());
            rules.admit(&[Name { kind, text }]).unwrap()
        };
        let shown = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        let (old, new) = (rules("old"), rules("new"));
        metrics.hold_to(&old);
        let last = caller(&old, "old");
        metrics.ended(&last, None);
        assert!(shown().contains("caller_calls_total{caller=\"old\"} 1"));
        metrics.hold_to(&new);
        metrics.ended(&last, Some(Kind::Refused(Refusal::CallerNotAllowed)));
        assert!(!shown().contains("old"));
        metrics.ended(&caller(&new, "new"), None);
        assert!(shown().contains("caller_calls_total{caller=\"new\"} 1"));
    }
}
