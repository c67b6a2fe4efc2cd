//! Finalizers that a controller puts on objects of others and takes off again.

use client::{Kind, PatchKind};
use serde_json::json;

use crate::plan::Plan;

/// Holds the object up when it is deleted.
pub fn keep<K: Kind>(plan: &mut Plan, object: &K, finalizer: &str) {
    let present = object.meta().finalizers.clone().unwrap_or_default();
    put(plan, object, present.into_iter().chain([finalizer.to_owned()]).collect());
}

pub fn let_go<K: Kind>(plan: &mut Plan, object: &K, finalizer: &str) {
    let present = object.meta().finalizers.clone().unwrap_or_default();
    put(plan, object, present.into_iter().filter(|one| one != finalizer).collect());
}

fn put<K: Kind>(plan: &mut Plan, object: &K, finalizers: Vec<String>) {
    let patch = json!({"metadata": {"uid": object.uid(), "resourceVersion": object.resource_version(), "finalizers": finalizers}});
    plan.patch(object, PatchKind::Merge, &patch).ignore_not_found();
}
