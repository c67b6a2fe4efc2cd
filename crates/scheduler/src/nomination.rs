//! Which pods wait for room that preemption is making for them, and where (upstream `backend/queue/nominator.go`).

use std::{collections::HashMap, sync::Arc};

use crate::pod::PodInfo;

#[derive(Clone, Debug, Default)]
pub struct Nominations {
    by_node: HashMap<String, Vec<Arc<PodInfo>>>,
    node_of: HashMap<String, String>,
}

impl Nominations {
    pub fn add(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove(pod.uid());
        self.node_of.insert(pod.uid().to_owned(), node.to_owned());
        self.by_node.entry(node.to_owned()).or_default().push(pod);
    }

    pub fn remove(&mut self, uid: &str) {
        let Some(node) = self.node_of.remove(uid) else { return };
        if let Some(pods) = self.by_node.get_mut(&node) {
            pods.retain(|pod| pod.uid() != uid);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }

    pub fn on(&self, node: &str) -> &[Arc<PodInfo>] {
        if self.by_node.is_empty() {
            return &[];
        }
        self.by_node.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.node_of.get(uid).map(String::as_str)
    }
}
