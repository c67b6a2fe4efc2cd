//! What is checked of events (`pkg/apis/core/validation/events.go`): little of the core group's, which old clients write, and
//! more of those that are written through events.k8s.io. Paths are those of the stored form, as upstream's are.

use api::{Value, model::Gvk, names, status::FieldError};

const REPORTING_INSTANCE_MAX: usize = 128;
const ACTION_MAX: usize = 128;
const REASON_MAX: usize = 128;
const MESSAGE_MAX: usize = 1024;

pub(in crate::strategy) fn validate(served: &Gvk, event: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let is_core = served.group.is_empty();
    let mut errors = if is_set(event, "eventTime") {
        reported(event, if is_core { "reportingComponent" } else { "reportingController" })
    } else {
        placed(event)
    };
    if is_core {
        return errors;
    }
    match old {
        None => errors.extend(created(event)),
        Some(old) => errors.extend(changed(event, old)),
    }
    errors
}

fn is_set(event: &Value, name: &str) -> bool {
    event.get(name).is_some_and(|value| !value.is_null() && value.as_str() != Some(""))
}

fn invalid(field: &str, detail: impl Into<String>) -> FieldError {
    FieldError::invalid(field, "", detail.into())
}

fn misplaced(involved: &str) -> FieldError {
    FieldError::invalid("involvedObject.namespace", involved, "does not match event.namespace")
}

/// An event of old: it lives beside what it is about.
fn placed(event: &Value) -> Vec<FieldError> {
    let (namespace, involved) = places(event);
    let fits = if involved.is_empty() { matches!(namespace, "" | "default") } else { involved == namespace };
    if fits { Vec::new() } else { vec![misplaced(involved)] }
}

fn places(event: &Value) -> (&str, &str) {
    (event.str_at(&["metadata", "namespace"]), event.str_at(&["involvedObject", "namespace"]))
}

/// An event of today says who reports what. `controller` is what the version calls the reporter.
fn reported(event: &Value, controller: &str) -> Vec<FieldError> {
    let (namespace, involved) = places(event);
    let mut errors = Vec::new();
    if involved.is_empty() && !matches!(namespace, "default" | "kube-system") {
        errors.push(misplaced(involved));
    }
    let reporter = event.str_at(&["reportingComponent"]);
    if reporter.is_empty() {
        errors.push(FieldError::required(controller, ""));
    }
    let problems = names::qualified_name(reporter);
    errors.extend(problems.into_iter().map(|problem| FieldError::invalid(controller, reporter, problem)));
    for (name, max) in [("reportingInstance", REPORTING_INSTANCE_MAX), ("action", ACTION_MAX), ("reason", REASON_MAX)] {
        let text = event.str_at(&[name]);
        if text.is_empty() {
            errors.push(FieldError::required(name, ""));
        }
        if text.len() > max {
            errors.push(invalid(name, format!("can have at most {max} characters")));
        }
    }
    if event.str_at(&["message"]).len() > MESSAGE_MAX {
        errors.push(invalid("message", format!("can have at most {MESSAGE_MAX} characters")));
    }
    errors
}

fn created(event: &Value) -> Vec<FieldError> {
    let name = event.str_at(&["metadata", "name"]);
    let problems = names::dns1123_subdomain(name);
    let mut errors: Vec<FieldError> =
        problems.into_iter().map(|problem| FieldError::invalid("metadata.name", name, problem)).collect();
    errors.extend(series(event));
    if !is_set(event, "eventTime") {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = event.str_at(&["type"]);
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(invalid("type", format!("has invalid value: {kind}")));
    }
    let source = ["component", "host"].map(|name| event.str_at(&["source", name]));
    let old = [
        ("firstTimestamp", is_set(event, "firstTimestamp")),
        ("lastTimestamp", is_set(event, "lastTimestamp")),
        ("count", event.get("count").and_then(Value::as_i64).unwrap_or(0) != 0),
        ("source", source.iter().any(|text| !text.is_empty())),
    ];
    let set = old.iter().filter(|(_, is_set)| *is_set);
    errors.extend(set.map(|(name, _)| invalid(name, "needs to be unset")));
    errors
}

fn changed(event: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = if event.get("series") == old.get("series") { Vec::new() } else { series(event) };
    for name in [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        // Upstream says so twice.
        "reason",
        "type",
        "eventTime",
        "action",
        "related",
        "reportingComponent",
        "reportingInstance",
    ] {
        if event.get(name) == old.get(name) {
            continue;
        }
        let field = if name == "reportingComponent" { "reportingController" } else { name };
        let value = event.get(name).cloned().unwrap_or_default();
        errors.push(FieldError::invalid(field, value, "field is immutable"));
    }
    errors
}

fn series(event: &Value) -> Vec<FieldError> {
    let Some(series) = event.get("series").filter(|series| !series.is_null()) else { return Vec::new() };
    let mut errors = Vec::new();
    if series.get("count").and_then(Value::as_i64).unwrap_or(0) < 2 {
        errors.push(invalid("series.count", "should be at least 2"));
    }
    if !is_set(series, "lastObservedTime") {
        errors.push(FieldError::required("series.lastObservedTime", ""));
    }
    errors
}
