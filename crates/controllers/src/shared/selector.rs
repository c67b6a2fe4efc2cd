//! From the API's label selector to one that matches.

use std::collections::BTreeMap;

use api::selector::LabelSelector as Selector;
use client::{Kind, apimachinery::pkg::apis::meta::v1::LabelSelector};

/// `None` and an invalid selector match nothing; an empty one everything (metav1 `LabelSelectorAsSelector`).
pub fn compile(selector: Option<&LabelSelector>) -> Selector {
    let Some(selector) = selector else {
        return Selector::nothing();
    };
    let empty = BTreeMap::new();
    let labels = selector.match_labels.as_ref().unwrap_or(&empty);
    let expressions = selector.match_expressions.iter().flatten();
    let expressions = expressions.map(|term| (&*term.key, &*term.operator, term.values.as_deref().unwrap_or_default()));
    Selector::from_parts(labels, expressions).unwrap_or_else(|_| Selector::nothing())
}

/// An exact set of labels; an empty set matches nothing, as for services and replication controllers.
pub fn exact(labels: Option<&BTreeMap<String, String>>) -> Selector {
    match labels {
        Some(labels) if !labels.is_empty() => {
            Selector::from_set(labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
        }
        _ => Selector::nothing(),
    }
}

pub fn matches<K: Kind>(selector: &Selector, object: &K) -> bool {
    match &object.meta().labels {
        Some(labels) => selector.matches(labels),
        None => selector.matches(&BTreeMap::new()),
    }
}
