//! Resource names and quantities, and requests and limits (`pkg/apis/core/validation`, `pkg/apis/core/helper`).

use std::collections::{HashMap, HashSet};

use api::{names, quantity::Quantity};

use super::at::{At, NEGATIVE};

const COMPUTE: [&str; 9] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

pub(super) fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_quota_huge_pages(name: &str) -> bool {
    is_huge_pages(name.strip_prefix("requests.").unwrap_or(name))
}

pub(super) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// `IsExtendedResourceName`.
pub(super) fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether requests may be below limits.
fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

/// `IsStandardQuotaResourceName`.
pub(super) fn is_quota_resource(name: &str) -> bool {
    COMPUTE.contains(&name) || COUNTED.contains(&name) || name == "requests.storage" || is_quota_huge_pages(name)
}

/// `validateResourceName`, with the rule for names without a domain: what they have to be, and what is said otherwise.
fn resource_name(at: &At, name: &str, is_standard: impl Fn(&str) -> bool, otherwise: &str) -> bool {
    let problems = names::qualified_name(name);
    if !problems.is_empty() {
        at.problems(name, names::qualified_name);
        if !otherwise.is_empty() {
            at.invalid_value(name, otherwise);
        }
        return false;
    }
    let plain = !name.contains('/');
    let known = COMPUTE.contains(&name) || COUNTED.contains(&name) || name == "storage" || name == "requests.storage";
    if plain && !known && !is_quota_huge_pages(name) {
        at.invalid_value(name, "must be a standard resource type or fully qualified");
    }
    if plain && !is_standard(name) {
        at.invalid_value(name, otherwise);
        return false;
    }
    true
}

/// `validateContainerResourceName`.
pub(super) fn container_resource_name(at: &At, name: &str) {
    let standard = |name: &str| matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_pages(name);
    let fine = resource_name(at, name, standard, "must be a standard resource for containers");
    if fine && name.contains('/') && !is_native(name) && !is_extended(name) {
        at.invalid_value(name, "doesn't follow extended resource name standard");
    }
}

/// `ValidateResourceQuotaResourceName`.
pub(super) fn quota_resource_name(at: &At, name: &str) {
    resource_name(at, name, is_quota_resource, "must be a standard resource for quota");
}

/// `validateResourceName`; whether it is one.
pub(super) fn any_resource_name(at: &At, name: &str) -> bool {
    let before = at.errors();
    resource_name(at, name, |_| true, "");
    at.errors() == before
}

/// `ValidateResourceQuantityValue`.
pub(super) fn resource_quantity(at: &At, name: &str) {
    non_negative_quantity(at);
    let Some(quantity) = at.quantity() else { return };
    if (COUNTED.contains(&name) || is_extended(name))
        && quantity.as_i64().is_none()
        && quantity.milli_value() % 1000 != 0
    {
        at.invalid_value(quantity.to_string(), "must be an integer");
    }
}

/// `ValidateNonnegativeQuantity`.
pub(super) fn non_negative_quantity(at: &At) {
    if let Some(quantity) = at.quantity().filter(|quantity| quantity.is_negative()) {
        at.invalid_value(quantity.to_string(), NEGATIVE);
    }
}

/// `ValidatePositiveQuantityValue`.
pub(super) fn positive_quantity(at: &At) -> bool {
    let bad = at.quantity().filter(|quantity| !quantity.is_positive());
    if let Some(quantity) = bad {
        at.invalid_value(quantity.to_string(), "must be greater than zero");
    }
    bad.is_none()
}

fn huge_pages_divide(at: &At, name: &str) {
    let Some(size) = name.strip_prefix("hugepages-") else { return };
    let Some(quantity) = at.quantity() else { return };
    let page = Quantity::parse(size).ok().filter(|page| page.is_positive()).map_or(0, Quantity::value);
    if page == 0 || quantity.value() % page != 0 {
        at.invalid_value(quantity.to_string(), format!("{quantity} is not positive integer multiple of {name}"));
    }
}

/// Whose resources they are decides on their names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Container,
    Pod,
}

const POD_LEVEL: [&str; 3] = ["cpu", "hugepages-", "memory"];

fn name_of(owner: Owner, at: &At, name: &str) {
    let is_pod_level = matches!(name, "cpu" | "memory") || is_huge_pages(name);
    match owner {
        Owner::Container => container_resource_name(at, name),
        Owner::Pod if any_resource_name(at, name) && !is_pod_level => at.not_supported_value(name, &POD_LEVEL),
        Owner::Pod => {}
    }
}

/// `validateResourceRequirements`: `claims` are the names of the pod's resource claims, sorted.
pub(super) fn requirements(at: &At, owner: Owner, claims: &[&str]) {
    if at.is_empty() {
        return;
    }
    let (limits, requests) = (at.get("limits"), at.get("requests"));
    for (name, limit) in limits.entries() {
        amount(&limit, name, owner);
        huge_pages_divide(&limit, name);
    }
    for (name, request) in requests.entries() {
        amount(&request, name, owner);
        let limit = limits.key(name);
        match (request.quantity(), limit.quantity()) {
            (Some(request), Some(limit)) if request != limit && !may_overcommit(name) => {
                requests.invalid_value(request.to_string(), format!("must be equal to {name} limit of {limit}"));
            }
            (Some(request), Some(limit)) if request > limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                requests.invalid_value(request.to_string(), detail);
            }
            (_, None) if !may_overcommit(name) => limits.required("Limit must be set for non overcommitable resources"),
            _ => {}
        }
        huge_pages_divide(&request, name);
    }
    huge_pages_need_more(at, &[&limits, &requests]);
    claim_names(&at.get("claims"), claims);
}

/// `validateOverhead`: limits by another name.
pub(super) fn overhead(at: &At) {
    let limits = at.get("limits");
    let limits = limits.holding(at);
    for (name, limit) in limits.entries() {
        amount(&limit, name, Owner::Container);
        huge_pages_divide(&limit, name);
    }
    huge_pages_need_more(at, &[&limits]);
}

fn huge_pages_need_more(at: &At, lists: &[&At]) {
    let names = || lists.iter().flat_map(|list| list.entries()).map(|(name, _)| name);
    if names().any(is_huge_pages) && !names().any(|name| matches!(name, "cpu" | "memory")) {
        at.forbidden("HugePages require cpu or memory");
    }
}

fn amount(at: &At, name: &str, owner: Owner) {
    name_of(owner, at, name);
    resource_quantity(at, name);
}

/// `validateResourceClaimNames`.
fn claim_names(at: &At, known: &[&str]) {
    let mut seen: HashMap<&str, HashSet<&str>> = HashMap::new();
    let one_of_them = || {
        let rest = if known.is_empty() { " which is empty".to_owned() } else { format!(": {}", known.join(", ")) };
        format!("must be one of the names in pod.spec.resourceClaims{rest}")
    };
    let mut why = None;
    for claim in at.items() {
        let (name, request) = (claim.get("name").text(), claim.get("request").text());
        if name.is_empty() {
            claim.required("");
            continue;
        }
        claim.get("request").named_if_set(names::dns1123_label);
        let requests = seen.entry(name).or_default();
        let whole = request.is_empty() || requests.contains("");
        if requests.contains(request) || (whole && !requests.is_empty()) {
            claim.duplicate_value(if whole { name.to_owned() } else { format!("{name}/{request}") });
        }
        requests.insert(request);
        if known.binary_search(&name).is_err() {
            claim.not_found_because(name, why.get_or_insert_with(one_of_them).clone());
        }
    }
}
