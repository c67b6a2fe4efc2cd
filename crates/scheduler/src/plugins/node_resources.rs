//! NodeResourcesFit (with LeastAllocated scoring) and NodeResourcesBalancedAllocation.

use std::borrow::Cow;

use super::names;
use crate::{
    event::ClusterEvent,
    framework::{Cycle, Filter, MAX_NODE_SCORE, Plugin, PreFilter, Rejection, Score},
    node::NodeInfo,
    pod::PodInfo,
    resources::Resources,
    snapshot::Snapshot,
};

pub struct Fit;

#[derive(Clone, Copy)]
struct Fits<'a>(&'a Resources);

/// CPU and memory the pod is counted with, both of weight 1.
struct LeastAllocated(i64, i64);

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        names::NODE_RESOURCES_FIT
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        PreFilter::Filter(Box::new(Fits(&cycle.pod.requests)))
    }

    fn pre_score<'a>(&self, cycle: Cycle<'a>, _: &[&'a NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        let (cpu, memory) = cycle.pod.non_zero;
        Some(Box::new(LeastAllocated(cpu, memory)))
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo, _: &Snapshot) -> bool {
        match event {
            ClusterEvent::PodDeleted(_) => true,
            ClusterEvent::PodUpdated { old, new } => shrank(pod, old, new),
            ClusterEvent::PendingPodUpdated { old, new } => new.uid() == pod.uid() && shrank(new, old, new),
            ClusterEvent::NodeAdded(new) => Fits(&pod.requests).filter(&NodeInfo::new(new.clone())).is_ok(),
            ClusterEvent::NodeUpdated { old, new } => {
                let (old, new) = (NodeInfo::new(old.clone()), NodeInfo::new(new.clone()));
                Fits(&pod.requests).filter(&new).is_ok() && grew(&pod.requests, &old, &new)
            }
            _ => false,
        }
    }
}

/// Whether `new` asks for less than `old` of something that `pod` wants.
fn shrank(pod: &PodInfo, old: &PodInfo, new: &PodInfo) -> bool {
    let (want, old, new) = (&pod.requests, &old.requests, &new.requests);
    (want.milli_cpu > 0 || std::ptr::eq(want, new)) && new.milli_cpu < old.milli_cpu
        || (want.memory > 0 || std::ptr::eq(want, new)) && new.memory < old.memory
        || (want.ephemeral_storage > 0 || std::ptr::eq(want, new)) && new.ephemeral_storage < old.ephemeral_storage
        || want.scalar.keys().any(|name| new.scalar(name) < old.scalar(name))
}

fn grew(want: &Resources, old: &NodeInfo, new: &NodeInfo) -> bool {
    let (before, after) = (&old.allocatable, &new.allocatable);
    new.allowed_pods > old.allowed_pods
        || want.milli_cpu > 0 && after.milli_cpu > before.milli_cpu
        || want.memory > 0 && after.memory > before.memory
        || want.ephemeral_storage > 0 && after.ephemeral_storage > before.ephemeral_storage
        || want.scalar.iter().any(|(name, amount)| *amount > 0 && after.scalar(name) > before.scalar(name))
}

impl Filter for Fits<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let mut rejection = Rejection { plugin: names::NODE_RESOURCES_FIT, resolvable: true, reasons: Vec::new() };
        if node.pods.len() as i64 + 1 > node.allowed_pods {
            rejection.reasons.push("Too many pods".into());
        }
        let mut check = |want: i64, used: i64, capacity: i64, reason: &dyn Fn() -> Cow<'static, str>| {
            if want > 0 && want > capacity - used {
                rejection.reasons.push(reason());
                rejection.resolvable &= want <= capacity;
            }
        };
        let (want, used, capacity) = (self.0, &node.requested, &node.allocatable);
        check(want.milli_cpu, used.milli_cpu, capacity.milli_cpu, &|| "Insufficient cpu".into());
        check(want.memory, used.memory, capacity.memory, &|| "Insufficient memory".into());
        let storage = (want.ephemeral_storage, used.ephemeral_storage, capacity.ephemeral_storage);
        check(storage.0, storage.1, storage.2, &|| "Insufficient ephemeral-storage".into());
        for (name, amount) in &want.scalar {
            check(*amount, used.scalar(name), capacity.scalar(name), &|| format!("Insufficient {name}").into());
        }
        if rejection.reasons.is_empty() { Ok(()) } else { Err(rejection) }
    }

    fn duplicate<'a>(&self) -> Box<dyn Filter + 'a>
    where
        Self: 'a,
    {
        Box::new(*self)
    }
}

impl Score for LeastAllocated {
    fn score(&self, node: &NodeInfo) -> i64 {
        let cpu = (node.non_zero.0 + self.0, node.allocatable.milli_cpu);
        let memory = (node.non_zero.1 + self.1, node.allocatable.memory);
        let known = [cpu, memory].into_iter().filter(|(_, capacity)| *capacity != 0);
        let free = |(requested, capacity): (i64, i64)| match capacity - requested {
            ..0 => 0,
            left => (i128::from(left) * i128::from(MAX_NODE_SCORE) / i128::from(capacity)) as i64,
        };
        let (sum, count) = known.map(free).fold((0, 0), |(sum, count), score| (sum + score, count + 1));
        if count == 0 { 0 } else { sum / count }
    }
}

/// Prefers nodes whose use of CPU and of memory the pod brings closer to each other.
pub struct BalancedAllocation;

struct Balance(i64, i64);

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        names::BALANCED_ALLOCATION
    }

    fn pre_score<'a>(&self, cycle: Cycle<'a>, _: &[&'a NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        let Resources { milli_cpu, memory, .. } = cycle.pod.requests;
        // Pods that ask for nothing would all go where the balance happens to be best.
        (milli_cpu != 0 || memory != 0).then(|| Box::new(Balance(milli_cpu, memory)) as Box<dyn Score>)
    }
}

impl Score for Balance {
    fn score(&self, node: &NodeInfo) -> i64 {
        let (used, capacity) = (&node.requested, &node.allocatable);
        let balance = |cpu: i64, memory: i64| -> i64 {
            // One resource alone is always in balance.
            if capacity.milli_cpu == 0 || capacity.memory == 0 {
                return MAX_NODE_SCORE;
            }
            let share = |used: i64, of: i64| (used as f64 / of as f64).min(1.0);
            let deviation = ((share(cpu, capacity.milli_cpu) - share(memory, capacity.memory)) / 2.0).abs();
            ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
        };
        let with = balance(used.milli_cpu + self.0, used.memory + self.1);
        let without = balance(used.milli_cpu, used.memory);
        MAX_NODE_SCORE / 2 + (MAX_NODE_SCORE / 2 + with - without) / 2
    }
}
