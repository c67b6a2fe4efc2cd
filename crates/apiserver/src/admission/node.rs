//! Admission around nodes: a kubelet changes only what is its own, and a new node starts tainted.

use api::{Status, Value};
use async_trait::async_trait;

use super::{Operation, Plugin, Review};
use crate::auth::node::node_of;

/// Upstream `plugin/pkg/admission/noderestriction`.
pub struct NodeRestriction;

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<(), Status> {
        let Some(node) = node_of(review.user) else { return Ok(()) };
        match (&*review.resource.group, &*review.resource.plural) {
            ("", "pods") => restrict_pod(review, object, node),
            ("", "nodes") => restrict_node(review, object, node),
            ("coordination.k8s.io", "leases")
                if review.namespace != "kube-node-lease" || (!review.name.is_empty() && review.name != node) =>
            {
                Err(review.forbidden(&format!(
                    "can only access node lease with the same name as the requesting node ({node})"
                )))
            }
            ("storage.k8s.io", "csinodes") if review.name != node => {
                Err(review.forbidden("can only access CSINode with the same name as the requesting node"))
            }
            _ => Ok(()),
        }
    }
}

const MIRROR: [&str; 3] = ["metadata", "annotations", "kubernetes.io/config.mirror"];

fn restrict_pod(review: &Review<'_>, object: &Value, node: &str) -> Result<(), Status> {
    let subject = review.old.unwrap_or(object);
    let own = subject.str_at(&["spec", "nodeName"]) == node;
    match (review.operation, review.subresource) {
        (Operation::Create, "") => {
            if object.at(&MIRROR).is_none() {
                return Err(review.forbidden(&format!("node \"{node}\" can only create mirror pods")));
            }
            if !own {
                return Err(
                    review.forbidden(&format!("node \"{node}\" can only create pods with spec.nodeName set to itself"))
                );
            }
            let reads_secrets =
                object.at(&["spec", "serviceAccountName"]).and_then(Value::as_str).is_some_and(|name| !name.is_empty());
            if reads_secrets {
                return Err(
                    review.forbidden(&format!("node \"{node}\" can not create pods that reference a service account"))
                );
            }
            Ok(())
        }
        (Operation::Update, "status") if !own => Err(review.forbidden(&format!(
            "node \"{node}\" can only update pod status for pods with spec.nodeName set to itself"
        ))),
        (Operation::Delete, _) if !own => {
            Err(review.forbidden(&format!("node \"{node}\" can only delete pods with spec.nodeName set to itself")))
        }
        _ => Ok(()),
    }
}

fn restrict_node(review: &Review<'_>, object: &Value, node: &str) -> Result<(), Status> {
    if !review.name.is_empty() && review.name != node {
        return Err(review.forbidden(&format!("node \"{node}\" is not allowed to modify node \"{}\"", review.name)));
    }
    if let (Operation::Update, Some(old)) = (review.operation, review.old)
        && object.at(&["spec", "taints"]) != old.at(&["spec", "taints"])
    {
        return Err(review.forbidden(&format!("node \"{node}\" is not allowed to modify taints")));
    }
    let reserved = |object: &Value| -> Vec<(String, String)> {
        let labels = object.at(&["metadata", "labels"]).and_then(Value::as_object);
        let all = labels.into_iter().flat_map(|labels| labels.iter());
        all.filter(|(key, _)| is_reserved(key))
            .map(|(key, value)| (key.to_owned(), value.as_str().unwrap_or_default().to_owned()))
            .collect()
    };
    let before = review.old.map(reserved).unwrap_or_default();
    let changed: Vec<String> =
        reserved(object).into_iter().filter(|label| !before.contains(label)).map(|(key, _)| key).collect();
    if review.operation != Operation::Delete && !changed.is_empty() {
        return Err(review.forbidden(&format!("is not allowed to modify labels: {}", changed.join(", "))));
    }
    Ok(())
}

/// Labels below kubernetes.io and k8s.io that a kubelet may not give itself.
fn is_reserved(key: &str) -> bool {
    const OWN: [&str; 11] = [
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
    ];
    let Some((domain, _)) = key.split_once('/') else { return false };
    let within = |suffix: &str| domain == suffix || domain.ends_with(&format!(".{suffix}"));
    (within("kubernetes.io") || within("k8s.io"))
        && !OWN.contains(&key)
        && !within("kubelet.kubernetes.io")
        && !within("node.kubernetes.io")
}

/// A new node is not ready until its conditions say otherwise (upstream `plugin/pkg/admission/nodetaint`).
pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    async fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
        if review.operation != Operation::Create || !review.is("", "nodes") {
            return Ok(());
        }
        const NOT_READY: &str = "node.kubernetes.io/not-ready";
        let Some(spec) = object.make_object(&["spec"]) else { return Ok(()) };
        let Some(taints) = spec.entry_or_insert_with("taints", || Value::Array(Vec::new())).as_array_mut() else {
            return Ok(());
        };
        let has =
            taints.iter().any(|taint| taint.str_at(&["key"]) == NOT_READY && taint.str_at(&["effect"]) == "NoSchedule");
        if !has {
            let mut taint = Value::object();
            taint.set(&["key"], NOT_READY);
            taint.set(&["effect"], "NoSchedule");
            taints.push(taint);
        }
        Ok(())
    }
}
