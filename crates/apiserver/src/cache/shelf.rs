//! One resource's part of the cache: the objects as an immutable map, and the recent events in a log that every watcher
//! reads at its own pace.

use std::{collections::VecDeque, ops::Bound, sync::Arc};

use api::Resource;
use arc_swap::ArcSwap;
use bytes::{BufMut, Bytes, BytesMut};
use imbl::OrdMap;
use parking_lot::RwLock;
use store::Revision;

use crate::strategy::Selectable;
use tokio::sync::watch;

use super::object::{Object, Once};

/// Events that are kept for watchers that start in the past, at most; their objects' bytes are bounded too.
const EVENTS_MAX: usize = 4096;
const EVENT_BYTES_MAX: usize = 4 << 20;
/// However large the objects, so many stay, or a watcher could never follow a burst.
const EVENTS_MIN: usize = 64;

/// The objects of a resource at one revision, by `namespace/name`.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub objects: OrdMap<Arc<str>, Arc<Object>>,
    pub revision: Revision,
}

impl Snapshot {
    /// The objects whose keys begin with `prefix`: those of a namespace (`NAME/`), or all.
    pub fn under<'s>(&'s self, prefix: &'s str) -> impl Iterator<Item = (&'s Arc<str>, &'s Arc<Object>)> {
        let from: (Bound<&str>, Bound<&str>) = (Bound::Included(prefix), Bound::Unbounded);
        self.objects.range::<_, str>(from).take_while(move |(key, _)| key.starts_with(prefix))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

impl EventKind {
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Added => "ADDED",
            EventKind::Modified => "MODIFIED",
            EventKind::Deleted => "DELETED",
        }
    }
}

/// One change, shared by all watchers; its frames are made once.
#[derive(Debug)]
pub struct Event {
    pub kind: EventKind,
    pub revision: Revision,
    /// The object after the change; for a deletion its last state, at the revision of the deletion.
    pub object: Arc<Object>,
    pub previous: Option<Arc<Object>>,
    frames: [Once; 3],
    protobuf_frames: [Once; 3],
}

impl Event {
    /// The event as a line of a watch, told as `kind` (a selector can turn a change into an addition or a deletion).
    pub fn frame(&self, kind: EventKind) -> Bytes {
        self.frames[kind as usize].get(|| frame(kind.as_str(), &self.object.json))
    }

    /// The same in protobuf; `make` gives the frame to those who ask first.
    pub fn protobuf_frame(&self, kind: EventKind, make: impl FnOnce() -> Bytes) -> Bytes {
        self.protobuf_frames[kind as usize].get(make)
    }
}

/// `{"type":…,"object":…}` and a newline.
pub fn frame(kind: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + kind.len() + 24);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
    out.freeze()
}

/// The events behind a revision are no longer kept.
#[derive(Debug, thiserror::Error)]
#[error("too old resource version: {requested} ({oldest})")]
pub struct Expired {
    pub requested: Revision,
    pub oldest: Revision,
}

pub struct Shelf {
    /// The entry of the stored version.
    pub resource: Arc<Resource>,
    /// The fields that field selectors may name, beyond metadata.name and metadata.namespace.
    pub fields: Vec<Selectable>,
    state: ArcSwap<Snapshot>,
    log: RwLock<Log>,
    /// The index behind the newest event.
    end: watch::Sender<u64>,
}

#[derive(Default)]
struct Log {
    events: VecDeque<Arc<Event>>,
    /// Index of the first event kept, counted from the server's start.
    first: u64,
    bytes: usize,
    /// Every event above this revision is here.
    floor: Revision,
    /// While the shelf is being filled: what happens in the meantime.
    waiting: Option<Vec<Applied>>,
    is_closed: bool,
}

/// A change as the store tells of it: `None` is a deletion.
pub(super) type Applied = (Revision, Arc<str>, Option<Object>);

/// A watcher's place in a shelf's log.
pub struct WatchCursor {
    shelf: Arc<Shelf>,
    next: u64,
    end: watch::Receiver<u64>,
}

impl Shelf {
    pub(super) fn new(resource: Arc<Resource>) -> Shelf {
        let fields = crate::strategy::kept_fields(&resource);
        Shelf {
            resource,
            fields,
            state: ArcSwap::from_pointee(Snapshot { objects: OrdMap::new(), revision: Revision(0) }),
            log: RwLock::default(),
            end: watch::Sender::new(0),
        }
    }

    /// A shelf that keeps its events until it is filled.
    pub(super) fn opening(resource: Arc<Resource>) -> Shelf {
        let shelf = Shelf::new(resource);
        shelf.log.write().waiting = Some(Vec::new());
        shelf
    }

