//! The pods that wait for a node: ready ones by priority, the others until their backoff ends or something happens in the
//! cluster that may make room for them (upstream `backend/queue/scheduling_queue.go`). Pure data; the time is passed in.
//!
//! Upstream records the events that happen while a pod is being decided on. Here a decision and an event never overlap:
//! both are steps of one loop, so an event is applied before the decision or finds the pod among the unschedulable.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use crate::{nomination::Nominations, pod::PodInfo};

/// How long pods wait.
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    pub initial_backoff: SignedDuration,
    pub max_backoff: SignedDuration,
    /// After this long without a helpful event an unschedulable pod is tried again.
    pub max_unschedulable: SignedDuration,
}

impl Default for Delays {
    fn default() -> Self {
        Delays {
            initial_backoff: SignedDuration::from_secs(1),
            max_backoff: SignedDuration::from_secs(10),
            max_unschedulable: SignedDuration::from_mins(5),
        }
    }
}

/// Why a pod comes back.
#[derive(Clone, Debug)]
pub enum Setback {
    /// These plugins found no node for it.
    Rejected(BTreeSet<&'static str>),
    /// Something else failed: it is tried again after its backoff.
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Active(ActiveKey),
    /// Early pods may be taken before their time when nothing else is ready; those that failed may not.
    Backoff {
        key: WaitKey,
        early: bool,
    },
    Unschedulable(WaitKey),
    Gated,
    /// Taken by [`SchedulingQueue::pop`].
    InFlight,
}

/// Order of the active queue (upstream `plugins/queuesort`): priority, then time of arrival.
type ActiveKey = (Reverse<i32>, Timestamp, u64, String);
type WaitKey = (Timestamp, String);

#[derive(Clone, Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    unschedulable_count: u32,
    consecutive_errors: u32,
    /// When the pod last came into the queue.
    since: Timestamp,
    rejectors: BTreeSet<&'static str>,
}

#[derive(Debug, Default)]
pub struct SchedulingQueue {
    delays: Delays,
    pods: HashMap<String, Entry>,
    active: BTreeSet<ActiveKey>,
    backoff: BTreeSet<WaitKey>,
    error_backoff: BTreeSet<WaitKey>,
    unschedulable: BTreeSet<WaitKey>,
    sequence: u64,
    pub nominations: Nominations,
}

impl SchedulingQueue {
    pub fn new(delays: Delays) -> SchedulingQueue {
        SchedulingQueue { delays, ..SchedulingQueue::default() }
    }

    pub fn get(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.pods.get(uid).map(|entry| &entry.pod)
    }

    pub fn len(&self) -> usize {
        self.pods.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Pods ready now, waiting for their backoff, waiting for an event (gated ones among them): upstream's
    /// `scheduler_pending_pods`.
    pub fn counts(&self) -> (usize, usize, usize) {
        let gated = self.pods.values().filter(|entry| entry.place == Place::Gated).count();
        (self.active.len(), self.backoff.len() + self.error_backoff.len(), self.unschedulable.len() + gated)
    }

    /// A pod that has no node. One with scheduling gates waits for their removal.
    pub fn add(&mut self, pod: Arc<PodInfo>, now: Timestamp) {
        let uid = pod.uid().to_owned();
        if !pod.nominated_node().is_empty() {
            self.nominations.add(pod.clone(), pod.nominated_node());
        }
        self.leave(&uid);
        let entry = Entry {
            pod,
            place: Place::Gated,
            unschedulable_count: 0,
            consecutive_errors: 0,
            since: now,
            rejectors: BTreeSet::new(),
        };
        let gated = entry.pod.is_gated();
        self.pods.insert(uid.clone(), entry);
        if !gated {
            self.activate(&uid, now);
        }
    }

    /// A newer state of a waiting pod. Whether it may now be schedulable is asked through [`Self::requeue`].
    pub fn update(&mut self, pod: Arc<PodInfo>, now: Timestamp) {
        let uid = pod.uid().to_owned();
        let Some(entry) = self.pods.get_mut(&uid) else { return self.add(pod, now) };
        let old = std::mem::replace(&mut entry.pod, pod.clone());
        let opened = entry.place == Place::Gated && !pod.is_gated();
        match (old.nominated_node(), pod.nominated_node()) {
            ("", "") => {
                if let Some(node) = self.nominations.node_of(&uid).map(str::to_owned) {
                    self.nominations.add(pod, &node);
                }
            }
            (_, "") => self.nominations.remove(&uid),
            (_, node) => self.nominations.add(pod.clone(), node),
        }
        if opened {
            self.activate(&uid, now);
        }
    }

    /// The pod is gone, or has its node.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        self.leave(uid);
        self.nominations.remove(uid);
        self.pods.remove(uid).map(|entry| entry.pod)
    }

