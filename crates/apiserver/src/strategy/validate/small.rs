//! Groups of one or two kinds: policy, scheduling, coordination, discovery and node.

use std::collections::HashSet;

use api::{Value, names};

use super::{
    at::At,
    common,
    pod::{self, scheduling},
    resources,
};

/// `pkg/apis/policy/validation`.
pub(super) fn disruption_budget(at: &At) {
    let spec = at.get("spec");
    let (least, most) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if least.is_set() && most.is_set() {
        spec.invalid("minAvailable and maxUnavailable cannot be both set");
    }
    for amount in [&least, &most].into_iter().filter(|amount| amount.is_set()) {
        common::int_or_percent(amount);
        common::at_most_all(amount);
    }
    common::label_selector(&spec.get("selector"));
    spec.get("unhealthyPodEvictionPolicy").one_of_if_set(&["AlwaysAllow", "IfHealthyBudget"]);
}

pub(super) fn disruption_status(at: &At, _old: &At) {
    let status = at.get("status");
    common::conditions(&status.get("conditions"));
    for name in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        status.get(name).non_negative();
    }
}

/// The highest priority that users may give.
pub(super) const USER_PRIORITY_MAX: i64 = 1_000_000_000;

/// `pkg/apis/scheduling/validation`.
pub(super) fn priority_class(at: &At) {
    let metadata = at.get("metadata");
    let (name, value) = (metadata.get("name"), at.get("value").int().unwrap_or(0));
    let system = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
    if name.text().starts_with("system-") {
        let known = system.iter().find(|(known, _)| *known == name.text());
        let error = match known {
            Some((known, wanted)) if *wanted != value => format!("value of {known} PriorityClass must be {wanted}"),
            Some((known, _)) if at.get("globalDefault").is_true() => {
                format!("globalDefault of {known} PriorityClass must be false")
            }
            Some(_) => String::new(),
            None => format!("{} is not a known system priority class", name.text()),
        };
        if !error.is_empty() {
            name.forbidden(format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {error}"
            ));
        }
    } else if value > USER_PRIORITY_MAX {
        at.get("value").forbidden(format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}"));
    }
    pod::preemption_policy(&at.get("preemptionPolicy"));
}

pub(super) fn priority_class_update(at: &At, old: &At) {
    if at.get("value").int().unwrap_or(0) != old.get("value").int().unwrap_or(0) {
        at.get("value").forbidden("may not be changed in an update.");
    }
    at.get("preemptionPolicy").immutable(&old.get("preemptionPolicy"));
}

/// `pkg/apis/coordination/validation`.
pub(super) fn lease(at: &At) {
    let spec = at.get("spec");
    let duration = spec.get("leaseDurationSeconds");
    if duration.int().is_some_and(|seconds| seconds <= 0) {
        duration.invalid("must be greater than 0");
    }
    spec.get("leaseTransitions").non_negative();
    lease_strategy(&spec);
    if !spec.get("preferredHolder").is_empty() && spec.get("strategy").is_empty() {
        spec.get("preferredHolder").forbidden("may only be specified if `strategy` is defined");
    }
}

/// Errors stand one level too deep, as upstream's do.
fn lease_strategy(spec: &At) {
    let strategy = spec.get("strategy");
    if !strategy.is_set() {
        return;
    }
    let place = strategy.get("strategy");
    let place = place.holding(&strategy);
    if strategy.text().contains('/') {
        place.named(names::qualified_name);
    } else {
        place.one_of(&["OldestEmulationVersion"]);
    }
}

/// Major, minor and patch of a semantic version.
fn version(text: &str) -> Option<[u64; 3]> {
    let core = text.split(['-', '+']).next()?;
    let parts: Vec<u64> = core.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    parts.try_into().ok()
}

pub(super) fn lease_candidate(at: &At) {
    let spec = at.get("spec");
    spec.get("leaseName").need();
    let (emulation, binary, strategy) = (spec.get("emulationVersion"), spec.get("binaryVersion"), spec.get("strategy"));
    binary.need();
    for place in [&emulation, &binary].into_iter().filter(|place| !place.is_empty() && version(place.text()).is_none())
    {
        place.invalid("must be a valid semantic version");
    }
    if let (Some(emulated), Some(own)) = (version(emulation.text()), version(binary.text()))
        && own < emulated
    {
        binary.invalid("must be greater than or equal to `emulationVersion`");
    }
    if strategy.need() {
        if strategy.text() == "OldestEmulationVersion" {
            emulation.need_because("must be specified when `strategy` is 'OldestEmulationVersion'");
        }
        lease_strategy(&spec);
    }
}

