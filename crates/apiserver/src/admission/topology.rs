//! PodTopologyLabels: a pod that gets its node is told the node's zone and region
//! (upstream `plugin/pkg/admission/podtopologylabels`).

use api::{Status, Value};
use async_trait::async_trait;

use super::{Operation, Plugin, Review};

pub struct PodTopologyLabels;

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    async fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
        if !review.resource.group.is_empty() || &*review.resource.plural != "pods" {
            return Ok(());
        }
        // A binding is a change of the pod here.
        if !matches!((review.operation, review.subresource), (Operation::Create, "") | (Operation::Update, "binding")) {
            return Ok(());
        }
        let node = object.str_at(&["spec", "nodeName"]);
        if node.is_empty() {
            return Ok(());
        }
        // Nodes are stored under their oldest name.
        let Some(node) = review.find("minions", node).await? else { return Ok(()) };
        for label in LABELS {
            if let Some(value) = node.label(label) {
                object.set(&["metadata", "labels", label], value);
            }
        }
        Ok(())
    }
}
