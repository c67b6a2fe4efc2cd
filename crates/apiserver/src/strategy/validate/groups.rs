//! Workloads and PodGroups: what the `+k8s:` tags of scheduling/v1alpha2 `types.go` say, and `pkg/apis/scheduling/validation`.

use std::collections::HashSet;

use api::{Value, names};

use super::{
    at::{At, IMMUTABLE},
    common,
    devices::list,
    small::USER_PRIORITY_MAX,
};

const TEMPLATES_MAX: usize = 8;
const CLAIMS_MAX: usize = 4;

/// The lists of declarative rules: not too long, each name once, then every item.
fn map(at: &At, max: usize, check: impl Fn(&At)) {
    if at.len() > max {
        return at.too_many(max);
    }
    let mut seen: HashSet<&str> = HashSet::new();
    for item in at.items() {
        let name = item.get("name").text();
        if !seen.insert(name) {
            item.duplicate();
        }
    }
    at.items().for_each(|item| check(&item));
}

/// One of these members and no other is set.
fn one_member(at: &At, members: &[&str]) {
    let set: Vec<&str> = members.iter().copied().filter(|name| at.get(name).is_set()).collect();
    let quoted: Vec<String> = members.iter().map(|name| format!("`{name}`")).collect();
    match set.len() {
        0 => at.invalid_value("", format!("must specify one of: {}", quoted.join(", "))),
        1 => {}
        _ => {
            let detail = format!("must specify exactly one of: {}", quoted.join(", "));
            at.invalid_value(format!("{{{}}}", set.join(", ")), detail);
        }
    }
}

/// Upstream does not show what was changed.
fn stays(at: &At, old: &At) {
    if !at.same(old) {
        at.invalid_value(Value::Null, IMMUTABLE);
    }
}

/// What a group and the template of one have in common.
fn group(at: &At) {
    let policy = at.get("schedulingPolicy");
    one_member(&policy, &["basic", "gang"]);
    let gang = policy.get("gang");
    if gang.is_set() {
        match gang.get("minCount").int().unwrap_or(0) {
            0 => gang.get("minCount").required(""),
            1.. => {}
            _ => gang.get("minCount").invalid("must be greater than or equal to 1"),
        }
    }
    let constraints = at.get("schedulingConstraints");
    list(&constraints.get("topology"), 1, |constraint| constraint.get("key").need_named(names::qualified_name));
    map(&at.get("resourceClaims"), CLAIMS_MAX, claim);
    at.get("disruptionMode").one_of_if_set(&["Pod", "PodGroup"]);
    at.get("priorityClassName").named_if_set(names::dns1123_subdomain);
    let priority = at.get("priority");
    if priority.int().is_some_and(|number| number > USER_PRIORITY_MAX) {
        priority.invalid(format!("must be less than or equal to {USER_PRIORITY_MAX}"));
    }
}

fn claim(at: &At) {
    const SOURCES: [&str; 2] = ["resourceClaimName", "resourceClaimTemplateName"];
    one_member(at, &SOURCES);
    at.get("name").need_named(names::dns1123_label);
    for source in SOURCES.iter().map(|name| at.get(name)).filter(|source| source.is_set()) {
        source.named(names::dns1123_subdomain);
    }
}

pub(super) fn workload(at: &At) {
    let spec = at.get("spec");
    let owner = spec.get("controllerRef");
    if owner.is_set() {
        owner.get("apiGroup").named_if_set(names::dns1123_subdomain);
        owner.get("kind").need_named(names::path_segment_name);
        owner.get("name").need_named(names::path_segment_name);
    }
    let templates = spec.get("podGroupTemplates");
    templates.need();
    map(&templates, TEMPLATES_MAX, |template| {
        template.get("name").need_named(names::dns1123_label);
        group(template);
    });
}

pub(super) fn workload_update(at: &At, old: &At) {
    for name in ["controllerRef", "podGroupTemplates"] {
        stays(&at.get("spec").get(name), &old.get("spec").get(name));
    }
}

pub(super) fn pod_group(at: &At) {
    let spec = at.get("spec");
    let template = spec.get("podGroupTemplateRef");
    if template.is_set() {
        one_member(&template, &["workload"]);
        let workload = template.get("workload");
        if workload.is_set() {
            workload.get("workloadName").need_named(names::dns1123_subdomain);
            workload.get("podGroupTemplateName").need_named(names::dns1123_label);
        }
    }
    group(&spec);
}

pub(super) fn pod_group_update(at: &At, old: &At) {
    for name in [
        "podGroupTemplateRef",
        "schedulingPolicy",
        "schedulingConstraints",
        "resourceClaims",
        "disruptionMode",
        "priorityClassName",
        "priority",
    ] {
        stays(&at.get("spec").get(name), &old.get("spec").get(name));
    }
}

pub(super) fn pod_group_status(at: &At, old: &At) {
    let status = at.get("status");
    common::conditions(&status.get("conditions"));
    let (spec, statuses) = (at.get("spec"), status.get("resourceClaimStatuses"));
    let claims = spec.get("resourceClaims");
    let claims = claims.by("name");
    for name in statuses.items() {
        let name = name.get("name");
        if !claims.contains_key(name.text()) {
            name.invalid("must match the name of an entry in `spec.resourceClaims`");
        }
    }
    if statuses.same(&old.get("status").get("resourceClaimStatuses")) {
        return;
    }
    map(&statuses, CLAIMS_MAX, |status| {
        if status.get("resourceClaimName").is_set() {
            status.get("resourceClaimName").named(names::dns1123_subdomain);
        }
    });
}
