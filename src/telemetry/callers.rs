//! Calls by caller, where a file names the callers: an open set of names is no set of labels.

use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::{
    callers::{Caller, Rules},
    error::{Kind, Refusal},
};

type ByCaller = Family<[(&'static str, Arc<str>); 1], Counter>;
type ByReason = Family<(CallerLabel, [(&'static str, &'static str); 1]), Counter>;
type CallerLabel = [(&'static str, Arc<str>); 1];

/// Calls by caller.
#[derive(Clone, Debug, Default)]
pub struct CallerMetrics {
    calls: ByCaller,
    refusals: ByReason,
    rules: Arc<ArcSwap<Rules>>,
}

/// Refusals that are about the caller: there from the start, so that the first one is an increase.
const OWN: [Refusal; 2] = [Refusal::CallerNotAllowed, Refusal::CallerQuotaSpent];

impl CallerMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "caller_calls",
            "Calls of a caller of --callers-file, by the name of its entry",
            metrics.calls.clone(),
        );
        registry.register(
            "caller_refusals",
            "Calls of a caller of --callers-file that the gateway refused, with nothing sent to OnboardFlow",
            metrics.refusals.clone(),
        );
        metrics
    }

    /// Has a series for each caller of these rules, and none for others.
    pub fn hold_to(&self, rules: &Arc<Rules>) {
        let has = |name: &Arc<str>| rules.named().any(|entry| entry.name == *name);
        for old in self.rules.swap(Arc::clone(rules)).named() {
            if !has(&old.name) {
                self.forget(&old.name);
            }
        }
        for entry in rules.named() {
            drop(self.calls.get_or_create(&label(&entry.name)));
            for refusal in OWN {
                drop(self.refusals.get_or_create(&refused(&entry.name, refusal)));
            }
        }
    }

    /// The rules in force, where they are a file's.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Counts a call that is over.
    pub(crate) fn ended(&self, caller: &Caller, failure: Option<Kind>) {
        let Some(name) = caller.label() else { return };
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
