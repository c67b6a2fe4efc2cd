//! The annotation in which `kubectl apply` keeps what it applied on the client's side: how its users come to server-side
//! apply without conflicts, and back (`managedfields/internal/lastappliedmanager.go`, `lastappliedupdater.go`).

use super::{
    compare::compare,
    conflict::{ApplyError, Conflict},
    go_json,
    items::to_field_set,
    set::Set,
    updater::Updater,
    validate::{Duplicates, validate},
};
use crate::{json, value::Value};

const ANNOTATION: [&str; 3] = ["metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration"];
/// The only manager that client-side apply's users come from.
pub(super) const KUBECTL: &str = "kubectl";
/// Of all annotations of an object together.
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;

/// Conflicts that are none: fields that client-side apply set, and that are still as it set them. An error where any remain;
/// `Ok` says that the apply may be forced.
pub(super) fn excuse(
    updater: &Updater<'_>,
    live: &Value,
    version: &str,
    conflicts: Vec<Conflict>,
) -> Result<(), ApplyError> {
    let Some(excused) = excused(updater, live, version) else { return Err(ApplyError::Conflicts(conflicts)) };
    let left: Vec<Conflict> = conflicts.into_iter().filter(|conflict| !excused.has(&conflict.path)).collect();
    if left.is_empty() { Ok(()) } else { Err(ApplyError::Conflicts(left)) }
}

fn excused(updater: &Updater<'_>, live: &Value, version: &str) -> Option<Set> {
    let text = live.at(&ANNOTATION).and_then(Value::as_str).filter(|text| !text.is_empty())?;
    let last = json::parse(text.as_bytes()).ok()?;
    let Updater { model, ty, skip, .. } = *updater;
    if last.str_at(&["apiVersion"]) != version || validate(model, ty, &last, Duplicates::Refused).is_err() {
        return None;
    }
    let changed = compare(model, ty, &last, live, skip);
    let set = to_field_set(model, ty, &last, skip);
    Some(set.difference(&changed.modified).difference(&changed.added).difference(&changed.removed))
}

/// Keeps the annotation, where there is one, in step with what kubectl applied.
pub(super) fn follow(object: &mut Value, config: &Value) {
    if object.at(&ANNOTATION).and_then(Value::as_str).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    config.take(&ANNOTATION);
    let text = format!("{}\n", go_json::sorted_text(&config));
    object.set(&ANNOTATION, text);
    let annotations = object.at(&ANNOTATION[..2]).and_then(Value::as_object);
    let size = |(name, value): (&str, &Value)| name.len() + value.as_str().map_or(0, str::len);
    if annotations.is_some_and(|annotations| annotations.iter().map(size).sum::<usize>() > ANNOTATIONS_BYTES_MAX) {
        object.take(&ANNOTATION);
    }
}
