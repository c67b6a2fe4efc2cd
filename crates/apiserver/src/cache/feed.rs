//! Fills the cache from the store and keeps it current: one list, then one watch over everything.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::StreamExt;
use imbl::OrdMap;
use store::{Change, Entry, ListOptions, Revision, Store, WatchItem};
use tokio_util::sync::CancellationToken;

use api::Resource;

use super::{
    Cache, LEASES, Object, PREFIX, Shelf,
    object::BadValue,
    place,
    shelf::{Applied, Snapshot},
};

const PAGE: usize = 500;

/// How many revisions before the newest a server that starts begins, where the store still has them: watchers that come from
/// another server, or from this one before it was restarted, go on without a gap.
const HISTORY: u64 = 5000;

impl Cache {
    /// Loads everything as it was some time ago, if the store knows. What has happened since is told by following the store
    /// from the revision that this gives; when [`wait_until_current`](Cache::wait_until_current) is done, it has been.
    pub async fn load_history(&self) -> store::Result<Revision> {
        let newest = self.store.revision().await?;
        match self.load_at(Some(Revision(newest.0.saturating_sub(HISTORY).max(1)))).await {
            Err(store::Error::Compacted { .. }) => self.load().await,
            loaded => loaded,
        }
    }

    /// Loads everything; afterwards reads are answered.
    pub async fn load(&self) -> store::Result<Revision> {
        self.load_at(None).await
    }

    async fn load_at(&self, at: Option<Revision>) -> store::Result<Revision> {
        let mut loaded: HashMap<Arc<str>, OrdMap<Arc<str>, Arc<Object>>> = HashMap::new();
        let revision = each_at(&*self.store, PREFIX, at, |entry| {
            let Some((shelf, key)) = place(&self.shelves.read(), &entry.key) else { return };
            let object = Object::loaded(&shelf.resource, &shelf.fields, key, entry.modified, &entry.value);
            if let Some(object) = readable(object) {
                let objects = loaded.entry(shelf.resource.storage.clone()).or_default();
                objects.insert(object.key.clone(), Arc::new(object));
            }
        })
        .await?;
        let shelves: Vec<Arc<Shelf>> = self.shelves.read().values().cloned().collect();
        for shelf in shelves {
            shelf.replace(loaded.remove(&shelf.resource.storage).unwrap_or_default(), revision);
        }
        self.revision.send_replace(revision);
        self.leases.send_modify(|count| *count += 1);
        Ok(revision)
    }

    /// Follows the store from `revision` until `cancel`; after a gap loads everything anew.
    pub async fn run(self: Arc<Self>, mut revision: Revision, cancel: CancellationToken) {
        let mut pause = Duration::from_millis(50);
        while !cancel.is_cancelled() {
            let follow = self.follow(&mut revision);
            let error = tokio::select! {
                _ = cancel.cancelled() => return,
                error = follow => error,
            };
            // The store is closed right behind the server that ends.
            if cancel.is_cancelled() {
                return;
            }
            tracing::warn!(%error, "watch on the store ended");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
            if matches!(error, store::Error::Compacted { .. } | store::Error::Lagged) {
                match self.load().await {
                    Ok(loaded) => revision = loaded,
                    Err(error) => tracing::warn!(%error, "loading the watch cache failed"),
                }
            } else if matches!(error, store::Error::Closed) {
                return;
            }
        }
    }

    async fn follow(&self, revision: &mut Revision) -> store::Error {
        let mut stream = match self.store.watch(PREFIX, *revision).await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        while let Some(item) = stream.next().await {
            match item {
                Ok(WatchItem::Events(events)) => {
                    *revision = events.last().map_or(*revision, |event| event.revision);
                    self.apply(events);
                }
                Ok(WatchItem::Progress(progress)) => *revision = progress.max(*revision),
                Err(error) => return error,
            }
            self.revision.send_if_modified(|published| {
                let newer = *revision > *published;
                *published = (*published).max(*revision);
                newer
            });
        }
        store::Error::Closed
    }

