//! The end, in three steps that every connection of every worker hears of. Doesn't know what it ends.

use tokio_util::sync::CancellationToken;

/// The three steps. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals {
    /// Connections go away; calls in flight finish.
    pub(super) draining: CancellationToken,
    /// Calls in flight are answered with a failure, while there is time to.
    pub(super) over: CancellationToken,
    /// Everything is dropped.
    pub(super) ended: CancellationToken,
}
