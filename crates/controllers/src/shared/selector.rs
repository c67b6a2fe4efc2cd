//! From the API's label selector to one that matches.

use std::collections::BTreeMap;

use api::selector::LabelSelector as Selector;
pub use client::labels::selector as compile;
use client::{Kind, labels};

/// An exact set of labels; an empty set matches nothing, as for services and replication controllers.
pub fn exact(labels: Option<&BTreeMap<String, String>>) -> Selector {
    match labels {
        Some(labels) if !labels.is_empty() => labels::selector_of_map(labels),
        _ => Selector::nothing(),
    }
}

pub fn matches<K: Kind>(selector: &Selector, object: &K) -> bool {
    selector.matches(labels::of(object.meta()))
}
