//! Values that are read from files, and read again when the files change, without a restart.
//!
//! By looking at the files' content again and again, and not by being told of changes: Kubernetes
//! swaps a symlink above the directory, network file systems tell nothing, and a watch that was lost
//! is noticed when the certificate has expired. These are a few small files.

use std::{
    collections::hash_map::DefaultHasher,
    fmt::Display,
    hash::{Hash as _, Hasher as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

use crate::{
    files,
    telemetry::{Secret, Secrets},
};

/// The files of one secret.
#[derive(Debug)]
pub struct Files {
    /// What they hold.
    pub secret: Secret,
    /// Where they are.
    pub paths: Vec<PathBuf>,
    /// Time between looks.
    pub interval: Duration,
    /// Counts what becomes of them.
    pub metrics: Secrets,
}

/// A value that was read from files, as it is now.
#[derive(Debug)]
pub struct Reloaded<T> {
    current: Arc<ArcSwap<T>>,
    /// The task that changes it, where one does: it ends with this.
    _following: Option<AbortOnDropHandle<()>>,
}

impl<T> Reloaded<T> {
    /// One that no file changes.
    pub fn fixed(value: impl Into<Arc<T>>) -> Self {
        Self {
            current: Arc::new(ArcSwap::from(value.into())),
            _following: None,
        }
    }

    /// One that this task changes, until this is dropped.
    pub(crate) fn fed(current: Arc<ArcSwap<T>>, task: JoinHandle<()>) -> Self {
        Self {
            current,
            _following: Some(AbortOnDropHandle::new(task)),
        }
    }

    /// The value in use.
    pub fn get(&self) -> Arc<T> {
        self.current.load_full()
    }
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Reads the files, and again whenever they have changed, for as long as this lives. What can't
    /// be read then leaves the value as it was. Runs on the caller's runtime.
    pub fn follow<V: Into<Arc<T>> + Send + 'static, E: Display + Send + 'static>(
        files: Files,
        read: impl Fn() -> Result<V, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        // First, so that a change while they are read is seen as one.
        let seen = fingerprint(&files.paths);
        let current = Arc::new(ArcSwap::from(read()?.into()));
        files.metrics.loaded(files.secret);
        let following = tokio::spawn(files.follow(seen, Arc::clone(&current), Arc::new(read)));
        Ok(Self::fed(current, following))
    }
}

impl Files {
    async fn follow<T, V, E>(
        self,
        mut seen: u64,
        current: Arc<ArcSwap<T>>,
        read: Arc<impl Fn() -> Result<V, E> + Send + Sync + 'static>,
    ) where
        T: Send + Sync + 'static,
        V: Into<Arc<T>> + Send + 'static,
        E: Display + Send + 'static,
    {
        loop {
            sleep(self.interval).await;
            let (paths, read) = (self.paths.clone(), Arc::clone(&read));
            // No worker waits for a file system.
            let look = move || {
                let now = fingerprint(&paths);
                // Code of others parses what is in the files. A panic of it is told like any other
                // reason for which they can't be used.
                let read = (now != seen).then(|| catch_unwind(AssertUnwindSafe(|| read())));
                (now, read)
            };
            let Ok((now, read)) = spawn_blocking(look).await else {
                return; // The runtime shuts down.
            };
            let read = read.map(|read| match read {
                Ok(read) => read.map_err(|error| error.to_string()),
                Err(_panic) => Err("reading them panicked".to_owned()),
            });
            // Also of files that can't be used: told once, and looked at again when they change.
            seen = now;
            let secret = self.secret.name();
            match read {
                None => {}
                Some(Ok(value)) => {
                    current.store(value.into());
                    self.metrics.loaded(self.secret);
                    info!(secret, "changed files were taken up");
                }
                Some(Err(error)) => {
                    self.metrics.reload_failed(self.secret);
                    error!(secret, %error, "the changed files cannot be used; the old content stays in use");
                }
            }
        }
    }
}

/// Stands for the content of the files, or for which of them can't be read.
fn fingerprint(paths: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in paths {
        files::read(file).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[tokio::test]
    async fn a_panic_while_files_are_read_again_is_told_and_later_changes_are_taken_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "one").unwrap();
        let metrics = Metrics::new();
        let followed = Files {
            secret: Secret::Certificate,
            paths: vec![path.clone()],
            interval: Duration::from_millis(5),
            metrics: metrics.secrets.clone(),
        };
        let file = path.clone();
        let value: Reloaded<String> = Reloaded::follow(followed, move || {
            let text = std::fs::read_to_string(&file).unwrap();
            assert_ne!(text, "panic", "as a parser might");
            Ok::<_, String>(Arc::new(text))
        })
        .unwrap();
        let until = async |is: &dyn Fn() -> bool| {
            let waiting = async {
                while !is() {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), waiting)
                .await
                .unwrap();
        };
        std::fs::write(&path, "panic").unwrap();
        let stale = "onboardflow_gateway_secret_stale{secret=\"certificate\"} 1";
        until(&|| metrics.encode().unwrap().contains(stale)).await;
        assert_eq!(*value.get(), "one");
        std::fs::write(&path, "two").unwrap();
        until(&|| *value.get() == "two").await;
    }
}