    /// Puts in what the store had at `revision`, then applies what has happened since.
    pub(super) fn fill(&self, objects: OrdMap<Arc<str>, Arc<Object>>, revision: Revision) {
        let mut log = self.log.write();
        let waiting = log.waiting.take().unwrap_or_default();
        log.floor = revision;
        self.state.store(Arc::new(Snapshot { objects, revision }));
        drop(log);
        self.apply(waiting.into_iter().filter(|(at, ..)| *at > revision).collect());
    }

    /// Sends all watchers away: the resource is gone, or another shelf has taken its place.
    pub(super) fn close(&self) {
        let mut log = self.log.write();
        log.is_closed = true;
        self.end.send_modify(|end| *end += 1);
    }

    /// The newest state. Use [`Cache::view`](super::Cache::view) where the revision matters.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::clone(&self.state.load())
    }

    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.state.load().objects.get(key).cloned()
    }

    pub fn len(&self) -> usize {
        self.state.load().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number that changes with every change: for indexes that are rebuilt.
    pub fn version(&self) -> u64 {
        *self.end.borrow()
    }

    /// Replaces everything, as after a gap: watchers that were behind are cut off.
    pub(super) fn replace(&self, objects: OrdMap<Arc<str>, Arc<Object>>, revision: Revision) {
        let mut log = self.log.write();
        log.first += log.events.len() as u64 + 1;
        log.events.clear();
        log.bytes = 0;
        log.floor = revision;
        self.state.store(Arc::new(Snapshot { objects, revision }));
        self.end.send_replace(log.first);
    }

    /// Applies changes in order.
    pub(super) fn apply(&self, changes: Vec<Applied>) {
        let mut log = self.log.write();
        if let Some(waiting) = &mut log.waiting {
            return waiting.extend(changes);
        }
        let mut snapshot = self.snapshot();
        for (revision, key, object) in changes {
            snapshot.revision = revision;
            let previous = match &object {
                Some(_) => snapshot.objects.get(&key).cloned(),
                None => snapshot.objects.remove(&key),
            };
            let (kind, object) = match (object, &previous) {
                (Some(object), None) => (EventKind::Added, Arc::new(object)),
                (Some(object), Some(_)) => (EventKind::Modified, Arc::new(object)),
                (None, Some(last)) => (EventKind::Deleted, Arc::new(last.at_revision(revision))),
                // The deletion of something that could not be read when it was written.
                (None, None) => continue,
            };
            if kind != EventKind::Deleted {
                snapshot.objects.insert(object.key.clone(), object.clone());
            }
            log.push(Event {
                kind,
                revision,
                object,
                previous,
                frames: Default::default(),
                protobuf_frames: Default::default(),
            });
        }
        self.state.store(Arc::new(snapshot));
        self.end.send_replace(log.first + log.events.len() as u64);
    }

    /// A watcher's place behind `revision`.
    pub fn watch_after(self: &Arc<Self>, revision: Revision) -> Result<WatchCursor, Expired> {
        let log = self.log.read();
        if revision < log.floor {
            return Err(Expired { requested: revision, oldest: log.floor });
        }
        let skip = log.events.partition_point(|event| event.revision <= revision) as u64;
        Ok(WatchCursor { shelf: self.clone(), next: log.first + skip, end: self.end.subscribe() })
    }
}

impl Log {
    fn push(&mut self, event: Event) {
        self.bytes += event.object.json.len();
        self.events.push_back(Arc::new(event));
        while self.events.len() > EVENTS_MAX || (self.bytes > EVENT_BYTES_MAX && self.events.len() > EVENTS_MIN) {
            if let Some(oldest) = self.events.pop_front() {
                self.first += 1;
                self.bytes -= oldest.object.json.len();
                self.floor = oldest.revision;
            }
        }
    }
}

impl WatchCursor {
    /// Waits for the next events and takes up to `max` of them. `None`: this watcher fell so far behind that events are
    /// gone; its client has to start over.
    pub async fn next(&mut self, max: usize) -> Option<Vec<Arc<Event>>> {
        loop {
            match self.take(max)? {
                events if events.is_empty() => self.end.changed().await.ok()?,
                events => return Some(events),
            }
        }
    }

    /// What is there already, possibly nothing.
    pub fn take(&mut self, max: usize) -> Option<Vec<Arc<Event>>> {
        self.end.borrow_and_update();
        let log = self.shelf.log.read();
        if log.is_closed {
            return None;
        }
        let skip = self.next.checked_sub(log.first)? as usize;
        let events: Vec<Arc<Event>> = log.events.iter().skip(skip).take(max).cloned().collect();
        self.next += events.len() as u64;
        Some(events)
    }
}
