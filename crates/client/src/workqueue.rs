//! A queue of keys with client-go's semantics (`util/workqueue`: queue.go, delaying_queue.go, rate_limiting_queue.go):
//! a key is in the queue once however often it is added, is never worked on twice at a time, and comes back after a
//! failure with a delay that doubles.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// client-go `DefaultTypedControllerRateLimiter`, its per-key part.
const FIRST_DELAY: Duration = Duration::from_millis(5);
const LONGEST_DELAY: Duration = Duration::from_secs(1000);

/// Cheap to clone: all clones are one queue.
pub struct WorkQueue<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    name: &'static str,
    state: Mutex<State<T>>,
    changed: Notify,
}

/// A key is in `dirty` from its addition until a worker takes it, in `processing` until that worker is done. It stands
/// in `queue` where it is dirty and not being processed.
struct State<T> {
    queue: VecDeque<T>,
    dirty: HashSet<T>,
    processing: HashSet<T>,
    /// Keys to be added later, by the time and a running number that keeps equal times apart.
    waiting: BTreeMap<(Instant, u64), T>,
    waiting_since: HashMap<T, (Instant, u64)>,
    sequence: u64,
    failures: HashMap<T, u32>,
    shut_down: bool,
}

enum Taken<T> {
    Key(T),
    ShutDown,
    /// Nothing now; something at this time, if nothing is added before.
    Nothing(Option<Instant>),
}

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        WorkQueue { shared: self.shared.clone() }
    }
}

impl<T: Clone + Eq + Hash + Send> WorkQueue<T> {
    pub fn new(name: &'static str) -> Self {
        let state = State {
            queue: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            waiting: BTreeMap::new(),
            waiting_since: HashMap::new(),
            sequence: 0,
            failures: HashMap::new(),
            shut_down: false,
        };
        WorkQueue { shared: Arc::new(Shared { name, state: Mutex::new(state), changed: Notify::new() }) }
    }

    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// Queues the key unless it is queued; while it is being worked on it is queued again for when that is done.
    pub fn add(&self, key: T) {
        if self.shared.state.lock().add(key) {
            self.shared.changed.notify_one();
        }
    }

    /// Adds the key after `delay`. A key that waits already is added at the earlier of the two times.
    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        if self.shared.state.lock().add_at(key, Instant::now() + delay) {
            self.shared.changed.notify_one();
        }
    }

    /// Adds the key after 5 ms, 10 ms, 20 ms … 1000 s: the more often it was added this way since it was forgotten, the
    /// later.
    pub fn add_rate_limited(&self, key: T) {
        let delay = self.shared.state.lock().next_delay(&key);
        self.add_after(key, delay);
    }

    /// The key was worked on with success: its next failure counts as its first.
    pub fn forget(&self, key: &T) {
        self.shared.state.lock().failures.remove(key);
    }

    /// How often the key was added rate limited since it was last forgotten.
    pub fn failures(&self, key: &T) -> u32 {
        self.shared.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// Waits for a key. Whoever gets one must call [`WorkQueue::done`] with it. After a shutdown the keys still queued are
    /// handed out, then `None`; delayed ones are dropped.
    pub async fn get(&self) -> Option<T> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let wake_at = match self.take() {
                Taken::Key(key) => return Some(key),
                Taken::ShutDown => return None,
                Taken::Nothing(wake_at) => wake_at,
            };
            match wake_at {
                None => changed.await,
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }

    fn take(&self) -> Taken<T> {
        let mut state = self.shared.state.lock();
        let taken = state.take(Instant::now());
        // One waiter was woken for what may be several keys; it wakes the next.
        if matches!(taken, Taken::Key(_)) && (!state.queue.is_empty() || !state.waiting.is_empty()) {
            self.shared.changed.notify_one();
        }
        taken
    }

    pub fn done(&self, key: &T) {
        if self.shared.state.lock().done(key) {
            self.shared.changed.notify_one();
        }
    }

    /// No key is taken any more, and workers end once the queue is empty.
    pub fn shut_down(&self) {
        let mut state = self.shared.state.lock();
        state.shut_down = true;
        state.waiting.clear();
        state.waiting_since.clear();
        drop(state);
        self.shared.changed.notify_waiters();
        self.shared.changed.notify_one();
    }

    /// Keys ready to be worked on.
    pub fn len(&self) -> usize {
        let mut state = self.shared.state.lock();
        state.promote(Instant::now());
        state.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    /// Whether a key became ready.
    fn add(&mut self, key: T) -> bool {
        if self.shut_down || !self.dirty.insert(key.clone()) || self.processing.contains(&key) {
            return false;
        }
        self.queue.push_back(key);
        true
    }

    /// Whether the next time to wake may have changed.
    fn add_at(&mut self, key: T, at: Instant) -> bool {
        if self.shut_down {
            return false;
        }
        if let Some(entry) = self.waiting_since.get(&key).copied() {
            if entry.0 <= at {
                return false;
            }
            self.waiting.remove(&entry);
        }
        self.sequence += 1;
        let entry = (at, self.sequence);
        self.waiting_since.insert(key.clone(), entry);
        self.waiting.insert(entry, key);
        true
    }

    fn next_delay(&mut self, key: &T) -> Duration {
        let failures = self.failures.entry(key.clone()).or_insert(0);
        // 5 ms doubled 18 times is past the longest delay.
        let delay = FIRST_DELAY * 2u32.pow((*failures).min(18));
        *failures = failures.saturating_add(1);
        delay.min(LONGEST_DELAY)
    }

    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.waiting.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let key = entry.remove();
            self.waiting_since.remove(&key);
            self.add(key);
        }
    }

    fn take(&mut self, now: Instant) -> Taken<T> {
        self.promote(now);
        match self.queue.pop_front() {
            Some(key) => {
                self.dirty.remove(&key);
                self.processing.insert(key.clone());
                Taken::Key(key)
            }
            None if self.shut_down => Taken::ShutDown,
            None => Taken::Nothing(self.waiting.first_key_value().map(|(entry, _)| entry.0)),
        }
    }

    /// Whether the key is ready again.
    fn done(&mut self, key: &T) -> bool {
        if !self.processing.remove(key) || !self.dirty.contains(key) {
            return false;
        }
        self.queue.push_back(key.clone());
        true
    }
}
