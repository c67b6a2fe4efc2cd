//! StorageVersionMigrations (`pkg/apis/storagemigration/validation`).

use api::names;

use super::{at::At, common};

pub(super) fn check(at: &At) {
    let spec = at.get("spec");
    let target = spec.get("resource");
    let (resource, group) = (target.get("resource"), target.get("group"));
    if resource.need_because("resource is required to be set") {
        named(&resource, names::dns1035_label(resource.text()));
    }
    if !group.is_empty() {
        named(&group, names::dns1123_subdomain(group.text()));
    }
}

fn named(at: &At, problems: Vec<String>) {
    if !problems.is_empty() {
        at.invalid(problems.join(","));
    }
}

pub(super) fn update(at: &At, old: &At) {
    check(at);
    at.get("spec").immutable(&old.get("spec"));
}

pub(super) fn status(at: &At, old: &At) {
    let (status, before) = (at.get("status"), old.get("status"));
    let (version, was, list) = (status.get("resourceVersion"), before.get("resourceVersion"), status.get("conditions"));
    if !version.is_empty() {
        resource_version(&version);
    }
    common::conditions(&list);
    if !was.is_empty() && !version.same(&was) {
        version.invalid_value(version.text(), "field is immutable");
    }
    let is = |status: &At, kind: &str| {
        let list = status.get("conditions");
        let first = list.items().find(|condition| condition.get("type").text() == kind);
        first.is_some_and(|condition| condition.get("status").text() == "True")
    };
    if is(&status, "Succeeded") && is(&status, "Failed") {
        list.invalid("Both success and failed conditions cannot be true at the same time");
    }
    for (kind, name) in [("Succeeded", "Success"), ("Failed", "Failed")] {
        if is(&before, kind) && !is(&status, kind) {
            list.invalid(format!("{name} condition cannot be set to false once it is true"));
        }
    }
}

/// What `CompareResourceVersion` takes: digits, the first of which is not 0.
fn resource_version(at: &At) {
    let text = at.text();
    let is_good = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if !is_good {
        at.invalid(format!("resource version is not well formed: {text}"));
    }
}
