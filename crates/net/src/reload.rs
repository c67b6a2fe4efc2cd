//! Something made of files, made anew when they change: certificates and tokens are rotated under running processes.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::tls::{Pem, TlsError};

/// How old what is served may be after a file changed.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(10);

type Make<T> = dyn Fn() -> Result<T, TlsError> + Send + Sync;

pub(crate) struct Reloading<T> {
    current: ArcSwap<T>,
    sources: Vec<Pem>,
    make: Box<Make<T>>,
    checked: Mutex<Checked>,
}

struct Checked {
    at: Instant,
    stamps: Vec<Option<Stamp>>,
}

/// What changes with a file's content. A file that is replaced by renaming has a new time as well.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: metadata.modified().ok(), length: metadata.len() })
}

fn stamps(sources: &[Pem]) -> Vec<Option<Stamp>> {
    sources.iter().map(|source| source.path().and_then(stamp)).collect()
}

impl<T> Reloading<T> {
    pub fn new(
        sources: Vec<Pem>,
        make: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        // The stamps come first: a change while the files are read is seen at the next check.
        let checked = Checked { at: Instant::now(), stamps: stamps(&sources) };
        let current = ArcSwap::from_pointee(make()?);
        Ok(Reloading { current, sources, make: Box::new(make), checked: Mutex::new(checked) })
    }

    /// Looks at the files at most every ten seconds. Files that cannot be used leave what there is in place, are logged,
    /// and are tried again.
    pub fn current(&self) -> Arc<T> {
        self.current_within(CHECK_EVERY)
    }

    pub fn current_within(&self, age: Duration) -> Arc<T> {
        // Whoever finds another one checking takes what there is.
        let Some(mut checked) = self.checked.try_lock() else { return self.current.load_full() };
        if checked.at.elapsed() < age {
            return self.current.load_full();
        }
        checked.at = Instant::now();
        let now = stamps(&self.sources);
        if now != checked.stamps {
            match (self.make)() {
                Ok(made) => {
                    checked.stamps = now;
                    self.current.store(Arc::new(made));
                    tracing::info!(files = ?self.sources, "reloaded");
                }
                Err(error) => tracing::error!(%error, "cannot reload, keeping what there is"),
            }
        }
        self.current.load_full()
    }
}
