//! The watch cache: the newest state of every stored resource as final bytes, fed by one watch on the store, and the
//! recent events for watchers. Reads and watches are served from here alone.
//!
//! One task applies the store's events in order: first to the shelf of their resource, then it publishes the revision.
//! Whoever reads the published revision before a shelf therefore sees everything up to it.

mod feed;
mod object;
mod shelf;

use std::{collections::HashMap, sync::Arc, time::Duration};

use api::Resource;
use parking_lot::RwLock;
use store::{Revision, Store};
use tokio::sync::watch;

pub(crate) use feed::each;
pub(crate) use object::stored_tree;
pub use object::{Object, stored_bytes};
pub use shelf::{Event, EventKind, Shelf, Snapshot, WatchCursor, frame};

/// Where every key of the API begins, as upstream lays its keys out.
pub const PREFIX: &str = "/registry/";

/// Where API servers keep their leases: no resource, but whoever keeps the endpoints wants to know when they change.
pub const LEASES: &str = "/registry/masterleases/";

type Shelves = HashMap<Arc<str>, Arc<Shelf>>;

pub struct Cache {
    store: Arc<dyn Store>,
    /// By the path below [`PREFIX`] under which a resource is stored.
    shelves: RwLock<Shelves>,
    /// Those that are being filled.
    opening: RwLock<Shelves>,
    revision: watch::Sender<Revision>,
    /// Counts how often a key under [`LEASES`] has come or gone.
    leases: watch::Sender<u64>,
}

/// The cache did not reach a revision in time.
#[derive(Debug, thiserror::Error)]
#[error("the watch cache is at revision {have}, {want} was not reached in time")]
pub struct Behind {
    pub have: Revision,
    pub want: Revision,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Behind(#[from] Behind),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Cache {
    /// An empty cache over `resources`; [`run`](Self::run) fills it and keeps it current.
    pub fn new(store: Arc<dyn Store>, resources: impl Iterator<Item = Arc<Resource>>) -> Arc<Cache> {
        let cache = Cache {
            store,
            shelves: RwLock::default(),
            opening: RwLock::default(),
            revision: watch::Sender::new(Revision(0)),
            leases: watch::Sender::new(0),
        };
        for resource in resources.filter(|resource| resource.is_stored() && resource.is_storage_version()) {
            cache.add_shelf(resource);
        }
        Arc::new(cache)
    }

    /// Several versions of a resource share the shelf of the version they are stored as.
    fn add_shelf(&self, resource: Arc<Resource>) -> Arc<Shelf> {
        let mut shelves = self.shelves.write();
        if let Some(shelf) = shelves.get(&resource.storage) {
            return shelf.clone();
        }
        let shelf = Arc::new(Shelf::new(resource.clone()));
        shelves.insert(resource.storage.clone(), shelf.clone());
        shelf
    }

    pub fn shelf(&self, resource: &Resource) -> Option<Arc<Shelf>> {
        self.shelves.read().get(&resource.storage).cloned()
    }

    /// The shelf of a storage path (`pods`, `services/specs`).
    pub fn shelf_at(&self, storage: &str) -> Option<Arc<Shelf>> {
        self.shelves.read().get(storage).cloned()
    }

    pub fn revision(&self) -> Revision {
        *self.revision.borrow()
    }

    /// Changes when an API server's lease has come or gone.
    pub fn leases(&self) -> watch::Receiver<u64> {
        self.leases.subscribe()
    }

    /// Answers once everything up to `want` can be read here.
    pub async fn wait_for(&self, want: Revision, patience: Duration) -> Result<(), Behind> {
        if self.revision() >= want {
            return Ok(());
        }
        let mut revision = self.revision.subscribe();
        let reached = tokio::time::timeout(patience, revision.wait_for(|have| *have >= want)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Behind { have: self.revision(), want }),
        }
    }

    /// Answers once everything that was acknowledged before the call can be read here: a linearizable read.
    pub async fn wait_until_current(&self) -> Result<(), ReadError> {
        let newest = self.store.revision().await?;
        Ok(self.wait_for(newest, Duration::from_secs(3)).await?)
    }

    /// A resource's objects and the revision that the view shows.
    pub fn view(&self, shelf: &Shelf) -> Snapshot {
        // The published revision first: see the module's comment.
        let published = self.revision();
        let mut snapshot = shelf.snapshot();
        snapshot.revision = snapshot.revision.max(published);
        snapshot
    }
}

/// The shelf that a key belongs to, and the object's part of the key.
fn place<'k>(shelves: &Shelves, key: &'k str) -> Option<(Arc<Shelf>, &'k str)> {
    let path = key.strip_prefix(PREFIX)?;
    let one = path.find('/')?;
    if let Some(two) = path[one + 1..].find('/').map(|at| at + one + 1)
        && let Some(shelf) = shelves.get(&path[..two])
    {
        return Some((shelf.clone(), &path[two + 1..]));
    }
    let shelf = shelves.get(&path[..one])?;
    Some((shelf.clone(), &path[one + 1..]))
}
