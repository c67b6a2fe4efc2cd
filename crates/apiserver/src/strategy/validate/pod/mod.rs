//! Pods and pod templates (`pkg/apis/core/validation`: ValidatePodSpec, ValidatePodTemplateSpec, ValidatePodCreate).

mod annotations;
pub(super) mod container;
mod handlers;
mod overlaps;
mod projected;
mod reported;
pub(super) mod scheduling;
pub(super) mod security;
mod status;
mod update;
pub(super) mod volume;
pub(super) mod warnings;

use std::collections::HashSet;

use api::names;

pub(super) use status::status;
pub(super) use update::{part, update};

use super::{
    at::At,
    common,
    resources::{self, Owner},
};
use crate::admission::amounts::{self, Side};
use container::Surroundings;

/// Whose spec it is.
#[derive(Clone, Copy, Default)]
pub(super) struct Context<'a> {
    /// A pod, not a template.
    pub is_pod: bool,
    /// The pod's name, which the claims of its ephemeral volumes begin with.
    pub name: &'a str,
    /// A mirror pod of a static one.
    pub is_mirror: bool,
    /// Volumes that come from elsewhere: a StatefulSet's claim templates.
    pub claim_templates: Option<At<'a, 'a>>,
}

const MIRROR: &str = "kubernetes.io/config.mirror";

/// What is wrong with a pod at any time.
pub(super) fn pod(at: &At) {
    let spec = at.get("spec");
    let metadata = at.get("metadata");
    let annotations = metadata.get("annotations");
    annotations::check(&annotations, &spec);
    let context = Context {
        is_pod: true,
        name: metadata.get("name").text(),
        is_mirror: annotations.key(MIRROR).is_set(),
        claim_templates: None,
    };
    pod_spec(&spec, &context);
    if spec.get("serviceAccountName").is_empty() {
        for volume in spec.get("volumes").items() {
            for source in volume.get("projected").get("sources").items() {
                let detail = "must not be specified when serviceAccountName is not set";
                source.get("serviceAccountToken").forbid(detail);
            }
        }
    }
    for list in ["containers", "initContainers"] {
        spec.get(list).items().for_each(|container| container::image_is_trimmed(&container));
    }
}

/// `ValidatePodCreate`.
pub(super) fn create(at: &At) {
    pod(at);
    let spec = at.get("spec");
    if !spec.get("ephemeralContainers").is_empty() {
        spec.get("ephemeralContainers").forbidden("cannot be set on create");
    }
    if !spec.get("nodeName").is_empty() && !spec.get("schedulingGates").is_empty() {
        spec.get("nodeName").forbidden("cannot be set until all schedulingGates have been cleared");
    }
    annotations::match_fields(&at.get("metadata").get("annotations"), &spec);
}

/// `ValidatePodTemplateSpec`. Errors of labels stand at `template.labels`, as upstream's do.
pub(super) fn template(at: &At) {
    template_in(at, &Context::default());
}

pub(super) fn template_in(at: &At, context: &Context) {
    template_metadata(at);
    let metadata = at.get("metadata");
    let annotations = metadata.get("annotations");
    let spec = at.get("spec");
    pod_spec(&spec, context);
    annotations::match_fields(&annotations, &spec);
    if !spec.get("ephemeralContainers").is_empty() {
        spec.get("ephemeralContainers").forbidden("ephemeral containers not allowed in pod template");
    }
}

/// A template's labels and annotations.
pub(super) fn template_metadata(at: &At) {
    let metadata = at.get("metadata");
    common::labels(&at.get("labels").holding(&metadata.get("labels")));
    let place = at.get("annotations");
    let place = place.holding(&metadata.get("annotations"));
    common::annotations(&place);
    annotations::check(&place, &at.get("spec"));
}

