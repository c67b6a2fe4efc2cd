//! The plugins that ask one question of a node: NodeUnschedulable, NodeName, NodePorts.

use client::kinds::core::v1::Taint;

use super::names;
use crate::{
    event::ClusterEvent,
    framework::{Cycle, Filter, Plugin, PreFilter, Rejection},
    node::{HostPorts, NodeInfo, is_unschedulable},
    pod::PodInfo,
    snapshot::Snapshot,
    taints,
};

/// Keeps pods off nodes with `spec.unschedulable`, unless they tolerate the taint that stands for it.
pub struct NodeUnschedulable;

#[derive(Clone, Copy)]
struct Schedulable;

fn tolerates_unschedulable(pod: &PodInfo) -> bool {
    let taint = Taint { key: taints::UNSCHEDULABLE.into(), effect: "NoSchedule".into(), ..Taint::default() };
    taints::tolerated(pod.tolerations(), &taint)
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        names::NODE_UNSCHEDULABLE
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        if tolerates_unschedulable(cycle.pod) { PreFilter::Skip } else { PreFilter::Filter(Box::new(Schedulable)) }
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo, _: &Snapshot) -> bool {
        if let Some((old, new)) = event.node_change() {
            return old.is_none_or(is_unschedulable) && !is_unschedulable(new);
        }
        event.own_update(pod).is_some_and(|(_, new)| tolerates_unschedulable(new))
    }
}

impl Filter for Schedulable {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if node.is_unschedulable() {
            return Err(Rejection::unresolvable(names::NODE_UNSCHEDULABLE, "node(s) were unschedulable"));
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

/// Honours `spec.nodeName` of a pod that is not bound.
pub struct NodeName;

#[derive(Clone, Copy)]
struct Named<'a>(&'a str);

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        names::NODE_NAME
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        match cycle.pod.node_name() {
            "" => PreFilter::Skip,
            name => PreFilter::Filter(Box::new(Named(name))),
        }
    }

    fn may_help(&self, event: &ClusterEvent, _: &PodInfo, _: &Snapshot) -> bool {
        matches!(event, ClusterEvent::NodeAdded(_))
    }
}

impl Filter for Named<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if node.name() == self.0 {
            return Ok(());
        }
        Err(Rejection::unresolvable(names::NODE_NAME, "node(s) didn't match the requested node name"))
    }

    fn duplicate<'a>(&self) -> Box<dyn Filter + 'a>
    where
        Self: 'a,
    {
        Box::new(*self)
    }
}

/// Keeps two pods from one port of a node.
pub struct NodePorts;

#[derive(Clone, Copy)]
struct FreePorts<'a>(&'a PodInfo);

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        names::NODE_PORTS
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        if cycle.pod.ports.is_empty() { PreFilter::Skip } else { PreFilter::Filter(Box::new(FreePorts(cycle.pod))) }
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo, _: &Snapshot) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::PodDeleted(deleted) => {
                let mut freed = HostPorts::default();
                deleted.ports.iter().for_each(|port| freed.add(port));
                pod.ports.iter().any(|port| freed.conflicts(port))
            }
            _ => false,
        }
    }
}

impl Filter for FreePorts<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if self.0.ports.iter().any(|port| node.ports.conflicts(port)) {
            let reason = "node(s) didn't have free ports for the requested pod ports";
            return Err(Rejection::resolvable(names::NODE_PORTS, reason));
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
