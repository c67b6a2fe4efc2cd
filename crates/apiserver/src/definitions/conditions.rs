//! Conditions of a definition's status (apiextensions-apiserver `pkg/apihelpers`).

use std::borrow::Cow;

use api::Value;
use jiff::Timestamp;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    pub kind: &'static str,
    pub status: &'static str,
    pub reason: Cow<'static, str>,
    pub message: Cow<'static, str>,
}

const fn condition(kind: &'static str, status: &'static str, reason: &'static str, message: &'static str) -> Condition {
    Condition { kind, status, reason: Cow::Borrowed(reason), message: Cow::Borrowed(message) }
}

pub(crate) const NAMES_ACCEPTED: Condition = condition("NamesAccepted", "True", "NoConflicts", "no conflicts found");
pub(crate) const ESTABLISHED: Condition =
    condition("Established", "True", "InitialNamesAccepted", "the initial names have been accepted");
pub(crate) const NOT_ESTABLISHED: Condition =
    condition("Established", "False", "NotAccepted", "not all names are accepted");
pub(crate) const PENDING_DELETION: Condition = condition(
    "Terminating",
    "True",
    "InstanceDeletionPending",
    "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
);
pub(crate) const DELETING: Condition =
    condition("Terminating", "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress");
pub(crate) const DELETED: Condition =
    condition("Terminating", "False", "InstanceDeletionCompleted", "removed all instances");
pub(crate) const NEVER_ESTABLISHED: Condition =
    condition("Terminating", "False", "NeverEstablished", "resource was never established");

pub(crate) fn find<'v>(definition: &'v Value, kind: &str) -> Option<&'v Value> {
    let conditions = definition.at(&["status", "conditions"])?.as_array()?;
    conditions.iter().find(|entry| entry.str_at(&["type"]) == kind)
}

/// Sets a condition; its time changes with its status only.
pub(crate) fn set(definition: &mut Value, condition: Condition, now: Timestamp) {
    let former = find(definition, condition.kind);
    let since = former
        .filter(|former| former.str_at(&["status"]) == condition.status)
        .map(|former| former.str_at(&["lastTransitionTime"]).to_owned());
    let mut entry = Value::object();
    entry.set(&["type"], condition.kind);
    entry.set(&["status"], condition.status);
    entry.set(&["lastTransitionTime"], since.filter(|time| !time.is_empty()).unwrap_or_else(|| api::time::format(now)));
    entry.set(&["reason"], &*condition.reason);
    entry.set(&["message"], &*condition.message);
    let Some(status) = definition.make_object(&["status"]) else { return };
    let Some(conditions) = status.entry_or_insert_with("conditions", || Value::Array(Vec::new())).as_array_mut() else {
        return;
    };
    match conditions.iter_mut().find(|other| other.str_at(&["type"]) == condition.kind) {
        Some(other) => *other = entry,
        None => conditions.push(entry),
    }
}

pub(crate) fn remove(definition: &mut Value, kind: &str) {
    if let Some(conditions) = definition.at_mut(&["status", "conditions"]).and_then(Value::as_array_mut) {
        conditions.retain(|entry| entry.str_at(&["type"]) != kind);
    }
}
