//! Cells of events, quotas, roles, certificates, admission and the server's own objects.

use jiff::Timestamp;

use crate::table::cells::{at, condition, is_true, items, selector, since, text_or};
use crate::table::duration;
use crate::value::Value;

type Cell = Value;

/// The first of several paths where something is: the two kinds of events name their members differently.
fn either<'v>(object: &'v Value, paths: &[&str]) -> Option<&'v Value> {
    paths.iter().find_map(|path| at(object, path))
}

fn time_of(object: &Value, paths: &[&str], now: Timestamp) -> String {
    since(either(object, paths).and_then(Value::as_str).unwrap_or_default(), now)
}

pub fn event_first_seen(event: &Value, now: Timestamp) -> Cell {
    time_of(event, &["firstTimestamp", "deprecatedFirstTimestamp", "eventTime"], now).into()
}

pub fn event_last_seen(event: &Value, now: Timestamp) -> Cell {
    if at(event, "series").is_some() {
        return time_of(event, &["series.lastObservedTime"], now).into();
    }
    let paths = ["lastTimestamp", "deprecatedLastTimestamp", "firstTimestamp", "deprecatedFirstTimestamp", "eventTime"];
    time_of(event, &paths, now).into()
}

pub fn event_count(event: &Value, _now: Timestamp) -> Cell {
    let path = if at(event, "series").is_some() { ["series.count"].as_slice() } else { &["count", "deprecatedCount"] };
    match either(event, path).and_then(Value::as_i64) {
        Some(0) | None if path.len() > 1 => 1,
        count => count.unwrap_or_default(),
    }
    .into()
}

pub fn event_object(event: &Value, _now: Timestamp) -> Cell {
    let Some(object) = either(event, &["involvedObject", "regarding"]) else { return "".into() };
    let kind = object.str_at(&["kind"]).to_lowercase();
    match object.str_at(&["name"]) {
        "" => kind.into(),
        name => format!("{kind}/{name}").into(),
    }
}

pub fn event_subobject(event: &Value, _now: Timestamp) -> Cell {
    text_or(either(event, &["involvedObject.fieldPath", "regarding.fieldPath"]), "").into()
}

pub fn event_source(event: &Value, _now: Timestamp) -> Cell {
    let first = |paths: &[&str]| {
        let texts = paths.iter().map(|path| text_or(at(event, path), ""));
        texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
    };
    let component =
        first(&["source.component", "deprecatedSource.component", "reportingComponent", "reportingController"]);
    let instance = first(&["source.host", "deprecatedSource.host", "reportingInstance"]);
    if instance.is_empty() { component.into() } else { format!("{component}, {instance}").into() }
}

pub fn event_message(event: &Value, _now: Timestamp) -> Cell {
    text_or(either(event, &["message", "note"]), "").trim().into()
}

pub fn config_map_keys(map: &Value, _now: Timestamp) -> Cell {
    let keys = |name| at(map, name).and_then(Value::as_object).map_or(0, |data| data.len());
    ((keys("data") + keys("binaryData")) as i64).into()
}

fn quota(object: &Value, of_limits: bool) -> Cell {
    let hard = at(object, "status.hard").and_then(Value::as_object);
    let mut lines: Vec<String> = hard
        .into_iter()
        .flat_map(|hard| hard.iter())
        .filter(|(name, _)| name.starts_with("limits.") == of_limits)
        .map(|(name, hard)| {
            let used = object.at(&["status", "used", name]);
            format!("{name}: {}/{}", text_or(used, "0"), text_or(Some(hard), "0"))
        })
        .collect();
    lines.sort_unstable();
    lines.join(", ").into()
}

pub fn quota_requests(object: &Value, _now: Timestamp) -> Cell {
    quota(object, false)
}

pub fn quota_limits(object: &Value, _now: Timestamp) -> Cell {
    quota(object, true)
}

pub fn role(binding: &Value, _now: Timestamp) -> Cell {
    format!("{}/{}", binding.str_at(&["roleRef", "kind"]), binding.str_at(&["roleRef", "name"])).into()
}

