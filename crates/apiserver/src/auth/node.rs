//! The Node authorizer: a kubelet reads what its own pods need, and nothing else of its kind
//! (upstream `plugin/pkg/auth/authorizer/node`). What it may do at all stands in the rules below.

use std::sync::Arc;

use api::Value;

use super::{Attributes, Decision, UserInfo};
use crate::cache::Cache;

pub struct NodeAuthorizer {
    cache: Arc<Cache>,
}

const USER_PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";

/// The node that a user is the kubelet of.
pub(crate) fn node_of(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix(USER_PREFIX)?;
    (user.in_group(GROUP) && !name.is_empty()).then_some(name)
}

/// What every node may do: group, resources (with subresources), verbs. Upstream: `NodeRules` in bootstrappolicy.
const RULES: &[(&str, &[&str], &[&str])] = &[
    ("authentication.k8s.io", &["tokenreviews"], &["create"]),
    ("authorization.k8s.io", &["subjectaccessreviews", "localsubjectaccessreviews"], &["create"]),
    ("", &["services"], &["get", "list", "watch"]),
    ("", &["nodes"], &["create", "get", "list", "watch"]),
    ("", &["nodes/status"], &["update", "patch"]),
    ("", &["nodes"], &["update", "patch"]),
    ("", &["events"], &["create", "update", "patch"]),
    ("events.k8s.io", &["events"], &["create", "update", "patch"]),
    ("", &["pods"], &["get", "list", "watch", "create", "delete"]),
    ("", &["pods/status"], &["update", "patch"]),
    ("", &["pods/eviction"], &["create"]),
    ("", &["configmaps", "secrets"], &["get", "list", "watch"]),
    ("", &["persistentvolumeclaims", "persistentvolumes"], &["get"]),
    ("", &["persistentvolumeclaims/status"], &["get", "update", "patch"]),
    ("", &["endpoints"], &["get"]),
    ("", &["serviceaccounts"], &["get"]),
    ("", &["serviceaccounts/token"], &["create"]),
    ("certificates.k8s.io", &["certificatesigningrequests"], &["create", "get", "list", "watch"]),
    ("coordination.k8s.io", &["leases"], &["get", "create", "update", "patch", "delete"]),
    ("storage.k8s.io", &["volumeattachments"], &["get"]),
    ("storage.k8s.io", &["csidrivers"], &["get", "list", "watch"]),
    ("storage.k8s.io", &["csinodes"], &["create", "delete", "get", "patch", "update"]),
    ("node.k8s.io", &["runtimeclasses"], &["get", "list", "watch"]),
    ("resource.k8s.io", &["resourceclaims"], &["get"]),
    (
        "resource.k8s.io",
        &["resourceslices"],
        &["create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"],
    ),
];

impl NodeAuthorizer {
    pub fn new(cache: Arc<Cache>) -> NodeAuthorizer {
        NodeAuthorizer { cache }
    }

    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let Some(node) = node_of(attributes.user) else { return Decision::NoOpinion { reason: Arc::default() } };
        if !attributes.is_resource {
            return Decision::NoOpinion { reason: Arc::default() };
        }
        let resource = if attributes.subresource.is_empty() {
            attributes.resource.to_owned()
        } else {
            format!("{}/{}", attributes.resource, attributes.subresource)
        };
        let ruled = RULES.iter().any(|(group, resources, verbs)| {
            *group == attributes.group && resources.contains(&resource.as_str()) && verbs.contains(&attributes.verb)
        });
        if !ruled {
            return Decision::NoOpinion { reason: Arc::default() };
        }
        match self.related(node, attributes, &resource) {
            true => Decision::Allow { reason: Arc::default() },
            false => {
                let reason = format!("no relationship found between node '{node}' and this object");
                Decision::NoOpinion { reason: reason.into() }
            }
        }
    }

    /// Whether the object is this node's business.
    fn related(&self, node: &str, attributes: &Attributes<'_>, resource: &str) -> bool {
        match (attributes.group, resource) {
            ("", "configmaps" | "secrets") => {
                // Reading many at once is only for one name.
                !attributes.name.is_empty()
                    && self
                        .pods(node, attributes.namespace)
                        .any(|pod| names_object(&pod, attributes.resource, attributes.name))
            }
            ("", "persistentvolumeclaims" | "persistentvolumeclaims/status") => {
                self.pods(node, attributes.namespace).any(|pod| claims(&pod).any(|claim| claim == attributes.name))
            }
            ("", "serviceaccounts" | "serviceaccounts/token") => self
                .pods(node, attributes.namespace)
                .any(|pod| pod.str_at(&["spec", "serviceAccountName"]) == attributes.name),
            ("", "nodes" | "nodes/status") if !matches!(attributes.verb, "create" | "list" | "watch") => {
                attributes.name == node
            }
            ("coordination.k8s.io", "leases") => {
                attributes.namespace == "kube-node-lease" && (attributes.verb == "create" || attributes.name == node)
            }
            ("storage.k8s.io", "csinodes") => attributes.verb == "create" || attributes.name == node,
            _ => true,
        }
    }

    fn pods(&self, node: &str, namespace: &str) -> impl Iterator<Item = Value> {
        let prefix = format!("{namespace}/");
        let snapshot = self
            .cache
            .shelf_at("pods")
            .map(|shelf| (shelf.fields.iter().position(|field| *field.name == *"spec.nodeName"), shelf.snapshot()));
        let mut found = Vec::new();
        if let Some((Some(at), snapshot)) = snapshot {
            for (_, pod) in snapshot.under(&prefix) {
                if *pod.fields[at] == *node {
                    found.push(pod.clone());
                }
            }
        }
        found.into_iter().map(|pod| pod.tree())
    }
}

fn items<'v>(value: &'v Value, path: &[&str]) -> &'v [Value] {
    value.at(path).and_then(Value::as_array).unwrap_or_default()
}

fn claims(pod: &Value) -> impl Iterator<Item = &str> {
    items(pod, &["spec", "volumes"])
        .iter()
        .map(|volume| volume.str_at(&["persistentVolumeClaim", "claimName"]))
        .filter(|name| !name.is_empty())
}

/// Whether a pod names a ConfigMap or Secret: in a volume, in its environment, or to pull its images.
fn names_object(pod: &Value, resource: &str, name: &str) -> bool {
    let (volume_kind, name_key, env, key_ref) = match resource {
        "secrets" => ("secret", "secretName", "secretRef", "secretKeyRef"),
        _ => ("configMap", "name", "configMapRef", "configMapKeyRef"),
    };
    let in_volume = |volume: &Value| {
        volume.str_at(&[volume_kind, name_key]) == name
            || items(volume, &["projected", "sources"])
                .iter()
                .any(|source| source.str_at(&[volume_kind, "name"]) == name)
    };
    let in_container = |container: &Value| {
        items(container, &["envFrom"]).iter().any(|source| source.str_at(&[env, "name"]) == name)
            || items(container, &["env"])
                .iter()
                .any(|variable| variable.str_at(&["valueFrom", key_ref, "name"]) == name)
    };
    let containers = ["containers", "initContainers", "ephemeralContainers"];
    items(pod, &["spec", "volumes"]).iter().any(in_volume)
        || containers.iter().flat_map(|list| items(pod, &["spec", list])).any(in_container)
        || (resource == "secrets"
            && items(pod, &["spec", "imagePullSecrets"]).iter().any(|secret| secret.str_at(&["name"]) == name))
}
