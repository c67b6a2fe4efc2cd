//! What a pod's status may become (`pkg/apis/core/validation`: ValidatePodStatusUpdate).

use std::collections::HashSet;

use api::names;

use super::{annotations, reported};
use crate::strategy::validate::{
    at::{At, IMMUTABLE},
    common,
};

/// Checks a change through the status.
pub(in crate::strategy::validate) fn status(at: &At, old: &At) {
    annotations::update(&at.get("metadata").get("annotations"), &old.get("metadata").get("annotations"));
    let (status, before, spec) = (at.get("status"), old.get("status"), old.get("spec"));
    for condition in status.get("conditions").items() {
        let generation = condition.get("observedGeneration");
        if generation.int().is_some_and(|number| number < 0) {
            generation.invalid("must be a non-negative integer");
        }
        let kind = condition.get("type");
        if !matches!(kind.text(), "PodScheduled" | "Ready" | "Initialized") {
            condition.get("Type").holding(&kind).named(names::qualified_name);
        }
    }
    let nominated = status.get("nominatedNodeName");
    if !nominated.is_empty() && !nominated.same(&before.get("nominatedNodeName")) {
        nominated.named(names::dns1123_subdomain);
        if !spec.get("nodeName").is_empty() {
            nominated.forbidden("may not be set on pods that are already bound to a node");
        }
    }
    let generation = status.get("observedGeneration");
    if generation.int().is_some_and(|number| number < 0) {
        generation.invalid("must be a non-negative integer");
    }
    let class = status.get("qosClass");
    if !class.is_empty() && !class.same(&before.get("qosClass")) {
        class.invalid_value(class.text(), IMMUTABLE);
    }
    transitions(&status, &before, &spec);
    claims(&status, &at.get("spec"));
    reported::extended_claim(&status.get("extendedResourceClaimStatus"), &at.get("spec"));
    reported::node_claims(&status, &at.get("spec"));
    addresses(&status, &before);
    reported::users(&status, &at.get("spec"));
    reported::allocated(&status, &at.get("spec"));
}

/// A container that will not run again stays where it is.
fn transitions(status: &At, before: &At, spec: &At) {
    for (list, containers) in reported::LISTS {
        let statuses = status.get(list);
        let alive = statuses.items().filter(|new| !new.get("state").get("terminated").is_set());
        let alive: HashSet<&str> = alive.map(|new| new.value().str_at(&["name"])).collect();
        let own = spec.get(containers);
        let own = own.by("name");
        let whole = !containers.is_empty() && restarts_as_a_whole(spec);
        for (index, old) in before.get(list).items().enumerate() {
            let state = old.get("state");
            let ended = state.get("terminated");
            let name = old.get("name").text();
            if !ended.is_set() || !alive.contains(name) {
                continue;
            }
            let code = ended.get("exitCode").int().unwrap_or(0);
            let may_restart = own.get(name).is_some_and(|container| may_restart(container, spec, code));
            if !may_restart && !whole {
                statuses.index(index).get("state").forbidden("may not be transitioned to non-terminated state");
            }
        }
    }
}

/// `ContainerShouldRestart`.
fn may_restart(container: &At, spec: &At, code: i64) -> bool {
    for rule in container.get("restartPolicyRules").items() {
        let codes = rule.get("exitCodes");
        let listed = codes.get("values").items().any(|value| value.int() == Some(code));
        if listed == (codes.get("operator").text() == "In") {
            return true;
        }
    }
    let own = container.get("restartPolicy");
    match if own.is_set() { own.text() } else { spec.get("restartPolicy").text() } {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

/// Whether some container's end restarts all of them.
fn restarts_as_a_whole(spec: &At) -> bool {
    ["containers", "initContainers"].iter().any(|list| {
        spec.get(list).items().any(|container| {
            container.get("restartPolicyRules").items().any(|rule| rule.get("action").text() == "RestartAllContainers")
        })
    })
}

fn claims(status: &At, spec: &At) {
    let known = spec.get("resourceClaims");
    let known = known.by("name");
    let mut seen: HashSet<&str> = HashSet::new();
    for claim in status.get("resourceClaimStatuses").items() {
        let name = claim.get("name");
        if !known.contains_key(name.text()) {
            name.invalid("must match the name of an entry in `spec.resourceClaims`");
        }
        if !seen.insert(name.text()) {
            name.duplicate();
        }
        if claim.get("resourceClaimName").is_set() {
            claim.get("resourceClaimName").named(names::dns1123_subdomain);
        }
    }
}

fn addresses(status: &At, before: &At) {
    for name in ["podIPs", "hostIPs"] {
        let list = status.get(name);
        if name == "hostIPs" && !list.is_empty() && list.index(0).get("ip").text() != status.get("hostIP").text() {
            list.index(0).get("ip").invalid("must be equal to `hostIP`");
        }
        for address in list.items() {
            common::ip_unless_old(&address.holding(&address.get("ip")), &before.get(name), "ip");
        }
        let all: Vec<String> = list.items().map(|address| address.get("ip").text().to_owned()).collect();
        if !common::is_dual_stack(all.iter().map(String::as_str)) {
            list.invalid("may specify no more than one IP for each IP family");
        }
    }
}
