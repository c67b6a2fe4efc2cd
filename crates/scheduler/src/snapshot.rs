//! What one scheduling decision looks at: nodes, their pods and the objects around them, unchanging while it is made
//! (upstream `backend/cache/snapshot.go`).

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    groups::PodGroups,
    labels::Selector,
    node::NodeInfo,
    objects::Objects,
    pod::{Claim, PodInfo},
};

#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(crate) nodes: Vec<Arc<NodeInfo>>,
    pub(crate) index: HashMap<String, usize>,
    with_affinity: BTreeSet<usize>,
    with_required_anti_affinity: BTreeSet<usize>,
    /// How many nodes hold an image, by each of its names.
    images: HashMap<String, u32>,
    /// How many pods on nodes use a claim, by namespace and name.
    claim_users: HashMap<(String, String), u32>,
    groups: PodGroups,
    pub objects: Objects,
}

impl Snapshot {
    /// A snapshot of exactly these nodes, for tests and simulations.
    pub fn new(nodes: impl IntoIterator<Item = NodeInfo>, objects: Objects) -> Snapshot {
        let mut snapshot = Snapshot { objects, ..Snapshot::default() };
        snapshot.set_nodes(nodes.into_iter().map(Arc::new).collect());
        snapshot
    }

    /// All nodes, zones taking turns.
    pub fn nodes(&self) -> &[Arc<NodeInfo>] {
        &self.nodes
    }

    pub fn node(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.index.get(name).map(|at| &self.nodes[*at])
    }

    pub fn with_affinity(&self) -> impl Iterator<Item = &NodeInfo> {
        self.with_affinity.iter().map(|at| &*self.nodes[*at])
    }

    pub fn with_required_anti_affinity(&self) -> impl Iterator<Item = &NodeInfo> {
        self.with_required_anti_affinity.iter().map(|at| &*self.nodes[*at])
    }

    pub fn nodes_with_image(&self, image: &str) -> u32 {
        self.images.get(image).copied().unwrap_or(0)
    }

    pub fn claim_users(&self, pod: &PodInfo, claim: &Claim) -> u32 {
        self.claim_users.get(&(pod.namespace().to_owned(), claim.name.clone())).copied().unwrap_or(0)
    }

    /// Pods by what selectors see of them.
    pub fn groups(&self) -> &PodGroups {
        &self.groups
    }

    /// How many pods of the namespace that are not leaving match, for each of [`Self::nodes`].
    pub fn matching(&self, namespace: &str, selector: &Selector) -> Vec<i64> {
        self.groups.matching(namespace, selector, self.nodes.len())
    }

    /// The node's place in [`Self::nodes`].
    pub fn place(&self, node: &str) -> Option<usize> {
        self.index.get(node).copied()
    }

    /// Takes the place of all nodes, in this order.
    pub(crate) fn set_nodes(&mut self, nodes: Vec<Arc<NodeInfo>>) {
        self.index = nodes.iter().enumerate().map(|(at, node)| (node.name().to_owned(), at)).collect();
        self.nodes = nodes;
        self.with_affinity.clear();
        self.with_required_anti_affinity.clear();
        self.images.clear();
        self.claim_users.clear();
        self.groups.clear();
        for at in 0..self.nodes.len() {
            let node = self.nodes[at].clone();
            self.count(at, &node, true);
            self.count_images(&node, true);
            self.groups.update(at, &[], &node.pods);
        }
    }

    /// Takes the place of the node of the same name.
    pub(crate) fn set_node(&mut self, node: Arc<NodeInfo>) {
        let Some(&at) = self.index.get(node.name()) else { return };
        let old = std::mem::replace(&mut self.nodes[at], node.clone());
        self.count(at, &old, false);
        self.count(at, &node, true);
        self.groups.update(at, &old.pods, &node.pods);
        // A pod that came or went leaves the images as they were, and they are many.
        if !Arc::ptr_eq(&old.images, &node.images) {
            self.count_images(&old, false);
            self.count_images(&node, true);
        }
    }

    fn count_images(&mut self, node: &NodeInfo, present: bool) {
        for image in node.images.keys() {
            adjust(&mut self.images, image.clone(), present);
        }
    }

    fn count(&mut self, at: usize, node: &NodeInfo, present: bool) {
        let set = |set: &mut BTreeSet<usize>, member: bool| if member { set.insert(at) } else { set.remove(&at) };
        set(&mut self.with_affinity, present && !node.with_affinity.is_empty());
        set(&mut self.with_required_anti_affinity, present && !node.with_required_anti_affinity.is_empty());
        for pod in &node.pods {
            for claim in &pod.claims {
                adjust(&mut self.claim_users, (pod.namespace().to_owned(), claim.name.clone()), present);
            }
        }
    }
}

fn adjust<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: K, up: bool) {
    if up {
        *counts.entry(key).or_default() += 1;
    } else if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}
