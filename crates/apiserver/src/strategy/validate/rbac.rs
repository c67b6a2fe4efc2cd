//! Roles and bindings (`pkg/apis/rbac/validation`).

use api::{Value, names};

use super::{at::At, common};

const GROUP: &str = "rbac.authorization.k8s.io";

fn is_namespaced(at: &At) -> bool {
    !at.value().str_at(&["metadata", "namespace"]).is_empty()
}

pub(super) fn role(at: &At) {
    for rule in at.get("rules").items() {
        rule.get("verbs").need_because("verbs must contain at least one value");
        let urls = rule.get("nonResourceURLs");
        if !urls.is_empty() {
            if is_namespaced(at) {
                urls.invalid("namespaced rules cannot apply to non-resource URLs");
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|name| !rule.get(name).is_empty()) {
                urls.invalid("rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        rule.get("apiGroups").need_because("resource rules must supply at least one api group");
        rule.get("resources").need_because("resource rules must supply at least one resource");
    }
    let aggregation = at.get("aggregationRule");
    if aggregation.is_set() {
        let selectors = aggregation.get("clusterRoleSelectors");
        selectors.need_because("at least one clusterRoleSelector required if aggregationRule is non-nil");
        for selector in selectors.items() {
            let before = selector.errors();
            common::label_selector(&selector);
            if selector.errors() > before {
                // Upstream's words for a selector that cannot be read.
                selector.invalid_value(Value::Null, "invalid label selector.");
            }
        }
    }
}

pub(super) fn binding(at: &At) {
    let role = at.get("roleRef");
    role.get("apiGroup").one_of(&[GROUP]);
    role.get("kind").one_of(if is_namespaced(at) { &["Role", "ClusterRole"] } else { &["ClusterRole"] });
    role.get("name").need_named(names::path_segment_name);
    for subject in at.get("subjects").items() {
        let (name, group) = (subject.get("name"), subject.get("apiGroup"));
        name.need();
        match subject.get("kind").text() {
            "ServiceAccount" => {
                name.named_if_set(names::dns1123_subdomain);
                if !group.is_empty() {
                    group.not_supported(&[""]);
                }
                if !is_namespaced(at) {
                    subject.get("namespace").need();
                }
            }
            "User" | "Group" => group.one_of(&[GROUP]),
            _ => subject.get("kind").not_supported(&["ServiceAccount", "User", "Group"]),
        }
    }
}

pub(super) fn binding_update(at: &At, old: &At) {
    let role = at.get("roleRef");
    if !role.same(&old.get("roleRef")) {
        role.invalid("cannot change roleRef");
    }
}
