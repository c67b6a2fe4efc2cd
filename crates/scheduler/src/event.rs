//! What happens in the cluster, in the terms that queueing hints ask about (upstream `framework/events.go`).

use std::sync::Arc;

use client::kinds::core::v1::Node;

use crate::{labels, node, pod::PodInfo, taints};

/// A change that may make room for pods that found none.
#[derive(Clone, Debug)]
pub enum ClusterEvent {
    NodeAdded(Arc<Node>),
    NodeUpdated {
        old: Arc<Node>,
        new: Arc<Node>,
    },
    NodeDeleted(Arc<Node>),
    /// A pod was bound to its node.
    PodAdded(Arc<PodInfo>),
    PodUpdated {
        old: Arc<PodInfo>,
        new: Arc<PodInfo>,
    },
    /// A pod left its node, or one that had a nomination went.
    PodDeleted(Arc<PodInfo>),
    /// A pod that waits to be scheduled changed.
    PendingPodUpdated {
        old: Arc<PodInfo>,
        new: Arc<PodInfo>,
    },
    ClaimChanged {
        namespace: String,
        name: String,
    },
    VolumeChanged,
    StorageClassChanged,
    CsiNodeChanged,
}

impl ClusterEvent {
    /// The node that appeared or changed, with what it was before.
    pub fn node_change(&self) -> Option<(Option<&Node>, &Node)> {
        match self {
            ClusterEvent::NodeAdded(node) => Some((None, node)),
            ClusterEvent::NodeUpdated { old, new } => Some((Some(old), new)),
            _ => None,
        }
    }

    /// The pod itself, where it is the one that changed.
    pub fn own_update<'a>(&'a self, pod: &PodInfo) -> Option<(&'a PodInfo, &'a PodInfo)> {
        match self {
            ClusterEvent::PendingPodUpdated { old, new } if new.uid() == pod.uid() => Some((old, new)),
            _ => None,
        }
    }

    /// Whether anything changed that scheduling looks at; heartbeats of nodes do not.
    pub fn is_relevant(&self) -> bool {
        match self {
            ClusterEvent::NodeUpdated { old, new } => {
                let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
                labels::of(&old.metadata) != labels::of(&new.metadata)
                    || taints::of(old) != taints::of(new)
                    || node::is_unschedulable(old) != node::is_unschedulable(new)
                    || allocatable(old) != allocatable(new)
            }
            ClusterEvent::PodUpdated { old, new } => old.labels() != new.labels() || old.requests != new.requests,
            _ => true,
        }
    }
}
