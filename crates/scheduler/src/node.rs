//! A node with the pods on it (upstream `framework.NodeInfo`).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use client::{
    Kind,
    kinds::core::v1::{Node, Taint},
};

use crate::{
    labels::{self, Labels},
    pod::{HostPort, PodInfo},
    resources::Resources,
    taints,
};

#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub node: Arc<Node>,
    pub pods: Vec<Arc<PodInfo>>,
    pub with_affinity: Vec<Arc<PodInfo>>,
    pub with_required_anti_affinity: Vec<Arc<PodInfo>>,
    pub requested: Resources,
    /// Thousandths of a CPU and bytes, with defaults for containers that name none.
    pub non_zero: (i64, i64),
    pub allocatable: Resources,
    pub allowed_pods: i64,
    pub ports: HostPorts,
    /// Sizes in bytes of the images the node holds, by each of their names.
    pub images: Arc<HashMap<String, i64>>,
}

impl NodeInfo {
    pub fn new(node: Arc<Node>) -> NodeInfo {
        let mut info = NodeInfo::default();
        info.set_node(node);
        info
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let status = node.status.as_ref();
        (self.allocatable, self.allowed_pods) =
            Resources::allocatable(status.and_then(|status| status.allocatable.as_ref()));
        let mut images = HashMap::new();
        for image in status.iter().flat_map(|status| status.images.iter().flatten()) {
            for name in image.names.iter().flatten() {
                images.insert(name.clone(), image.size_bytes.unwrap_or(0));
            }
        }
        self.images = Arc::new(images);
        self.node = node;
    }

    pub fn name(&self) -> &str {
        self.node.name()
    }

    pub fn labels(&self) -> &Labels {
        labels::of(&self.node.metadata)
    }

    pub fn taints(&self) -> &[Taint] {
        taints::of(&self.node)
    }

    pub fn is_unschedulable(&self) -> bool {
        is_unschedulable(&self.node)
    }

    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.non_zero.0 = self.non_zero.0.saturating_add(pod.non_zero.0);
        self.non_zero.1 = self.non_zero.1.saturating_add(pod.non_zero.1);
        pod.ports.iter().for_each(|port| self.ports.add(port));
        if pod.has_affinity() {
            self.with_affinity.push(pod.clone());
        }
        if !pod.required_anti_affinity.is_empty() {
            self.with_required_anti_affinity.push(pod.clone());
        }
        self.pods.push(pod);
    }

    /// The pod with this UID, taken off the node; `None` where it was not on it.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let take = |pods: &mut Vec<Arc<PodInfo>>| {
            let at = pods.iter().position(|pod| pod.uid() == uid)?;
            Some(pods.swap_remove(at))
        };
        let pod = take(&mut self.pods)?;
        take(&mut self.with_affinity);
        take(&mut self.with_required_anti_affinity);
        self.requested.subtract(&pod.requests);
        self.non_zero.0 -= pod.non_zero.0;
        self.non_zero.1 -= pod.non_zero.1;
        pod.ports.iter().for_each(|port| self.ports.remove(port));
        Some(pod)
    }

    /// `region:zone`, empty where the node has neither: what the order of nodes alternates between.
    pub fn zone(&self) -> String {
        let label = |new: &str, old: &str| {
            self.labels().get(new).or_else(|| self.labels().get(old)).cloned().unwrap_or_default()
        };
        let region = label("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region");
        let zone = label("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone");
        if region.is_empty() && zone.is_empty() { String::new() } else { format!("{region}:{zone}") }
    }
}

pub fn is_unschedulable(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false)
}

/// The ports of a node that pods hold, with how many hold each.
#[derive(Clone, Debug, Default)]
pub struct HostPorts(BTreeMap<(i32, String), BTreeMap<String, u32>>);

impl HostPorts {
    const ANY: &str = "0.0.0.0";

    pub fn add(&mut self, port: &HostPort) {
        *self.0.entry((port.port, port.protocol.clone())).or_default().entry(port.ip.clone()).or_default() += 1;
    }

    pub fn remove(&mut self, port: &HostPort) {
        let key = (port.port, port.protocol.clone());
        let Some(addresses) = self.0.get_mut(&key) else { return };
        if let Some(holders) = addresses.get_mut(&port.ip) {
            *holders -= 1;
            if *holders == 0 {
                addresses.remove(&port.ip);
            }
        }
        if addresses.is_empty() {
            self.0.remove(&key);
        }
    }

    /// Every address conflicts with the address that stands for all.
    pub fn conflicts(&self, port: &HostPort) -> bool {
        let Some(addresses) = self.0.get(&(port.port, port.protocol.clone())) else { return false };
        port.ip == Self::ANY || addresses.contains_key(Self::ANY) || addresses.contains_key(&port.ip)
    }
}