    fn apply(&self, events: Vec<store::Event>) {
        // While a shelf opens, it gets its events too; it must not take its place between two of them.
        let opening = self.opening.read();
        let mut batches: Vec<(Arc<Shelf>, Vec<Applied>)> = Vec::new();
        for event in &events {
            let opening = if opening.is_empty() { None } else { place(&opening, &event.key) };
            for (shelf, key) in place(&self.shelves.read(), &event.key).into_iter().chain(opening) {
                let Some(change) = change(&shelf, key, event) else { continue };
                match batches.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &shelf)) {
                    Some((_, changes)) => changes.push(change),
                    None => batches.push((shelf, vec![change])),
                }
            }
        }
        for (shelf, changes) in batches {
            shelf.apply(changes);
        }
        if events.iter().any(is_lease_change) {
            self.leases.send_modify(|count| *count += 1);
        }
    }

    /// Begins to serve the objects of a resource: those that are stored already are there when this is done. In the place of
    /// a shelf with the same storage path, whose watchers are then sent away.
    pub async fn open(&self, resource: Arc<Resource>) -> store::Result<()> {
        let shelf = Arc::new(Shelf::opening(resource.clone()));
        let key = resource.storage.clone();
        self.opening.write().insert(key.clone(), shelf.clone());
        let listed = self.list(&shelf, None).await;
        let mut opening = self.opening.write();
        opening.remove(&key);
        let (objects, revision) = listed?;
        shelf.fill(objects, revision);
        let former = self.shelves.write().insert(key, shelf);
        drop(opening);
        former.into_iter().for_each(|former| former.close());
        Ok(())
    }

    /// Ends what [`open`](Self::open) began.
    pub fn close(&self, storage: &str) {
        let former = self.shelves.write().remove(storage);
        former.into_iter().for_each(|former| former.close());
    }

    /// A resource's objects as they were at `revision`, which is not after what this cache has seen.
    pub async fn view_at(&self, shelf: &Shelf, revision: Revision) -> store::Result<Snapshot> {
        let (objects, revision) = self.list(shelf, Some(revision)).await?;
        Ok(Snapshot { objects, revision })
    }

    async fn list(
        &self,
        shelf: &Shelf,
        at: Option<Revision>,
    ) -> store::Result<(OrdMap<Arc<str>, Arc<Object>>, Revision)> {
        let prefix = shelf.resource.storage_prefix();
        let mut objects = OrdMap::new();
        let revision = each_at(&*self.store, &prefix, at, |entry| {
            let key = entry.key.strip_prefix(&*prefix).unwrap_or_default();
            let object = Object::loaded(&shelf.resource, &shelf.fields, key, entry.modified, &entry.value);
            if let Some(object) = readable(object) {
                objects.insert(object.key.clone(), Arc::new(object));
            }
        })
        .await?;
        Ok((objects, revision))
    }
}

/// Goes through all that a store has under `prefix` at one revision, which it gives.
pub(crate) async fn each(store: &dyn Store, prefix: &str, visit: impl FnMut(&Entry)) -> store::Result<Revision> {
    each_at(store, prefix, None, visit).await
}

/// The same at a given revision.
async fn each_at(
    store: &dyn Store,
    prefix: &str,
    at: Option<Revision>,
    mut visit: impl FnMut(&Entry),
) -> store::Result<Revision> {
    let mut options = ListOptions { prefix: prefix.to_owned(), limit: PAGE, at, ..ListOptions::default() };
    loop {
        let page = store.list(options.clone()).await?;
        page.entries.iter().for_each(&mut visit);
        match page.entries.last() {
            Some(last) if page.remaining > 0 => {
                options.after = Some(last.key.to_string());
                options.at = Some(page.revision);
            }
            _ => return Ok(page.revision),
        }
    }
}

fn is_lease_change(event: &store::Event) -> bool {
    let comes_or_goes = match &event.change {
        Change::Delete => true,
        Change::Put { created, .. } => *created == event.revision,
    };
    comes_or_goes && event.key.starts_with(LEASES)
}

fn change(shelf: &Shelf, key: &str, event: &store::Event) -> Option<Applied> {
    match &event.change {
        Change::Delete => Some((event.revision, key.into(), None)),
        Change::Put { value, .. } => {
            let object = readable(Object::new(&shelf.resource, &shelf.fields, key, event.revision, value))?;
            Some((event.revision, object.key.clone(), Some(object)))
        }
    }
}

/// A value that cannot be read is reported and left where it is; the other objects are served.
fn readable(object: Result<Object, BadValue>) -> Option<Object> {
    match object {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(%error, "a stored object cannot be read; it is not served until it is replaced or deleted");
            None
        }
    }
}