pub fn subjects(binding: &Value, kind: &str) -> Cell {
    let subjects = items(binding, &["subjects"]).iter().filter(|subject| subject.str_at(&["kind"]) == kind);
    let name = |subject: &Value| match kind {
        "ServiceAccount" => format!("{}/{}", subject.str_at(&["namespace"]), subject.str_at(&["name"])),
        _ => subject.str_at(&["name"]).to_owned(),
    };
    subjects.map(name).collect::<Vec<_>>().join(", ").into()
}

pub fn requested_duration(request: &Value, _now: Timestamp) -> Cell {
    match at(request, "spec.expirationSeconds").and_then(Value::as_i64) {
        Some(seconds) => duration::human(seconds).into(),
        None => "<none>".into(),
    }
}

pub fn signing_status(request: &Value, _now: Timestamp) -> Cell {
    let has = |kind| condition(request, kind).is_some();
    let decision = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if request.str_at(&["status", "certificate"]).is_empty() { "" } else { ",Issued" };
    format!("{decision}{failed}{issued}").into()
}

pub fn pod_certificate_state(request: &Value, _now: Timestamp) -> Cell {
    let kinds = items(request, &["status", "conditions"]).iter().map(|condition| condition.str_at(&["type"]));
    kinds.rev().find(|kind| matches!(*kind, "Issued" | "Denied" | "Failed")).unwrap_or("Pending").into()
}

fn component(status: &Value) -> Option<&Value> {
    items(status, &["conditions"]).iter().find(|condition| condition.str_at(&["type"]) == "Healthy")
}

pub fn component_status(status: &Value, _now: Timestamp) -> Cell {
    match component(status).map(|healthy| healthy.str_at(&["status"])) {
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    }
    .into()
}

pub fn component_message(status: &Value, _now: Timestamp) -> Cell {
    component(status).map_or("", |healthy| healthy.str_at(&["message"])).into()
}

pub fn component_error(status: &Value, _now: Timestamp) -> Cell {
    component(status).map_or("", |healthy| healthy.str_at(&["error"])).into()
}

pub fn param_kind(policy: &Value, _now: Timestamp) -> Cell {
    match at(policy, "spec.paramKind") {
        Some(kind) => format!("{}/{}", kind.str_at(&["apiVersion"]), kind.str_at(&["kind"])).into(),
        None => "<unset>".into(),
    }
}

pub fn param_ref(binding: &Value, _now: Timestamp) -> Cell {
    let Some(params) = at(binding, "spec.paramRef") else { return "<unset>".into() };
    match (params.str_at(&["name"]), at(params, "selector")) {
        ("", None) => "<unset>".into(),
        ("", Some(wanted)) => selector(Some(wanted)).into(),
        // Without a namespace it cannot be told here whether the parameter has one.
        (name, _) => format!("{}/{name}", text_or(params.get("namespace"), "*")).into(),
    }
}

pub fn missing_priority_level(schema: &Value, _now: Timestamp) -> Cell {
    condition(schema, "Dangling").map_or("?", |dangling| dangling.str_at(&["status"])).into()
}

pub fn api_service(service: &Value, _now: Timestamp) -> Cell {
    match at(service, "spec.service") {
        Some(service) => format!("{}/{}", service.str_at(&["namespace"]), service.str_at(&["name"])).into(),
        None => "Local".into(),
    }
}

pub fn api_service_available(service: &Value, _now: Timestamp) -> Cell {
    let Some(available) = condition(service, "Available") else { return "Unknown".into() };
    match (available.str_at(&["status"]), available.str_at(&["reason"])) {
        (status @ "True", _) | (status, "") => status.into(),
        (status, reason) => format!("{status} ({reason})").into(),
    }
}

pub fn storage_versions(version: &Value, _now: Timestamp) -> Cell {
    let entry = |entry: &Value| format!("{}={}", entry.str_at(&["apiServerID"]), entry.str_at(&["encodingVersion"]));
    let entries = items(version, &["status", "storageVersions"]).iter().map(entry).collect();
    crate::table::cells::first_few(entries, 3, ",", "<unset>").into()
}

pub fn migrated(migration: &Value, _now: Timestamp) -> Cell {
    let part = |name| migration.str_at(&["spec", "resource", name]);
    crate::status::qualified(part("group"), part("resource")).into()
}

pub fn migration_status(migration: &Value, _now: Timestamp) -> Cell {
    ["Succeeded", "Failed", "Running"].into_iter().find(|kind| is_true(migration, kind)).unwrap_or("Unknown").into()
}
