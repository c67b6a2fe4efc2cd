//! TaintToleration: keeps pods off nodes whose taints they do not tolerate, and away from those that would rather not.

use client::kinds::core::v1::Toleration;

use super::names;
use crate::{
    event::ClusterEvent,
    framework::{Cycle, Filter, Plugin, PreFilter, Rejection, Score, normalize},
    node::NodeInfo,
    pod::PodInfo,
    snapshot::Snapshot,
    taints,
};

pub struct TaintToleration;

#[derive(Clone, Copy)]
struct Tolerated<'a>(&'a [Toleration]);

struct Preferred<'a>(Vec<&'a Toleration>);

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        names::TAINT_TOLERATION
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        PreFilter::Filter(Box::new(Tolerated(cycle.pod.tolerations())))
    }

    fn pre_score<'a>(&self, cycle: Cycle<'a>, nodes: &[&'a NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        let prefers = |node: &&NodeInfo| node.taints().iter().any(|taint| taint.effect == "PreferNoSchedule");
        // Without such a taint all nodes score the same.
        nodes.iter().any(prefers).then_some(())?;
        let applies =
            |toleration: &&Toleration| matches!(toleration.effect.as_deref(), None | Some("" | "PreferNoSchedule"));
        Some(Box::new(Preferred(cycle.pod.tolerations().iter().filter(applies).collect())))
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo, _: &Snapshot) -> bool {
        if let Some((old, new)) = event.node_change() {
            let untolerated = |node| taints::untolerated(taints::of(node), pod.tolerations());
            return old.is_none_or(untolerated) && !untolerated(new);
        }
        event.own_update(pod).is_some_and(|(old, new)| old.tolerations() != new.tolerations())
    }
}

impl Filter for Tolerated<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if taints::untolerated(node.taints(), self.0) {
            return Err(Rejection::unresolvable(names::TAINT_TOLERATION, "node(s) had untolerated taint(s)"));
        }
        Ok(())
    }

    fn duplicate<'a>(&self) -> Box<dyn Filter + 'a>
    where
        Self: 'a,
    {
        Box::new(*self)
    }
}

impl Score for Preferred<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let taints = node.taints().iter().filter(|taint| taint.effect == "PreferNoSchedule");
        taints.filter(|taint| !self.0.iter().any(|toleration| taints::tolerates(toleration, taint))).count() as i64
    }

    fn normalize(&self, _: &[&NodeInfo], scores: &mut [i64]) {
        normalize(scores, true);
    }
}
