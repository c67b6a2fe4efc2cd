//! ResourceQuotas and LimitRanges (`pkg/apis/core/validation`).

use std::collections::HashSet;

use api::{names, quantity::Quantity};

use super::{
    at::{At, IMMUTABLE},
    resources,
};

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];

fn amounts(at: &At) {
    for (name, amount) in at.entries() {
        resources::quota_resource_name(&amount, name);
        resources::resource_quantity(&amount, name);
    }
}

/// `IsResourceQuotaScopeValidForResource`.
fn scope_fits(scope: &str, resource: &str) -> bool {
    let compute = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ if SCOPES.contains(&scope) => resource == "pods" || compute.contains(&resource),
        _ => true,
    }
}

pub(super) fn check(at: &At) {
    let spec = at.get("spec");
    let hard = spec.get("hard");
    amounts(&hard);
    let misfits = |scope: &str| {
        hard.entries().filter(|(name, _)| resources::is_quota_resource(name) && !scope_fits(scope, name)).count()
    };
    let scopes = spec.get("scopes");
    for scope in scopes.texts() {
        if !SCOPES.contains(&scope) {
            scopes.invalid("unsupported scope");
        }
        (0..misfits(scope)).for_each(|_| scopes.invalid("unsupported scope applied to resource"));
    }
    conflicts(&scopes, &scopes.texts().collect::<Vec<_>>());
    let selector = spec.get("scopeSelector");
    let expressions = selector.get("matchExpressions");
    let mut named: Vec<&str> = Vec::new();
    for requirement in expressions.items() {
        scope_requirement(&expressions, &requirement, &misfits);
        named.push(requirement.value().str_at(&["scopeName"]));
    }
    conflicts(&expressions, &named);
}

fn conflicts(at: &At, scopes: &[&str]) {
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if scopes.contains(&one) && scopes.contains(&other) {
            at.invalid("conflicting scopes");
        }
    }
}

/// Errors stand at the list's members, without an index, as upstream's do.
fn scope_requirement(list: &At, requirement: &At, misfits: &impl Fn(&str) -> usize) {
    let place = list.holding(requirement);
    let (scope, operator, values) = (place.get("scopeName"), place.get("operator"), place.get("values"));
    if !SCOPES.contains(&scope.text()) {
        scope.invalid_value(scope.text(), "unsupported scope");
    }
    (0..misfits(scope.text())).for_each(|_| list.invalid("unsupported scope applied to resource"));
    let exists_only =
        SCOPES.contains(&scope.text()) && !matches!(scope.text(), "PriorityClass" | "VolumeAttributesClass");
    if exists_only && operator.text() != "Exists" {
        operator.invalid_value(operator.text(), "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity");
    }
    match operator.text() {
        "In" | "NotIn" => {
            values.need_because("must be at least one value when `operator` is 'In' or 'NotIn' for scope selector");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            values.invalid("must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector");
        }
        "Exists" | "DoesNotExist" => {}
        other => operator.invalid_value(other, "not a valid selector operator"),
    }
}

pub(super) fn update(at: &At, old: &At) {
    let (spec, before) = (at.get("spec"), old.get("spec"));
    let (scopes, was) = (spec.get("scopes"), before.get("scopes"));
    if scopes.texts().any(|scope| !was.contains(scope)) || was.texts().any(|scope| !scopes.contains(scope)) {
        scopes.invalid(IMMUTABLE);
    }
}

pub(super) fn status(at: &At, _old: &At) {
    let status = at.get("status");
    amounts(&status.get("hard"));
    amounts(&status.get("used"));
}

const MEMBERS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

pub(super) fn limit_range(at: &At) {
    let spec = at.get("spec");
    let limits = spec.get("limits");
    let mut kinds: HashSet<&str> = HashSet::new();
    for limit in limits.items() {
        let kind = limit.get("type");
        let before = kind.errors();
        kind.named(names::qualified_name);
        let is_plain = kind.errors() == before && !kind.text().contains('/');
        if is_plain && !matches!(kind.text(), "Pod" | "Container" | "PersistentVolumeClaim") {
            kind.invalid_value(kind.text(), "must be a standard limit type or fully qualified");
        }
        if !kinds.insert(kind.text()) {
            kind.duplicate_value(kind.text());
        }
        if kind.text() == "Pod" {
            for name in ["default", "defaultRequest"].into_iter().filter(|name| !limit.get(name).is_empty()) {
                limit.get(name).forbidden("may not be specified when `type` is 'Pod'");
            }
        }
        let storage = |name: &str| limit.get(name).key("storage").is_set();
        if kind.text() == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
            let detail = "either minimum or maximum storage value is required, but neither was provided";
            limit.get("limits").required(detail);
        }
        let mut seen: HashSet<&str> = HashSet::new();
        for member in MEMBERS.into_iter().filter(|name| kind.text() != "Pod" || !name.starts_with("default")) {
            for (name, amount) in limit.get(member).entries() {
                match kind.text() {
                    "Pod" | "Container" => resources::container_resource_name(&amount, name),
                    _ => _ = resources::any_resource_name(&amount, name),
                }
                if seen.insert(name) {
                    order(&limit, name);
                }
            }
        }
    }
}

/// What a limit's amounts of one resource have to be to one another.
fn order(limit: &At, name: &str) {
    let amount = |member: &str| limit.get(member).key(name).quantity();
    let [max, min, default, request, ratio] = MEMBERS.map(amount);
    let report = |member: &str, value: Quantity, detail: String| {
        limit.get(member).key(name).invalid_value(value.to_string(), detail);
    };
    let above = |a: Option<Quantity>, b: Option<Quantity>| Some((a?, b?)).filter(|(a, b)| a > b);
    if let Some((min, max)) = above(min, max) {
        report("min", min, format!("min value {min} is greater than max value {max}"));
    }
    if let Some((min, request)) = above(min, request) {
        report("defaultRequest", request, format!("min value {min} is greater than default request value {request}"));
    }
    if let Some((request, max)) = above(request, max) {
        report("defaultRequest", request, format!("default request value {request} is greater than max value {max}"));
    }
    if let Some((request, default)) = above(request, default) {
        let detail = format!("default request value {request} is greater than default limit value {default}");
        report("defaultRequest", request, detail);
    }
    if let Some((min, default)) = above(min, default) {
        report("default", min, format!("min value {min} is greater than default value {default}"));
    }
    if let Some((default, max)) = above(default, max) {
        report("default", max, format!("default value {default} is greater than max value {max}"));
    }
    let Some(ratio) = ratio else { return };
    if ratio < Quantity::new(1, Default::default()) {
        report("maxLimitRequestRatio", ratio, format!("ratio {ratio} is less than 1"));
    }
    if let (Some(min), Some(max)) = (min, max) {
        let most = max.as_f64() / min.as_f64();
        if ratio.as_f64() > most {
            report("maxLimitRequestRatio", ratio, format!("ratio {ratio} is greater than max/min = {most:.6}"));
        }
    }
}
