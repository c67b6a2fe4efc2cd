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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use client::kinds::core::v1::{ConfigMap, Pod};

    use super::*;

    /// An informer at some revision that shows one living object until revision 10.
    #[derive(Default)]
    struct At(AtomicU64);

    impl Shown for At {
        fn revision(&self) -> Option<u64> {
            Some(self.0.load(Ordering::Relaxed))
        }

        fn alive(&self, _: &str, name: &str, uid: &str) -> bool {
            name == "a" && uid == "1" && self.0.load(Ordering::Relaxed) < 10
        }
    }

    #[test]
    fn a_key_waits_for_its_own_writes() {
        let pods = ResourceId::of::<Pod>();
        let target = Target { resource: pods.clone(), namespace: "default".into(), name: "a".into() };
        let informer = Arc::new(At::default());
        let shown =
            ShownResources(Arc::new(Mutex::new(HashMap::from([(pods.clone(), informer.clone() as Arc<dyn Shown>)]))));
        let mut created = Written::default();
        created.wrote(&pods, "7");
        created.wrote(&pods, "5");
        created.wrote(&ResourceId::of::<ConfigMap>(), "9");
        let mut deleted = Written::default();
        deleted.deleted(&target, Some("1"));
        let mut other = Written::default();
        other.deleted(&target, Some("2"));

        let key = ObjectKey::new("default", "owner");
        let now = Timestamp::UNIX_EPOCH;
        for (what, written, ready_at) in [("created", created, 7), ("deleted", deleted, 10), ("another UID", other, 0)]
        {
            let expectations = Expectations::default();
            expectations.expect(&key, written, now);
            for revision in 0..=10 {
                informer.0.store(revision, Ordering::Relaxed);
                let is_ready = expectations.readiness(&key, &shown, now) == Readiness::Ready;
                assert_eq!(is_ready, revision >= ready_at, "{what} at {revision}");
            }
        }
        let expectations = Expectations::default();
        informer.0.store(0, Ordering::Relaxed);
        let mut lost = Written::default();
        lost.wrote(&pods, "99");
        expectations.expect(&key, lost, now);
        assert_ne!(expectations.readiness(&key, &shown, now), Readiness::Ready);
        let later = now.checked_add(TIMEOUT + SignedDuration::from_secs(1)).expect("time");
        assert_eq!(
            expectations.readiness(&key, &shown, later),
            Readiness::Ready,
            "a lost write is not waited for for ever"
        );
    }
}