    /// The next pod to decide on. It stays known until it is removed or set back.
    pub fn pop(&mut self, now: Timestamp) -> Option<Arc<PodInfo>> {
        self.flush(now);
        let uid = match self.active.pop_first() {
            Some((.., uid)) => uid,
            // Nothing is ready: a pod that an event has moved need not sit out its backoff.
            None => self.backoff.pop_first()?.1,
        };
        let entry = self.pods.get_mut(&uid)?;
        entry.place = Place::InFlight;
        Some(entry.pod.clone())
    }

    /// The popped pod found no node. Does nothing for a pod that has gone meanwhile.
    pub fn set_back(&mut self, uid: &str, setback: Setback, now: Timestamp) {
        let Some(entry) = self.pods.get_mut(uid).filter(|entry| entry.place == Place::InFlight) else { return };
        entry.since = now;
        match setback {
            Setback::Rejected(rejectors) if !rejectors.is_empty() => {
                entry.unschedulable_count += 1;
                entry.consecutive_errors = 0;
                entry.rejectors = rejectors;
                let key = (now, uid.to_owned());
                entry.place = Place::Unschedulable(key.clone());
                self.unschedulable.insert(key);
            }
            Setback::Rejected(_) | Setback::Error => {
                entry.consecutive_errors += 1;
                entry.rejectors.clear();
                self.back_off(uid, now);
            }
        }
    }

    /// Moves the unschedulable pods that `worth` is true of, given the plugins that rejected them, to where they are tried
    /// again.
    pub fn requeue(&mut self, now: Timestamp, worth: impl Fn(&PodInfo, &BTreeSet<&'static str>) -> bool) {
        let pods = self
            .unschedulable
            .iter()
            .filter(|(_, uid)| self.pods.get(uid).is_some_and(|entry| worth(&entry.pod, &entry.rejectors)));
        let moved: Vec<String> = pods.map(|(_, uid)| uid.clone()).collect();
        for uid in moved {
            self.leave(&uid);
            self.back_off(&uid, now);
        }
    }

    /// An unschedulable pod with the plugins that rejected it.
    pub fn rejected(&self, uid: &str) -> Option<(&PodInfo, &BTreeSet<&'static str>)> {
        let entry = self.pods.get(uid).filter(|entry| matches!(entry.place, Place::Unschedulable(_)))?;
        Some((&entry.pod, &entry.rejectors))
    }

    /// When [`Self::pop`] may have something that it has not now, if nothing else happens.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let waiting = [&self.backoff, &self.error_backoff].into_iter().filter_map(|queue| queue.first());
        let flush = self.unschedulable.first().map(|(since, _)| later(*since, self.delays.max_unschedulable));
        waiting.map(|(until, _)| *until).chain(flush).min()
    }

    fn flush(&mut self, now: Timestamp) {
        for early in [true, false] {
            let queue = if early { &self.backoff } else { &self.error_backoff };
            let ready: Vec<String> =
                queue.iter().take_while(|(until, _)| *until <= now).map(|(_, uid)| uid.clone()).collect();
            ready.iter().for_each(|uid| self.activate(uid, now));
        }
        let forgotten = |since: &Timestamp| later(*since, self.delays.max_unschedulable) <= now;
        let old = self.unschedulable.iter().take_while(|(since, _)| forgotten(since));
        let old: Vec<String> = old.map(|(_, uid)| uid.clone()).collect();
        old.iter().for_each(|uid| self.activate(uid, now));
    }

