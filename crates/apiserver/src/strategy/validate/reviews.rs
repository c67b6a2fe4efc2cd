//! Questions about permission (`pkg/apis/authorization/validation`).

use api::{Value, names};

use super::at::At;

/// A review of anyone's permission.
pub(super) fn subject(at: &At) {
    asked_of(at);
    metadata(at, &[], "must be empty");
}

/// A review of the asker's own.
pub(super) fn own(at: &At) {
    attributes(&at.get("spec"));
    metadata(at, &[], "must be empty");
}

/// A review of anyone's permission in one namespace.
pub(super) fn local(at: &At) {
    asked_of(at);
    metadata(at, &["namespace"], "must be empty except for namespace");
    let spec = at.get("spec");
    let (resource, path) = (spec.get("resourceAttributes"), spec.get("nonResourceAttributes"));
    let (own, asked) = (at.get("metadata"), resource.get("namespace"));
    if resource.is_set() && asked.text() != own.get("namespace").text() {
        asked.invalid_value(asked.text(), "must match metadata.namespace");
    }
    if path.is_set() {
        path.invalid("disallowed on this kind of request");
    }
}

/// Questions have no metadata: nothing is kept.
fn metadata(at: &At, allowed: &[&str], detail: &str) {
    let metadata = at.get("metadata");
    let is_plain = |name: &str| matches!(name, "creationTimestamp" | "managedFields") || allowed.contains(&name);
    if metadata.entries().any(|(name, value)| !is_plain(name) && !value.is_empty()) {
        metadata.invalid(detail);
    }
}

fn asked_of(at: &At) {
    let spec = at.get("spec");
    both_or_neither(&spec);
    if spec.get("user").is_empty() && spec.get("groups").is_empty() {
        spec.get("user").invalid_value("", "at least one of user or group must be specified");
    }
    selectors(&spec.get("resourceAttributes"));
}

fn attributes(spec: &At) {
    both_or_neither(spec);
    selectors(&spec.get("resourceAttributes"));
}

fn both_or_neither(spec: &At) {
    let (resource, path) = (spec.get("resourceAttributes"), spec.get("nonResourceAttributes"));
    match (resource.is_set(), path.is_set()) {
        (true, true) => path.invalid("cannot be specified in combination with resourceAttributes"),
        (false, false) => resource
            .invalid_value(Value::Null, "exactly one of nonResourceAttributes or resourceAttributes must be specified"),
        _ => {}
    }
}

fn selectors(resource: &At) {
    for name in ["fieldSelector", "labelSelector"] {
        let selector = resource.get(name);
        if !selector.is_set() {
            continue;
        }
        let (raw, requirements) = (selector.get("rawSelector"), selector.get("requirements"));
        if !raw.is_empty() && !requirements.is_empty() {
            raw.invalid("may not specified at the same time as requirements");
        }
        if raw.is_empty() && requirements.is_empty() {
            let path = selector.path();
            requirements.required(&format!("when {path} is specified, requirements or rawSelector is required"));
        }
        requirements.items().for_each(|item| requirement(&item, name == "labelSelector"));
    }
}

/// Operators that are not known are those of newer clients.
fn requirement(at: &At, of_labels: bool) {
    let (key, values) = (at.get("key"), at.get("values"));
    if !of_labels {
        key.need_because("must be specified");
    }
    match at.get("operator").text() {
        "In" | "NotIn" => {
            values.need_because("must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        _ => {}
    }
    if of_labels {
        key.named(names::qualified_name);
        values.items().for_each(|value| value.named(names::label_value));
    }
}
