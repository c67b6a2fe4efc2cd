//! Expectations: what a key's last pass wrote and the informers must show before the key is planned again.
//!
//! A controller that plans on a cache older than its own writes creates twice. client-go counts creations and deletions;
//! here every write's resourceVersion is remembered and compared with how far the informer of that kind has come
//! (as upstream's `consistency store`, pkg/controller/util/consistency), and every deletion's UID with what it shows.

use std::{collections::HashMap, sync::Arc, time::Duration};

use client::{Informer, Kind, ObjectKey};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::plan::{ResourceId, Target};

/// What an informer shows, without its type.
pub trait Shown: Send + Sync {
    /// The newest revision seen; `None` where it is not a number.
    fn revision(&self) -> Option<u64>;
    /// Whether the object with this UID is still shown, and not being deleted.
    fn alive(&self, namespace: &str, name: &str, uid: &str) -> bool;
}

impl<K: Kind> Shown for Informer<K> {
    fn revision(&self) -> Option<u64> {
        self.last_resource_version().parse().ok()
    }

    fn alive(&self, namespace: &str, name: &str, uid: &str) -> bool {
        self.get(namespace, name)
            .is_some_and(|object| object.uid() == uid && object.meta().deletion_timestamp.is_none())
    }
}

/// The informers of one process by resource: filled while controllers register, fixed afterwards.
#[derive(Clone, Default)]
pub struct ShownResources(Arc<Mutex<HashMap<ResourceId, Arc<dyn Shown>>>>);

impl ShownResources {
    pub fn add<K: Kind>(&self, informer: &Informer<K>) {
        self.0.lock().entry(ResourceId::of::<K>()).or_insert_with(|| Arc::new(informer.clone()));
    }

    fn get(&self, resource: &ResourceId) -> Option<Arc<dyn Shown>> {
        self.0.lock().get(resource).cloned()
    }
}

/// The writes of one pass.
#[derive(Debug, Default)]
pub struct Written {
    revisions: HashMap<ResourceId, u64>,
    deleted: Vec<(Target, String)>,
}

impl Written {
    pub fn wrote(&mut self, resource: &ResourceId, resource_version: &str) {
        if let Ok(revision) = resource_version.parse() {
            let newest = self.revisions.entry(resource.clone()).or_insert(revision);
            *newest = revision.max(*newest);
        }
    }

    pub fn deleted(&mut self, target: &Target, uid: Option<&str>) {
        if let Some(uid) = uid {
            self.deleted.push((target.clone(), uid.to_owned()));
        }
    }

    fn is_shown(&self, shown: &ShownResources) -> bool {
        let reached = self.revisions.iter().all(|(resource, written)| {
            shown.get(resource).and_then(|informer| informer.revision()).is_none_or(|seen| seen >= *written)
        });
        reached
            && self.deleted.iter().all(|(target, uid)| {
                shown.get(&target.resource).is_none_or(|informer| !informer.alive(&target.namespace, &target.name, uid))
            })
    }
}

struct Pending {
    written: Written,
    since: Timestamp,
    looked: u32,
}

/// What to do with a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// The informers lag behind this key's own writes.
    LookAgain(Duration),
}

/// Per controller: the keys whose writes are not shown yet.
#[derive(Default)]
pub struct Expectations {
    pending: Mutex<HashMap<ObjectKey, Pending>>,
}

/// As upstream's ExpectationsTimeout: past this a lost write is likelier than a lagging watch.
const TIMEOUT: SignedDuration = SignedDuration::from_mins(5);

impl Expectations {
    pub fn expect(&self, key: &ObjectKey, written: Written, now: Timestamp) {
        if !written.revisions.is_empty() || !written.deleted.is_empty() {
            self.pending.lock().insert(key.clone(), Pending { written, since: now, looked: 0 });
        }
    }

    pub fn readiness(&self, key: &ObjectKey, shown: &ShownResources, now: Timestamp) -> Readiness {
        let mut all = self.pending.lock();
        let Some(pending) = all.get_mut(key) else {
            return Readiness::Ready;
        };
        if pending.written.is_shown(shown) || now.duration_since(pending.since) > TIMEOUT {
            all.remove(key);
            return Readiness::Ready;
        }
        pending.looked = (pending.looked + 1).min(7);
        Readiness::LookAgain(Duration::from_millis(1 << pending.looked))
    }
}
