//! What a cluster must hold so that machines can join with a token
//! (`cmd/kubeadm/app/phases/bootstraptoken/{clusterinfo,node}`), under kubeadm's names.

use serde_json::{Value, json};

use super::{BOOTSTRAPPERS_GROUP, CLUSTER_INFO, PUBLIC_NAMESPACE};

const RBAC: &str = "rbac.authorization.k8s.io";
const NODES: &str = "system:nodes";

/// An object, and the collection it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Such as `/api/v1/namespaces/kube-public/configmaps`.
    pub collection: String,
    pub object: Value,
}

fn cluster_role_binding(name: &str, role: &str, group: &str) -> Placed {
    Placed {
        collection: format!("/apis/{RBAC}/v1/clusterrolebindings"),
        object: json!({
            "apiVersion": format!("{RBAC}/v1"),
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": group}],
        }),
    }
}

fn reading(name: &str, namespace: Option<&str>, resource: &str, names: &[&str]) -> Placed {
    let (kind, within) = match namespace {
        Some(namespace) => ("Role", format!("namespaces/{namespace}/roles")),
        None => ("ClusterRole", "clusterroles".to_owned()),
    };
    let mut rule = json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]});
    if !names.is_empty() {
        rule["resourceNames"] = json!(names);
    }
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    Placed {
        collection: format!("/apis/{RBAC}/v1/{within}"),
        object: json!({"apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": metadata, "rules": [rule]}),
    }
}

/// Who may what: everybody reads cluster-info; whoever has a token asks for a node's certificate, which is approved, and
/// sees whether a node's name is taken; nodes renew their certificates, and run kube-proxy with them.
pub fn rules() -> Vec<Placed> {
    const SIGNER: &str = "kubeadm:bootstrap-signer-clusterinfo";
    const GET_NODES: &str = "kubeadm:get-nodes";
    const APPROVAL: &str = "system:certificates.k8s.io:certificatesigningrequests";
    let to_everybody = Placed {
        collection: format!("/apis/{RBAC}/v1/namespaces/{PUBLIC_NAMESPACE}/rolebindings"),
        object: json!({
            "apiVersion": format!("{RBAC}/v1"),
            "kind": "RoleBinding",
            "metadata": {"name": SIGNER, "namespace": PUBLIC_NAMESPACE},
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": SIGNER},
            "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "system:anonymous"}],
        }),
    };
    let group = BOOTSTRAPPERS_GROUP;
    vec![
        reading(SIGNER, Some(PUBLIC_NAMESPACE), "configmaps", &[CLUSTER_INFO]),
        to_everybody,
        cluster_role_binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", group),
        reading(GET_NODES, None, "nodes", &[]),
        cluster_role_binding(GET_NODES, GET_NODES, group),
        cluster_role_binding("kubeadm:node-autoapprove-bootstrap", &format!("{APPROVAL}:nodeclient"), group),
        cluster_role_binding(
            "kubeadm:node-autoapprove-certificate-rotation",
            &format!("{APPROVAL}:selfnodeclient"),
            NODES,
        ),
        // kubeadm's kube-proxy has a service account; the agent's has the kubelet's certificate.
        cluster_role_binding("argosy:node-proxier", "system:node-proxier", NODES),
    ]
}
