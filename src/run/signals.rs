//! The signals that end a process, and the one that does not.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

/// Ready when the process is told to stop. From then on a second signal ends it at once.
pub(super) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            info!("SIGHUP: nothing to do; changed files are read again without a signal");
        }
    });
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "told twice: at once, drained or not"
            )]
            std::process::exit(1);
        });
    })
}
