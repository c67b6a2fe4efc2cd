//! Nodes (`pkg/apis/core/validation`: ValidateNode, ValidateNodeUpdate).

use super::{at::At, common, pod::scheduling, resources};

pub(super) fn check(at: &At) {
    let spec = at.get("spec");
    // Upstream reports taints at the metadata.
    let metadata = at.get("metadata");
    scheduling::taints(&metadata.get("taints").holding(&spec.get("taints")));
    amounts(at);
    let ranges = spec.get("podCIDRs");
    ranges.items().for_each(|range| common::cidr(&range));
    if !common::is_dual_stack(ranges.texts()) {
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

pub(super) fn update(at: &At, old: &At) {
    amounts(at);
    let (spec, before, status) = (at.get("spec"), old.get("spec"), at.get("status"));
    let addresses = status.get("addresses");
    let list = addresses.value().as_array().unwrap_or_default();
    for (index, address) in addresses.items().enumerate() {
        if list[..index].contains(address.value()) {
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
}
