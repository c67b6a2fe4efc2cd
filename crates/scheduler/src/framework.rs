//! The extension points, as upstream's `staging/src/k8s.io/kube-scheduler/framework/interface.go` names them.
//!
//! - pre-filter: [`Plugin::pre_filter`] looks at the pod once and gives back the [`Filter`] that is then run per node
//! - filter: [`Filter::filter`]
//! - post-filter: preemption, see [`crate::preemption`]
//! - pre-score: [`Plugin::pre_score`] gives back the [`Score`] that is then run per node that fits
//! - score, normalize: [`Score::score`], [`Score::normalize`]
//! - reserve: the pod is assumed on its node ([`crate::cache::Cache::assume`])
//! - permit: [`Plugin::permit`]
//! - pre-bind: [`Plugin::pre_bind`] lists what has to be written and waited for before the pod is bound
//! - bind, post-bind: [`crate::run`]
//! - queue sort: [`crate::queue`]; queueing hints: [`Plugin::may_help`]
//!
//! Upstream passes state between the points of one plugin through a shared map. Here the state is the object that the
//! earlier point made.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use client::ObjectKey;

use crate::{event::ClusterEvent, node::NodeInfo, pod::PodInfo, snapshot::Snapshot};

pub const MAX_NODE_SCORE: i64 = 100;

/// Why a pod does not go on a node, or on none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub plugin: &'static str,
    /// Whether removing pods could help: upstream's `Unschedulable`, against `UnschedulableAndUnresolvable`.
    pub resolvable: bool,
    pub reasons: Vec<Cow<'static, str>>,
}

impl Rejection {
    pub fn resolvable(plugin: &'static str, reason: impl Into<Cow<'static, str>>) -> Rejection {
        Rejection { plugin, resolvable: true, reasons: vec![reason.into()] }
    }

    pub fn unresolvable(plugin: &'static str, reason: impl Into<Cow<'static, str>>) -> Rejection {
        Rejection { plugin, resolvable: false, reasons: vec![reason.into()] }
    }

    pub fn message(&self) -> String {
        self.reasons.join(", ")
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.plugin, self.message())?;
        if self.resolvable { Ok(()) } else { f.write_str(" (unresolvable)") }
    }
}

/// One pod against one snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Cycle<'a> {
    pub pod: &'a PodInfo,
    pub snapshot: &'a Snapshot,
}

/// What a plugin's look at the pod came to.
pub enum PreFilter<'a> {
    /// The plugin has nothing to say about this pod.
    Skip,
    /// No node will do.
    Reject(Rejection),
    Filter(Box<dyn Filter + 'a>),
    /// Only these nodes can do, and they still have to pass.
    Nodes(BTreeSet<String>, Box<dyn Filter + 'a>),
}

/// A plugin's judgement of nodes for one pod.
pub trait Filter {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection>;

    /// What-if: `pod` runs on `node` (nominated pods, reprieved victims).
    fn add_pod(&mut self, _pod: &PodInfo, _node: &NodeInfo) {}

    /// What-if: `pod` does not run on `node`.
    fn remove_pod(&mut self, _pod: &PodInfo, _node: &NodeInfo) {}

    fn duplicate<'a>(&self) -> Box<dyn Filter + 'a>
    where
        Self: 'a;
}

/// A plugin's preference among the nodes that fit one pod.
pub trait Score {
    fn score(&self, node: &NodeInfo) -> i64;

    /// Brings the scores of all nodes into `0..=MAX_NODE_SCORE`. `nodes` and `scores` go together.
    fn normalize(&self, _nodes: &[&NodeInfo], _scores: &mut [i64]) {}
}

/// What has to be so before the pod may be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreBind {
    /// Reserve the volume for the claim.
    BindVolume { volume: String, claim: ObjectKey },
    /// Have the claim's volume provisioned for the node.
    ProvisionVolume { claim: ObjectKey, node: String },
}

impl fmt::Display for PreBind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PreBind::BindVolume { volume, claim } => write!(f, "bind PersistentVolume {volume} to claim {claim}"),
            PreBind::ProvisionVolume { claim, node } => write!(f, "provision claim {claim} for node {node}"),
        }
    }
}

/// A scheduling plugin. All methods are pure.
pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;

    fn pre_filter<'a>(&self, _cycle: Cycle<'a>) -> PreFilter<'a> {
        PreFilter::Skip
    }

    /// `None` where the plugin has no preference for this pod.
    fn pre_score<'a>(&self, _cycle: Cycle<'a>, _nodes: &[&'a NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        None
    }

    /// A last word once the node is chosen.
    fn permit(&self, _cycle: Cycle<'_>, _node: &NodeInfo) -> Result<(), Rejection> {
        Ok(())
    }

    fn pre_bind(&self, _cycle: Cycle<'_>, _node: &NodeInfo) -> Vec<PreBind> {
        Vec::new()
    }

    /// Whether `event` may make room for `pod`, which this plugin rejected (upstream's QueueingHint).
    fn may_help(&self, _event: &ClusterEvent, _pod: &PodInfo, _snapshot: &Snapshot) -> bool {
        false
    }
}

/// Scales scores so that the greatest becomes [`MAX_NODE_SCORE`]; `reverse` prefers the least
/// (upstream `plugins/helper/normalize_score.go`).
pub fn normalize(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or(0);
    if max == 0 {
        if reverse {
            scores.fill(MAX_NODE_SCORE);
        }
        return;
    }
    for score in scores {
        let scaled = MAX_NODE_SCORE * *score / max;
        *score = if reverse { MAX_NODE_SCORE - scaled } else { scaled };
    }
}
