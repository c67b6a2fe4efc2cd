//! Nodes: health and taints, eviction by taint, pod address ranges, and the pods they leave behind
//! (upstream pkg/controller/nodelifecycle, tainteviction, nodeipam, podgc).

pub mod eviction;
pub mod ipam;
pub mod lifecycle;
pub mod pod_gc;

use client::{Informer, kinds::core::v1::Pod};

use crate::shared::pods::node_name;

/// Index of pods by the node they are bound to.
pub const BY_NODE: &str = "node";

pub fn index_by_node(pods: &Informer<Pod>) {
    pods.add_index(BY_NODE, |pod| vec![node_name(pod).to_owned()]);
}
