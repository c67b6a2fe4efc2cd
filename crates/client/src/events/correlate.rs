//! What becomes of an event: written, counted on an earlier one, or dropped (client-go `tools/record/events_cache.go`).

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use crate::kinds::core::v1::{Event, EventSource, ObjectReference};

/// Events about one object before they are limited, and one more per this time after that.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// This many different messages with the same reason within this time are combined into one event.
const SIMILAR_MAX: usize = 10;
const SIMILAR_WITHIN: SignedDuration = SignedDuration::from_secs(600);
const REMEMBERED: usize = 4096;

#[derive(Debug)]
pub(super) enum Decision {
    Create(Event),
    /// The event was written before under this name: a strategic merge patch counts it up.
    Patch {
        event: Event,
        patch: Vec<u8>,
    },
    Drop,
}

#[derive(Default)]
pub(super) struct Correlator {
    buckets: Recent<Bucket>,
    similar: Recent<Similar>,
    written: Recent<Written>,
}

struct Bucket {
    tokens: f64,
    filled: Timestamp,
}

struct Similar {
    messages: HashSet<String>,
    last: Timestamp,
}

struct Written {
    name: String,
    first: Timestamp,
    count: i32,
}

impl Correlator {
    pub fn observe(&mut self, mut event: Event, now: Timestamp) -> Decision {
        let object = object_key(&event);
        if !self.admit(&object, now) {
            return Decision::Drop;
        }
        let kind = key([
            object.as_str(),
            event.type_.as_deref().unwrap_or_default(),
            event.reason.as_deref().unwrap_or_default(),
        ]);
        let combined = self.combine(&kind, &mut event, now);
        let exact = if combined { kind } else { key([&kind, event.message.as_deref().unwrap_or_default()]) };
        self.count(exact, event, now)
    }

    /// A token bucket per object.
    fn admit(&mut self, object: &str, now: Timestamp) -> bool {
        let bucket = self.buckets.entry(object, || Bucket { tokens: BURST, filled: now });
        let passed = now.duration_since(bucket.filled).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + passed / REFILL_SECONDS).min(BURST);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    /// Whether the event is one of many that differ in their message only; then its message says so.
    fn combine(&mut self, kind: &str, event: &mut Event, now: Timestamp) -> bool {
        let message = event.message.clone().unwrap_or_default();
        let similar = self.similar.entry(kind, || Similar { messages: HashSet::new(), last: now });
        if now.duration_since(similar.last) > SIMILAR_WITHIN {
            similar.messages.clear();
        }
        similar.last = now;
        if similar.messages.len() < SIMILAR_MAX || similar.messages.contains(&message) {
            similar.messages.insert(message.clone());
        }
        if similar.messages.len() < SIMILAR_MAX {
            return false;
        }
        event.message = Some(format!("(combined from similar events): {message}"));
        true
    }

    fn count(&mut self, exact: String, mut event: Event, now: Timestamp) -> Decision {
        let name = event.metadata.name.clone().unwrap_or_default();
        let written = self.written.entry(&exact, || Written { name, first: now, count: 0 });
        written.count = written.count.saturating_add(1);
        if written.count == 1 {
            return Decision::Create(event);
        }
        event.metadata.name = Some(written.name.clone());
        event.count = Some(written.count);
        event.first_timestamp = Some(crate::apimachinery::pkg::apis::meta::v1::Time(written.first));
        let patch = serde_json::json!({
            "count": event.count,
            "lastTimestamp": event.last_timestamp,
            "message": event.message,
        });
        Decision::Patch { event, patch: patch.to_string().into_bytes() }
    }
}

/// Who says something, and about which object.
fn object_key(event: &Event) -> String {
    let EventSource { component, host } = event.source.clone().unwrap_or_default();
    let ObjectReference { api_version, kind, namespace, name, uid, field_path, .. } = event.involved_object.clone();
    let parts = [component, host, api_version, kind, namespace, name, uid, field_path];
    key(parts.iter().map(|part| part.as_deref().unwrap_or_default()))
}

/// The parts as one text, kept apart by a character that no name and no reason has.
fn key<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    parts.into_iter().collect::<Vec<_>>().join("\u{1f}")
}

/// A map that forgets what was not used for the longest time.
struct Recent<V> {
    entries: HashMap<String, (u64, V)>,
    tick: u64,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Recent { entries: HashMap::new(), tick: 0 }
    }
}

