//! What a gateway that serves does for its ledger by itself: it opens it, shows what is in it, and
//! forgets what is old.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::{Failure, Ledger, STORE_TIMEOUT, State};
use crate::{
    config::{LedgerConfig, Location},
    telemetry::Metrics,
};

/// The wait between looks for what is to be shown, and what is to be forgotten.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How old what is shown may be when somebody looks at it, so that many looks are one count.
const FRESH: Duration = Duration::from_secs(1);

impl Ledger {
    /// The ledger of a gateway that serves: it forgets by itself. A file that can't be opened is a
    /// mistake; a server may come back.
    pub async fn follow(config: &LedgerConfig, metrics: &Metrics) -> Result<Self, Failure> {
        let ledger = Self::new(&config.location, metrics.ledger())?;
        match (ledger.open().await, &config.location) {
            (Ok(()), _) => {}
            (Err(error), Location::Sqlite(_)) => {
                return Err(format!("--ledger: the file can't be used: {error}").into());
            }
            (Err(error), Location::Postgres(_)) => {
                warn!(%error, "the ledger can't be reached: calls with a request_id are refused");
            }
        }
        let (shared, retention) = (Arc::downgrade(&ledger.0), config.retention);
        tokio::spawn(async move {
            loop {
                let Some(ledger) = shared.upgrade().map(Self) else {
                    return;
                };
                let pruned = ledger.prune(retention).await;
                let shown = ledger.show().await;
                if let Err(error) = pruned.map(drop).and(shown) {
                    warn!(%error, "the ledger's upkeep failed");
                }
                drop(ledger);
                sleep(LOOK_EVERY).await;
            }
        });
        Ok(ledger)
    }

    /// Shows how many rows there are to somebody who looks now. Waits for the store for a short time; a
    /// store that is gone leaves what was shown before.
    pub async fn show_now(&self) {
        let mut counted = self.0.counted.lock().await;
        let is_fresh = counted.is_some_and(|counted| counted.elapsed() < FRESH);
        if !is_fresh && !self.seems_gone() {
            // The store's failures are in the metrics, and the upkeep logs them.
            let _ = timeout(STORE_TIMEOUT, self.show()).await;
            *counted = Some(Instant::now());
        }
    }

    /// Shows how many rows there are.
    async fn show(&self) -> Result<(), Failure> {
        let counts = self.count().await?;
        let metrics = &self.0.metrics;
        for (state, entries) in State::ALL.into_iter().zip(counts.entries) {
            metrics.entries(state.as_str(), entries);
        }
        let age = counts.oldest_unknown.unwrap_or_default();
        metrics.oldest_unknown(Duration::from_millis(age.try_into().unwrap_or_default()));
        Ok(())
    }
}