/// `ValidatePodSpec`.
pub(super) fn pod_spec(spec: &At, context: &Context) {
    let grace = spec.get("terminationGracePeriodSeconds");
    if !grace.is_set() {
        grace.required("");
    }
    let volumes = volume::volumes(&spec.get("volumes"), context);
    resource_claims(&spec.get("resourceClaims"), context);
    let mut claims: Vec<&str> = spec
        .value()
        .get("resourceClaims")
        .and_then(api::Value::as_array)
        .unwrap_or_default()
        .iter()
        .map(|claim| claim.str_at(&["name"]))
        .collect();
    claims.sort_unstable();
    container::all(
        spec,
        &Surroundings {
            volumes: &volumes,
            claims: &claims,
            grace_seconds: grace.int(),
            os: spec.value().str_at(&["os", "name"]),
            host_users: spec.get("hostUsers").value().as_bool().unwrap_or(true),
            never_restarts: spec.get("restartPolicy").text() == "Never",
        },
    );
    pod_resources(spec);
    host_network(spec, context);
    spec.get("restartPolicy").need_one_of(&["Always", "OnFailure", "Never"]);
    spec.get("dnsPolicy").need_one_of(&["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    common::labels(&spec.get("nodeSelector"));
    security::pod(spec);
    scheduling::affinity(&spec.get("affinity"));
    dns_config(&spec.get("dnsConfig"), spec.get("dnsPolicy").text());
    for gate in spec.get("readinessGates").items() {
        gate.get("conditionType").named(names::qualified_name);
    }
    scheduling_gates(&spec.get("schedulingGates"));
    scheduling::topology_spread(&spec.get("topologySpreadConstraints"));
    security::windows_host_process(spec);
    security::host_users(spec);
    host_name(spec, context);
    references(spec);
    spec.get("activeDeadlineSeconds").in_range(1, i32::MAX.into());
    scheduling::tolerations(&spec.get("tolerations"));
    for alias in spec.get("hostAliases").items() {
        common::ip(&alias.get("ip"));
        alias.get("hostnames").items().for_each(|name| name.named(names::dns1123_subdomain));
    }
    preemption_policy(&spec.get("preemptionPolicy"));
    resources::overhead(&spec.get("overhead"));
    security::os(spec);
    container::file_key_volumes(spec);
}

/// `ValidatePreemptionPolicy`.
pub(super) fn preemption_policy(at: &At) {
    if at.is_set() {
        at.need_one_of(&["PreemptLowerPriority", "Never"]);
    }
}

/// Names of other objects.
fn references(spec: &At) {
    for name in ["serviceAccountName", "nodeName", "priorityClassName"] {
        spec.get(name).named_if_set(names::dns1123_subdomain);
    }
    let class = spec.get("runtimeClassName");
    if class.is_set() {
        class.named(names::dns1123_subdomain);
    }
}

fn resource_claims(claims: &At, context: &Context) {
    let mut seen: HashSet<&str> = HashSet::new();
    for claim in claims.items() {
        if context.is_mirror {
            claim.nowhere().forbidden("static pods do not support resource claims");
            continue;
        }
        let name = claim.get("name");
        if name.need() {
            if seen.insert(name.text()) {
                name.named(names::dns1123_label);
            } else {
                name.duplicate();
            }
        }
        let (claim_name, template) = (claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName"));
        match (claim_name.is_set(), template.is_set()) {
            (true, true) => {
                claim.invalid("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified");
            }
            (false, false) => claim.invalid("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
            _ => {}
        }
        for reference in [claim_name, template].iter().filter(|reference| reference.is_set()) {
            reference.named(names::dns1123_subdomain);
        }
    }
}

/// `validatePodResources`: what a pod as a whole asks for.
fn pod_resources(spec: &At) {
    let at = spec.get("resources");
    if !at.is_set() {
        return;
    }
    if spec.value().str_at(&["os", "name"]) == "windows" {
        return at.forbidden("may not be set for a windows pod");
    }
    at.get("claims").forbid("claims may not be set for Resources at pod-level");
    resources::requirements(&at, Owner::Pod, &[]);
    covers_containers(&at, spec);
    let containers = at.get("containers");
    for (index, container) in spec.get("containers").items().enumerate() {
        for (name, limit) in container.get("resources").get("limits").entries() {
            if let (Some(own), Some(whole)) = (limit.quantity(), at.get("limits").key(name).quantity())
                && own > whole
            {
                let detail = format!("must be less than or equal to pod limits of {whole}");
                containers.index(index).key(name).get("limits").invalid_value(own.to_string(), detail);
            }
        }
    }
}

/// A pod asks for what its containers ask for together, at least, and may have their huge pages.
fn covers_containers(at: &At, spec: &At) {
    for (side, what) in [(Side::Requests, "requests"), (Side::Limits, "limits")] {
        for (name, needed) in amounts::of_spec(spec.value(), side) {
            let own = at.get(what);
            let own = own.key(&name);
            let counts = side == Side::Requests || resources::is_huge_pages(&name);
            if let Some(amount) = own.quantity().filter(|amount| counts && needed > *amount) {
                let detail = format!("must be greater than or equal to aggregate container {what} of {needed}");
                own.invalid_value(amount.to_string(), detail);
            }
        }
    }
}

/// `validatePodHostNetworkDeps`.
fn host_network(spec: &At, context: &Context) {
    if !spec.get("hostNetwork").is_true() {
        return;
    }
    for container in spec.get("containers").items() {
        for port in container.get("ports").items() {
            let host = port.get("hostPort").int().unwrap_or(0);
            if (context.is_pod || host != 0) && host != port.get("containerPort").int().unwrap_or(0) {
                port.get("hostPort").invalid_value(host, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_LIST_BYTES_MAX: usize = 2048;

/// `validatePodDNSConfig`.
fn dns_config(at: &At, policy: &str) {
    let servers = at.get("nameservers");
    if policy == "None" {
        if !at.is_set() {
            return at.required("must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if servers.is_empty() {
            return servers.required("must provide at least one DNS nameserver when `dnsPolicy` is None");
        }
    }
    if servers.len() > NAMESERVERS_MAX {
        servers.invalid(format!("must not have more than {NAMESERVERS_MAX} nameservers"));
    }
    servers.items().for_each(|server| common::ip(&server));
    let searches = at.get("searches");
    if searches.len() > SEARCHES_MAX {
        searches.invalid(format!("must not have more than {SEARCHES_MAX} search paths"));
    }
    let bytes: usize = searches.texts().map(|search| search.len() + 1).sum();
    if bytes > SEARCH_LIST_BYTES_MAX + 1 {
        searches.invalid(format!(
            "must not have more than {SEARCH_LIST_BYTES_MAX} characters (including spaces) in the search list"
        ));
    }
    for search in searches.items().filter(|search| search.text() != ".") {
        let text = search.text().strip_suffix('.').unwrap_or(search.text());
        search.problems(text, names::dns1123_subdomain_with_underscore);
    }
    for option in at.get("options").items().filter(|option| option.get("name").is_empty()) {
        option.required("must not be empty");
    }
}

fn scheduling_gates(at: &At) {
    let mut seen: HashSet<&str> = HashSet::new();
    for gate in at.items() {
        let name = gate.get("name").text();
        gate.problems(name, names::qualified_name);
        if !seen.insert(name) {
            gate.duplicate_value(name);
        }
    }
}

fn host_name(spec: &At, context: &Context) {
    let name = spec.get("hostnameOverride");
    if name.is_set() {
        if spec.get("setHostnameAsFQDN").is_true() {
            name.forbidden("may not be specified when setHostnameAsFQDN is true");
        }
        if spec.get("hostNetwork").is_true() {
            name.forbidden("may not be specified when hostNetwork is true");
        }
        name.max_bytes(64);
        name.named(names::dns1123_subdomain);
    }
    // A StatefulSet's pods get host names and a subdomain of their own.
    if context.claim_templates.is_none() {
        spec.get("hostname").named_if_set(names::dns1123_label);
        spec.get("subdomain").named_if_set(names::dns1123_label);
    }
}
