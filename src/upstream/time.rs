//! Time limits that may be missing. Know no call.

use tokio::time::{Instant, timeout_at};

/// What comes of a future, or `None` once it is `until`. Without a limit there is no timer to pay for.
///
/// A large future is best given by a pinned reference: what is passed by value is held twice.
pub(super) async fn within<F: Future>(until: Option<Instant>, future: F) -> Option<F::Output> {
    match until {
        None => Some(future.await),
        Some(until) => timeout_at(until, future).await.ok(),
    }
}
