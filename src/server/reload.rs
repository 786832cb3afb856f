//! Takes up files that change, without a restart.
//!
//! By looking at their content again and again, and not by being told of changes: Kubernetes swaps a
//! symlink above the directory, network file systems tell nothing, and a watch that was lost is
//! noticed when the certificate has expired. These are a few small files.

use std::{
    collections::hash_map::DefaultHasher,
    fmt::Display,
    fs,
    hash::{Hash as _, Hasher as _},
    path::PathBuf,
    time::Duration,
};

use tokio::{task::spawn_blocking, time::sleep};
use tracing::{error, info};

use super::counters::Reloads;

/// Files whose changes are taken up.
#[derive(Debug)]
pub(super) struct Followed {
    what: &'static str,
    files: Vec<PathBuf>,
    seen: u64,
}

impl Followed {
    /// Files that are about to be loaded for the first time.
    pub(super) fn new(what: &'static str, files: Vec<PathBuf>) -> Self {
        let seen = fingerprint(&files);
        Self { what, files, seen }
    }

    /// Calls `load` when the files have changed. What it can't load stays as it was until they
    /// change again. Never ends.
    pub(super) async fn follow<E: Display>(
        mut self,
        interval: Duration,
        reloads: &Reloads,
        load: impl Fn() -> Result<(), E>,
    ) {
        loop {
            sleep(interval).await;
            let files = self.files.clone();
            let Ok(now) = spawn_blocking(move || fingerprint(&files)).await else {
                return; // The runtime is shutting down.
            };
            if now == self.seen {
                continue;
            }
            self.seen = now;
            match load() {
                Ok(()) => {
                    reloads.count_succeeded();
                    info!(what = self.what, "changed files were taken up");
                }
                Err(error) => {
                    reloads.count_failed();
                    error!(what = self.what, %error, "changed files are unusable; the old ones stay in use");
                }
            }
        }
    }
}

/// Stands for the content of the files, or for which of them can't be read.
fn fingerprint(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        fs::read(file).ok().hash(&mut hasher);
    }
    hasher.finish()
}
