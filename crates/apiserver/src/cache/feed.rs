//! Fills the cache from the store and keeps it current: one list, then one watch over everything.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use imbl::OrdMap;
use store::{Change, ListOptions, Revision, WatchItem};
use tokio_util::sync::CancellationToken;

use super::{Cache, Object, PREFIX, Shelf};

const PAGE: usize = 500;

impl Cache {
    /// Loads everything; afterwards reads are answered.
    pub async fn load(&self) -> store::Result<Revision> {
        let mut loaded: HashMap<Arc<str>, OrdMap<Arc<str>, Arc<Object>>> = HashMap::new();
        let mut options = ListOptions { prefix: PREFIX.into(), limit: PAGE, ..ListOptions::default() };
        let revision = loop {
            let page = self.store.list(options.clone()).await?;
            for entry in &page.entries {
                let Some((shelf, key)) = self.place(&entry.key) else { continue };
                if let Some(object) = decode(&shelf, key, entry.modified, &entry.value) {
                    let objects = loaded.entry(shelf.resource.storage.clone()).or_default();
                    objects.insert(object.key.clone(), Arc::new(object));
                }
            }
            match page.entries.last() {
                Some(last) if page.remaining > 0 => {
                    options.after = Some(last.key.to_string());
                    options.at = Some(page.revision);
                }
                _ => break page.revision,
            }
        };
        let shelves: Vec<Arc<Shelf>> = self.shelves.read().values().cloned().collect();
        for shelf in shelves {
            shelf.replace(loaded.remove(&shelf.resource.storage).unwrap_or_default(), revision);
        }
        self.revision.send_replace(revision);
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
        type Changes = Vec<(Revision, Arc<str>, Option<Object>)>;
        let mut batches: Vec<(Arc<Shelf>, Changes)> = Vec::new();
        for event in events {
            let Some((shelf, key)) = self.place(&event.key) else { continue };
            let change = match event.change {
                Change::Delete => (event.revision, key.into(), None),
                Change::Put { value, .. } => match decode(&shelf, key, event.revision, &value) {
                    Some(object) => (event.revision, object.key.clone(), Some(object)),
                    None => continue,
                },
            };
            match batches.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &shelf)) {
                Some((_, changes)) => changes.push(change),
                None => batches.push((shelf, vec![change])),
            }
        }
        for (shelf, changes) in batches {
            shelf.apply(changes);
        }
    }
}

/// A value that cannot be read is reported and left where it is; the other objects are served.
fn decode(shelf: &Shelf, key: &str, revision: Revision, value: &Bytes) -> Option<Object> {
    match Object::new(&shelf.resource, shelf.fields, key, revision, value) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(%error, "a stored object cannot be read; it is not served until it is replaced or deleted");
            None
        }
    }
}
