//! Nodes (`pkg/apis/core/validation`: ValidateNode, ValidateNodeUpdate).

use std::collections::HashSet;

use api::{Value, names};

use super::{at::At, common, pod::scheduling, resources};

/// Upstream reports taints at the metadata.
fn taints(at: &At) {
    let (metadata, spec) = (at.get("metadata"), at.get("spec"));
    scheduling::taints(&metadata.get("taints").holding(&spec.get("taints")));
}

pub(super) fn check(at: &At) {
    let (metadata, spec, status) = (at.get("metadata"), at.get("spec"), at.get("status"));
    taints(at);
    amounts(at);
    // And the size of what is swapped to.
    let (info, place) = (status.get("nodeInfo"), metadata.get("nodeSwapStatus"));
    let (swap, size) = (info.get("swap"), place.get("capacity"));
    if swap.get("capacity").is_set() {
        size.holding(&swap.get("capacity")).positive();
    }
    features(&status.get("declaredFeatures"));
    let ranges = spec.get("podCIDRs");
    ranges.items().for_each(|range| common::cidr(&range));
    if ranges.len() > 1 && !common::is_dual_stack(ranges.texts()) {
        ranges.invalid("may specify no more than one CIDR for each IP family");
    }
}

fn amounts(at: &At) {
    let status = at.get("status");
    for list in ["capacity", "allocatable"] {
        let list = status.get(list);
        for (name, amount) in list.entries() {
            resources::resource_quantity(&list.get(name).holding(&amount), name);
        }
    }
}

/// `validateNodeDeclaredFeatures`: names in order, each once.
fn features(at: &At) {
    let list: Vec<&str> = at.items().map(|feature| feature.text()).collect();
    for (index, feature) in at.items().enumerate() {
        let (name, first) = (feature.text(), feature.text().split('/').next().unwrap_or_default());
        let is_part = |part: &str| {
            part.starts_with(|byte: char| byte.is_ascii_alphabetic())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        if name.len() > names::SUBDOMAIN_MAX {
            let max = names::SUBDOMAIN_MAX;
            feature.invalid(format!("invalid feature name {name:?}: must be no more than {max} characters"));
        } else if !first.starts_with(|byte: char| byte.is_ascii_uppercase()) || !name.split('/').all(is_part) {
            feature.invalid(format!("invalid feature name {name:?}: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"));
        }
        let Some(next) = list.get(index + 1) else { continue };
        match name.cmp(next) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => at.index(index + 1).duplicate(),
            std::cmp::Ordering::Greater => at.index(index + 1).invalid("list must be sorted alphabetically"),
        }
    }
}

/// Where a kubelet of old took its configuration from; in a status it says which version of it that was.
fn config_source(at: &At, in_status: bool) {
    let map = at.get("configMap");
    if !map.is_set() {
        return at.invalid("exactly one reference subfield must be non-nil");
    }
    for name in ["uid", "resourceVersion"] {
        let place = map.get(name);
        if in_status {
            place.need();
        } else if !place.is_empty() {
            place.forbidden(format!("{name} must not be set in spec"));
        }
    }
    map.get("namespace").need_named(names::dns1123_label);
    map.get("name").need_named(names::dns1123_subdomain);
    map.get("kubeletConfigKey").need_named(names::config_map_key);
}

pub(super) fn update(at: &At, old: &At) {
    amounts(at);
    features(&at.get("status").get("declaredFeatures"));
    let (spec, before, status) = (at.get("spec"), old.get("spec"), at.get("status"));
    let addresses = status.get("addresses");
    let mut seen: HashSet<&Value> = HashSet::new();
    for address in addresses.items() {
        if !seen.insert(address.value()) {
            address.duplicate();
        }
    }
    let ranges = before.get("podCIDRs");
    if !ranges.is_empty() && !ranges.same(&spec.get("podCIDRs")) {
        spec.get("podCIDRs").forbidden("node updates may not change podCIDR except from \"\" to valid");
    }
    let provider = before.get("providerID");
    if !provider.is_empty() && !provider.same(&spec.get("providerID")) {
        spec.get("providerID").forbidden("node updates may not change providerID except from \"\" to valid");
    }
    if spec.get("configSource").is_set() {
        config_source(&spec.get("configSource"), false);
    }
    let config = status.get("config");
    for source in ["assigned", "active", "lastKnownGood"] {
        if config.get(source).is_set() {
            config_source(&config.get(source), true);
        }
    }
    taints(at);
    if !spec.get("externalID").same(&before.get("externalID")) {
        spec.get("externalID").forbidden("may not be updated");
    }
}
