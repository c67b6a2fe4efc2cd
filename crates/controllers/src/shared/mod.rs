//! What several controllers need: selectors, owners, pods, templates, percentages. Pure functions over API objects.

pub mod claims;
pub mod finalizers;
pub mod history;
pub mod nodes;
pub mod owners;
pub mod percent;
pub mod pods;
pub mod range;
pub mod selector;
pub mod template;

use client::Kind;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// The annotation's value, empty where there is none.
pub fn annotation<'a, K: Kind>(object: &'a K, key: &str) -> &'a str {
    object.meta().annotations.as_ref().and_then(|all| all.get(key)).map_or("", String::as_str)
}

pub fn label<'a, K: Kind>(object: &'a K, key: &str) -> Option<&'a str> {
    object.meta().labels.as_ref().and_then(|all| all.get(key)).map(String::as_str)
}

pub fn has_finalizer<K: Kind>(object: &K, finalizer: &str) -> bool {
    object.meta().finalizers.as_ref().is_some_and(|all| all.iter().any(|one| one == finalizer))
}

pub fn is_deleting<K: Kind>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// Creation time; an object that has none yet counts as old.
pub fn created_at<K: Kind>(object: &K) -> Timestamp {
    object.meta().creation_timestamp.as_ref().map_or(Timestamp::MIN, |time| time.0)
}

/// How long from `now` to `at`; `None` where that has passed.
pub fn until(at: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(at.duration_since(now)).ok().filter(|left| !left.is_zero())
}

/// `time` plus seconds, at the end of time where it would pass that.
pub fn after_seconds(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}
