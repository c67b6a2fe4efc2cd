//! What a kubelet reports of containers and claims in a pod's status (`pkg/apis/core/validation`:
//! validateContainerStatusUsers, validateContainerStatusAllocatedResourcesStatus, validatePodExtendedResourceClaimStatus,
//! validateNodeAllocatableResourceClaimStatus).

use std::collections::HashSet;

use api::names;

use crate::strategy::validate::{at::At, resources::is_native};

const HEALTH_MESSAGE_BYTES_MAX: usize = 1024;

/// Lists of statuses, and the containers that they are about: ephemeral ones have no resources.
pub(super) const LISTS: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", ""),
];

/// Who containers run as.
pub(super) fn users(status: &At, spec: &At) {
    let system = spec.get("os").get("name").text();
    for (list, _) in LISTS {
        for container in status.get(list).items() {
            let user = container.get("user");
            let user = user.get("linux");
            match system {
                "windows" => user.forbid("cannot be set for a windows pod"),
                "linux" | "" if user.is_set() => linux_user(&user),
                _ => {}
            }
        }
    }
}

fn linux_user(at: &At) {
    let check = |at: &At| {
        let number = at.int().unwrap_or(0);
        names::user_or_group_id(number).into_iter().for_each(|problem| at.invalid_value(number, problem));
    };
    check(&at.get("uid"));
    check(&at.get("gid"));
    at.get("supplementalGroups").items().for_each(|group| check(&group));
}

/// The health of what containers have been given.
pub(super) fn allocated(status: &At, spec: &At) {
    for (list, containers) in LISTS {
        let own = spec.get(containers);
        let own = own.by("name");
        for container in status.get(list).items() {
            let resources = container.get("allocatedResourcesStatus");
            if containers.is_empty() {
                if !resources.is_empty() {
                    resources.forbidden("must not be specified in container status");
                }
                continue;
            }
            let asked = own.get(container.get("name").text()).map(|own| own.get("resources"));
            let claims = asked.as_ref().map(claims_of).unwrap_or_default();
            for resource in resources.items() {
                if let Some(asked) = &asked {
                    asked_for(&resource.get("name"), asked, &claims);
                }
                health(&resource.get("resources"));
            }
        }
    }
}

/// What a container's resource claims are called where it is told what it was given.
fn claims_of(resources: &At) -> HashSet<String> {
    let claims = resources.get("claims");
    let name = |claim: At| match (claim.get("name").text(), claim.get("request").text()) {
        (name, "") => format!("claim:{name}"),
        (name, request) => format!("claim:{name}/{request}"),
    };
    claims.items().map(name).collect()
}

/// What a container has been given is what it asks for. Containers that are not there are not looked for.
fn asked_for(name: &At, asked: &At, claims: &HashSet<String>) {
    let text = name.text();
    if !text.starts_with("claim:") {
        if asked.get("requests").value().get(text).is_none() {
            name.invalid_value(text, "must match one of the container's resource requests");
        }
        return;
    }
    if !claims.contains(text) {
        name.invalid("must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty");
    }
}

fn health(resources: &At) {
    let mut seen: HashSet<&str> = HashSet::new();
    for resource in resources.items() {
        resource.get("health").one_of(&["Healthy", "Unhealthy", "Unknown"]);
        let message = resource.get("message");
        if message.is_set() && message.is_empty() {
            message.required("must be non-empty if specified");
        }
        message.max_bytes(HEALTH_MESSAGE_BYTES_MAX);
        let id = resource.get("resourceID");
        if !seen.insert(id.text()) {
            id.duplicate_value(id.text());
        }
    }
}

/// The claim that stands for extended resources, and which request of it is for which container.
pub(super) fn extended_claim(at: &At, spec: &At) {
    if !at.is_set() {
        return;
    }
    let mappings = at.get("requestMappings");
    mappings.need_because("at least one request mapping is required");
    let lists = ["containers", "initContainers"].map(|name| spec.get(name));
    let lists = lists.each_ref().map(|list| list.by("name"));
    let mut seen: HashSet<[&str; 3]> = HashSet::new();
    for mapping in mappings.items() {
        let parts = ["containerName", "resourceName", "requestName"].map(|name| mapping.get(name));
        let [container, resource, request] = &parts;
        let has_resource = lists.iter().find_map(|list| {
            let own = list.get(container.text())?;
            Some(own.get("resources").get("requests").value().get(resource.text()).is_some())
        });
        match has_resource {
            Some(true) => {}
            Some(false) => resource.invalid_value(resource.text(), "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests"),
            None => container.invalid_value(
                container.text(),
                "must match the name of an entry in spec.initContainers.name or spec.containers.name",
            ),
        }
        at.get("requestName").problems(request.text(), names::dns1123_label);
        let key = [container.text(), resource.text(), request.text()];
        if !seen.insert(key) {
            parts.iter().for_each(|part| part.duplicate_value(part.text()));
        }
    }
    at.get("resourceClaimName").need_named(names::dns1123_subdomain);
}

/// What claims take of what nodes have.
pub(super) fn node_claims(status: &At, spec: &At) {
    let lists = [spec.get("resourceClaims"), status.get("resourceClaimStatuses")];
    let claims = lists.iter().flat_map(At::items);
    let known: HashSet<&str> = claims.filter_map(|claim| claim.value().get("resourceClaimName")?.as_str()).collect();
    for claim in status.get("nodeAllocatableResourceClaimStatuses").items() {
        let name = claim.get("resourceClaimName");
        name.need_because("must not be empty");
        if !known.contains(name.text()) {
            name.invalid_value(name.text(), "no mapping found in pod reference");
        }
        claim.get("containers").need_because("must not be empty");
        let resources = claim.get("resources");
        resources.need_because("must not be empty");
        for (resource, amount) in resources.entries() {
            if !is_native(resource) {
                amount.invalid_value(resource, "must be a node allocatable resource name");
            }
            if let Some(quantity) = amount.quantity().filter(|quantity| quantity.is_negative()) {
                amount.invalid_value(quantity.to_string(), "must be non-negative");
            }
        }
    }
}