impl<V> Recent<V> {
    fn entry(&mut self, key: &str, new: impl FnOnce() -> V) -> &mut V {
        self.tick += 1;
        if self.entries.len() >= REMEMBERED && !self.entries.contains_key(key) {
            self.forget_the_older_half();
        }
        let entry = self.entries.entry(key.to_owned()).or_insert_with(|| (0, new()));
        entry.0 = self.tick;
        &mut entry.1
    }

    /// Half at once, so that a full map costs a scan per two thousand new keys and not per key.
    fn forget_the_older_half(&mut self) {
        let mut ticks: Vec<u64> = self.entries.values().map(|(tick, _)| *tick).collect();
        let middle = ticks.len() / 2;
        let (_, median, _) = ticks.select_nth_unstable(middle);
        let median = *median;
        self.entries.retain(|_, (tick, _)| *tick >= median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    fn event(object: &str, message: &str, now: Timestamp) -> Event {
        Event {
            metadata: ObjectMeta { name: Some(format!("{object}.{}", now.as_nanosecond())), ..ObjectMeta::default() },
            involved_object: ObjectReference { name: Some(object.into()), ..ObjectReference::default() },
            reason: Some("Failed".into()),
            message: Some(message.into()),
            last_timestamp: Some(Time(now)),
            ..Event::default()
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    #[test]
    fn equal_events_are_counted_on_the_first() {
        let mut correlator = Correlator::default();
        let Decision::Create(first) = correlator.observe(event("a", "no", at(0)), at(0)) else { panic!("not created") };
        for count in 2..=5 {
            match correlator.observe(event("a", "no", at(count)), at(count)) {
                Decision::Patch { event, patch } => {
                    assert_eq!(event.metadata.name, first.metadata.name);
                    let patch: serde_json::Value = serde_json::from_slice(&patch).unwrap();
                    assert_eq!(patch["count"], count);
                    assert_eq!(patch["message"], "no");
                    assert_eq!(patch["lastTimestamp"], at(count).to_string());
                }
                other => panic!("{count}: {other:?}"),
            }
        }
        assert!(matches!(correlator.observe(event("b", "no", at(9)), at(9)), Decision::Create(_)));
    }

    #[test]
    fn more_than_a_burst_about_one_object_is_dropped_until_time_passes() {
        let mut correlator = Correlator::default();
        let kept = (0..40).filter(|_| !matches!(correlator.observe(event("a", "no", at(0)), at(0)), Decision::Drop));
        assert_eq!(kept.count(), 25);
        assert!(matches!(correlator.observe(event("b", "no", at(0)), at(0)), Decision::Create(_)));
        assert!(matches!(correlator.observe(event("a", "no", at(299)), at(299)), Decision::Drop));
        assert!(matches!(correlator.observe(event("a", "no", at(301)), at(301)), Decision::Patch { .. }));
    }

    #[test]
    fn many_messages_become_one_combined_event() {
        let mut correlator = Correlator::default();
        for n in 0..9 {
            assert!(matches!(correlator.observe(event("a", &n.to_string(), at(n)), at(n)), Decision::Create(_)));
        }
        let Decision::Create(tenth) = correlator.observe(event("a", "9", at(9)), at(9)) else { panic!("not created") };
        assert_eq!(tenth.message.as_deref(), Some("(combined from similar events): 9"));
        let Decision::Patch { event: eleventh, .. } = correlator.observe(event("a", "10", at(10)), at(10)) else {
            panic!("not counted")
        };
        assert_eq!(eleventh.metadata.name, tenth.metadata.name);
        assert_eq!(eleventh.message.as_deref(), Some("(combined from similar events): 10"));
    }

    #[test]
    fn what_was_not_used_for_long_is_forgotten() {
        let mut recent = Recent::default();
        for n in 0..REMEMBERED {
            recent.entry(&n.to_string(), || n);
        }
        recent.entry("0", || usize::MAX);
        recent.entry("new", || 1);
        assert!(recent.entries.len() <= REMEMBERED / 2 + 2);
        assert_eq!(*recent.entry("0", || usize::MAX), 0);
        assert_eq!(*recent.entry("1", || usize::MAX), usize::MAX);
    }
}