    /// To the active queue, whatever backoff is left.
    fn activate(&mut self, uid: &str, now: Timestamp) {
        self.leave(uid);
        self.sequence += 1;
        let Some(entry) = self.pods.get_mut(uid) else { return };
        entry.since = now;
        let key = (Reverse(entry.pod.priority()), now, self.sequence, uid.to_owned());
        entry.place = Place::Active(key.clone());
        self.active.insert(key);
    }

    /// To where the pod's backoff is sat out; to the active queue if that is over.
    fn back_off(&mut self, uid: &str, now: Timestamp) {
        let Some(entry) = self.pods.get_mut(uid) else { return };
        let early = entry.consecutive_errors == 0;
        let count = if early { entry.unschedulable_count } else { entry.consecutive_errors };
        let until = later(entry.since, self.delays.backoff(count));
        if until <= now {
            return self.activate(uid, now);
        }
        let key = (until, uid.to_owned());
        entry.place = Place::Backoff { key: key.clone(), early };
        let queue = if early { &mut self.backoff } else { &mut self.error_backoff };
        queue.insert(key);
    }

    fn leave(&mut self, uid: &str) {
        match self.pods.get(uid).map(|entry| &entry.place) {
            Some(Place::Active(key)) => drop(self.active.remove(key)),
            Some(Place::Backoff { key, early: true }) => drop(self.backoff.remove(key)),
            Some(Place::Backoff { key, early: false }) => drop(self.error_backoff.remove(key)),
            Some(Place::Unschedulable(key)) => drop(self.unschedulable.remove(key)),
            Some(Place::Gated | Place::InFlight) | None => {}
        }
    }

    /// Moves a pod that waits for an event to where it is tried again.
    pub fn retry(&mut self, uid: &str, now: Timestamp) {
        if matches!(self.pods.get(uid).map(|entry| &entry.place), Some(Place::Unschedulable(_))) {
            self.leave(uid);
            self.back_off(uid, now);
        }
    }
}

impl Delays {
    /// Doubles with every attempt (upstream `calculateBackoffDuration`).
    fn backoff(&self, attempts: u32) -> SignedDuration {
        match attempts {
            0 => SignedDuration::ZERO,
            attempts => {
                let factor = 1_i32.checked_shl(attempts - 1).filter(|factor| *factor > 0).unwrap_or(i32::MAX);
                self.initial_backoff.saturating_mul(factor).min(self.max_backoff)
            }
        }
    }
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Checks what must always hold; for tests.
#[doc(hidden)]
impl SchedulingQueue {
    pub fn check(&self) -> Result<(), String> {
        for (uid, entry) in &self.pods {
            let places = [
                self.active.iter().filter(|key| key.3 == *uid).count(),
                self.backoff.iter().filter(|key| key.1 == *uid).count(),
                self.error_backoff.iter().filter(|key| key.1 == *uid).count(),
                self.unschedulable.iter().filter(|key| key.1 == *uid).count(),
            ];
            let expected = match &entry.place {
                Place::Active(_) => [1, 0, 0, 0],
                Place::Backoff { early: true, .. } => [0, 1, 0, 0],
                Place::Backoff { early: false, .. } => [0, 0, 1, 0],
                Place::Unschedulable(_) => [0, 0, 0, 1],
                Place::Gated | Place::InFlight => [0, 0, 0, 0],
            };
            if places != expected {
                return Err(format!("{uid} is {:?} but stands in {places:?}", entry.place));
            }
        }
        let (active, backoff, unschedulable) =
            (self.active.len(), self.backoff.len() + self.error_backoff.len(), self.unschedulable.len());
        let queued = self.pods.values().filter(|entry| !matches!(entry.place, Place::Gated | Place::InFlight)).count();
        if active + backoff + unschedulable == queued {
            Ok(())
        } else {
            Err("a queue holds a pod that is not known".into())
        }
    }
}
