//! The views that paged lists continue on. A view is a few pointers into the cache's persistent map, so keeping one costs
//! only what has changed since.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use store::Revision;

use crate::cache::{Shelf, Snapshot};

/// How long a list may take from page to page; upstream's limit is etcd's compaction after five minutes.
const KEPT_FOR: Duration = Duration::from_secs(300);
const KEPT_MAX: usize = 256;

#[derive(Default)]
pub struct Pages {
    kept: Mutex<VecDeque<Kept>>,
}

struct Kept {
    storage: Arc<str>,
    snapshot: Snapshot,
    used: Instant,
}

impl Pages {
    /// Keeps `snapshot` for a list that goes on.
    pub fn keep(&self, shelf: &Shelf, snapshot: &Snapshot) {
        let mut kept = self.kept.lock();
        kept.retain(|entry| entry.used.elapsed() < KEPT_FOR);
        let same =
            |entry: &Kept| entry.storage == shelf.resource.storage && entry.snapshot.revision == snapshot.revision;
        if let Some(entry) = kept.iter_mut().find(|entry| same(entry)) {
            entry.used = Instant::now();
            return;
        }
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Kept {
            storage: shelf.resource.storage.clone(),
            snapshot: snapshot.clone(),
            used: Instant::now(),
        });
    }

    /// The view of `shelf` at exactly `revision`, if it is kept or still the newest.
    pub fn at(&self, shelf: &Shelf, revision: Revision) -> Option<Snapshot> {
        let newest = shelf.snapshot();
        if newest.revision <= revision {
            return Some(Snapshot { revision, ..newest });
        }
        let kept = self.kept.lock();
        kept.iter()
            .find(|entry| entry.storage == shelf.resource.storage && entry.snapshot.revision == revision)
            .map(|entry| entry.snapshot.clone())
    }
}
