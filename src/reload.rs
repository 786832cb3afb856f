//! Values that are read from files, and read again when the files change, without a restart.
//!
//! By looking at the files' content again and again, and not by being told of changes: Kubernetes
//! swaps a symlink above the directory, network file systems tell nothing, and a watch that was lost
//! is noticed when the certificate has expired. These are a few small files.

use std::{
    collections::hash_map::DefaultHasher,
    fmt::Display,
    fs::File,
    hash::{Hash as _, Hasher as _},
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    task::{AbortHandle, spawn_blocking},
    time::sleep,
};
use tracing::{error, info};

use crate::telemetry::{Secret, Secrets};

/// The time between looks, where nothing else is said.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Bytes that a file may have.
const MAX_SIZE: u64 = 1 << 20;

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
    following: Option<AbortHandle>,
}

impl<T> Reloaded<T> {
    /// One that no file changes.
    pub fn fixed(value: T) -> Self {
        Self {
            current: Arc::new(ArcSwap::from_pointee(value)),
            following: None,
        }
    }

    /// The value in use.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        self.current.load_full()
    }
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Reads the files, and again whenever they have changed, for as long as this lives. What can't
    /// be read then leaves the value as it was. Runs on the caller's runtime.
    pub fn follow<E: Display + Send + 'static>(
        files: Files,
        read: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        // First, so that a change while they are read is seen as one.
        let seen = fingerprint(&files.paths);
        let current = Arc::new(ArcSwap::from_pointee(read()?));
        files.metrics.loaded(files.secret);
        let following = tokio::spawn(files.follow(seen, Arc::clone(&current), Arc::new(read)));
        Ok(Self {
            current,
            following: Some(following.abort_handle()),
        })
    }
}

impl<T> Drop for Reloaded<T> {
    fn drop(&mut self) {
        if let Some(following) = &self.following {
            following.abort();
        }
    }
}

impl Files {
    async fn follow<T: Send + Sync + 'static, E: Display + Send + 'static>(
        self,
        mut seen: u64,
        current: Arc<ArcSwap<T>>,
        read: Arc<impl Fn() -> Result<T, E> + Send + Sync + 'static>,
    ) {
        loop {
            sleep(self.interval).await;
            let (paths, read) = (self.paths.clone(), Arc::clone(&read));
            // No worker waits for a file system.
            let look = move || {
                let now = fingerprint(&paths);
                (now, (now != seen).then(|| read()))
            };
            let Ok((now, read)) = spawn_blocking(look).await else {
                continue; // The runtime shuts down, and this task with it.
            };
            // Also of files that can't be used: told once, and looked at again when they change.
            seen = now;
            let secret = self.secret.name();
            match read {
                None => {}
                Some(Ok(value)) => {
                    current.store(Arc::new(value));
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

/// The content of a file that is small by its nature. What is beyond [`MAX_SIZE`] is not even looked at:
/// all of it would be in memory, every second.
pub fn read(file: &Path) -> Result<Vec<u8>, &'static str> {
    let mut content = Vec::new();
    let read = File::open(file).and_then(|file| file.take(MAX_SIZE + 1).read_to_end(&mut content));
    match read {
        Err(_) => Err("can't be read"),
        Ok(_) if content.len() as u64 > MAX_SIZE => Err("is larger than 1 MiB"),
        Ok(_) => Ok(content),
    }
}

/// Stands for the content of the files, or for which of them can't be read.
fn fingerprint(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        read(file).hash(&mut hasher);
    }
    hasher.finish()
}