pub(super) fn lease_candidate_update(at: &At, old: &At) {
    at.get("spec").get("leaseName").immutable(&old.get("spec").get("leaseName"));
}

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const HINTS_MAX: usize = 8;

/// `pkg/apis/discovery/validation`.
pub(super) fn endpoint_slice(at: &At) {
    let kind = at.get("addressType");
    kind.need_one_of(&["FQDN", "IPv4", "IPv6"]);
    slice_ports(&at.get("ports"));
    let endpoints = at.get("endpoints");
    if !matches!(kind.text(), "FQDN" | "IPv4" | "IPv6") {
        return;
    }
    if endpoints.len() > ENDPOINTS_MAX {
        return endpoints.too_many(ENDPOINTS_MAX);
    }
    for endpoint in endpoints.items() {
        let addresses = endpoint.get("addresses");
        addresses.need_because("must contain at least 1 address");
        if addresses.len() > ADDRESSES_MAX {
            addresses.too_many(ADDRESSES_MAX);
        }
        addresses.items().for_each(|address| slice_address(&addresses, &address, kind.text()));
        let (node, host) = (endpoint.get("nodeName"), endpoint.get("hostname"));
        if node.is_set() {
            node.named(names::dns1123_subdomain);
        }
        if host.is_set() {
            host.named(names::dns1123_label);
        }
        let topology = endpoint.get("deprecatedTopology");
        if topology.len() > 16 {
            topology.too_many(16);
        }
        common::labels(&topology);
        let hints = endpoint.get("hints");
        for (name, check) in
            [("forZones", names::label_value as fn(&str) -> Vec<String>), ("forNodes", names::dns1123_subdomain)]
        {
            let list = hints.get(name);
            if list.len() > HINTS_MAX {
                list.too_many(HINTS_MAX);
                break;
            }
            let mut seen: HashSet<&str> = HashSet::new();
            for hint in list.items() {
                let name = hint.get("name");
                if !seen.insert(name.text()) {
                    name.duplicate_value(name.text());
                }
                name.named(check);
            }
        }
    }
}

fn slice_address(list: &At, address: &At, kind: &str) {
    if kind == "FQDN" {
        return common::fully_qualified_domain(address);
    }
    let before = address.errors();
    common::ip(address);
    if address.errors() > before {
        return;
    }
    let is_four = common::sloppy_ip(address.text()).is_some_and(|ip| ip.is_ipv4());
    if (kind == "IPv4") != is_four {
        list.invalid_value(address.text(), format!("must be an {kind} address"));
    }
    common::endpoint_ip(address);
}

fn slice_ports(ports: &At) {
    if ports.len() > PORTS_MAX {
        return ports.too_many(PORTS_MAX);
    }
    let mut seen: HashSet<&str> = HashSet::new();
    for port in ports.items() {
        let name = port.get("name");
        name.named_if_set(names::dns1123_label);
        if !seen.insert(name.text()) {
            name.duplicate_value(name.text());
        }
        port.get("protocol").one_of(&["SCTP", "TCP", "UDP"]);
        if port.get("appProtocol").is_set() {
            port.get("appProtocol").named(names::qualified_name);
        }
    }
}

/// `pkg/apis/node/validation`.
pub(super) fn runtime_class(at: &At) {
    at.get("handler").need_named(names::dns1123_label);
    let overhead = at.get("overhead");
    resources::overhead(&overhead.holding(&overhead.get("podFixed")));
    let placement = at.get("scheduling");
    common::labels(&placement.get("nodeSelector"));
    let tolerations = placement.get("tolerations");
    scheduling::tolerations(&tolerations);
    let mut seen: HashSet<Value> = HashSet::new();
    for toleration in tolerations.items() {
        let mut key = toleration.value().clone();
        key.take(&["tolerationSeconds"]);
        if !seen.insert(key) {
            toleration.duplicate();
        }
    }
}
