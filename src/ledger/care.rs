//! What a gateway that serves does for its ledger by itself: it opens it, shows what is in it, and
//! forgets what is old.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::warn;

use super::{Failure, Ledger, Shared, State};
use crate::{
    config::{LedgerConfig, Location},
    telemetry::Metrics,
};

/// The wait between looks for what is to be shown, and what is to be forgotten.
const LOOK_EVERY: Duration = Duration::from_secs(15);

impl Ledger {
    /// The ledger of a gateway that serves: it forgets by itself. A file that can't be opened is a
    /// mistake; a server may come back.
    pub async fn follow(config: &LedgerConfig, metrics: &Metrics) -> Result<Self, Failure> {
        let ledger = Self::new(&config.location)?.shown_by(metrics);
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

    /// The same, with metrics.
    #[must_use]
    pub fn shown_by(self, metrics: &Metrics) -> Self {
        match Arc::try_unwrap(self.0) {
            Ok(shared) => Self(Arc::new(Shared {
                metrics: metrics.ledger(),
                ..shared
            })),
            Err(shared) => Self(shared),
        }
    }

    /// Shows how many rows there are.
    pub async fn show(&self) -> Result<(), Failure> {
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
