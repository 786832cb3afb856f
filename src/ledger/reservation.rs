//! A write that was reserved, until its outcome is written.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::warn;

use super::{
    Ledger, STORE_TIMEOUT,
    seal::{HASH, Seal},
    store::End,
    take::{Take, Taken},
};
use crate::{context::Progress, error::Sent};

/// Times that an outcome is tried to be written.
const TRIES: u32 = 6;
/// Work that may wait for a store. Beyond it an outcome is tried once.
const WAITING: usize = 4096;

/// A write that may be sent. Dropped, it ends by the evidence: free where nothing left, and of
/// unknown fate otherwise.
pub struct Reservation {
    pub(super) ledger: Ledger,
    pub(super) seal: Arc<Seal>,
    pub(super) token: i64,
    /// The call of the day that it asked for, as long as nobody knows whether it got it.
    pub(super) asked: Option<Take>,
    /// The call of the day that was taken with it.
    pub(super) taken: Option<Taken>,
    pub(super) progress: Progress,
    /// Whether there is, or may be, a row that waits for its outcome.
    pub(super) open: bool,
}

impl Reservation {
    /// It was applied, with this response if it could be read.
    pub async fn applied(self, response: Option<Vec<u8>>) {
        let sealed = response
            .map(|response| self.seal.seal(response))
            .transpose();
        // What can't be sealed can't be shown to anyone either.
        self.end(End::Applied(sealed.unwrap_or_default())).await;
    }

    /// Nobody knows what became of it.
    pub async fn unknown(self) {
        self.end(End::Unknown).await;
    }

    /// Nothing was applied: its id is free again.
    pub async fn free(self) {
        self.end(End::Free(None)).await;
    }

    /// The call of the day that was taken with it.
    pub fn taken(&self) -> Option<Taken> {
        self.taken
    }

    async fn end(mut self, end: End) {
        self.open = false;
        // The outcome is written whether or not its caller has the time to wait for that.
        let written = self.ledger.write(self.seal.id, self.token, end);
        let _ = timeout(STORE_TIMEOUT, written).await;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.open {
            let end = match self.progress.sent() {
                Sent::No => End::Free(self.asked),
                Sent::Maybe => End::Unknown,
            };
            drop(self.ledger.write(self.seal.id, self.token, end));
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").finish_non_exhaustive()
    }
}

impl Ledger {
    /// Writes how a reservation ended, and tries again where that fails.
    fn write(&self, id: [u8; HASH], token: i64, end: End) -> JoinHandle<()> {
        let shared = Arc::clone(&self.0);
        let tries = if shared.work.len() < WAITING {
            TRIES
        } else {
            1
        };
        let write = async move {
            let mut pause = Duration::from_millis(50);
            for _ in 0..tries {
                let written = timeout(STORE_TIMEOUT, shared.store.end(&id, token, &end)).await;
                match written.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
                    Ok(()) => return,
                    Err(error) => {
                        warn!(%error, "the ledger could not store the outcome of a write");
                    }
                }
                sleep(pause).await;
                pause *= 3;
            }
        };
        self.0.work.spawn_on(write, &self.0.runtime)
    }
}
