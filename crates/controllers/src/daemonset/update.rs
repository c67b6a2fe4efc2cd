//! Rolling update: old pods deleted (or new ones surged) within the limits (upstream daemon/update.go).

use std::sync::Arc;

use client::{
    Kind,
    kinds::core::v1::{Node, Pod},
};
use jiff::Timestamp;

use super::{
    plan::{ByNode, Inputs, Work, hash_label},
    pod::should_run,
};
use crate::shared::{is_deleting, percent, pods};

/// maxSurge and maxUnavailable of the nodes that should run a pod; never both 0.
pub fn limits(inputs: &Inputs) -> (i32, i32) {
    let desired = inputs.nodes.iter().filter(|node| should_run(&inputs.set, node).0).count() as i32;
    let strategy = inputs.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let surge = percent::scaled(rolling.and_then(|rolling| rolling.max_surge.as_ref()), desired, true);
    let unavailable = percent::scaled(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), desired, true);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// The new and the old pod of a node.
type Pair<'a> = (Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>);

/// `None` where there are more than a new and an old pod (`findUpdatedPodsOnNode`).
fn pair<'a>(pods: &[&'a Arc<Pod>], hash: &str) -> Option<Pair<'a>> {
    let (mut new, mut old) = (None, None);
    for pod in pods.iter().filter(|pod| !is_deleting(&****pod)) {
        let slot = if hash_label(pod) == hash { &mut new } else { &mut old };
        if slot.replace(*pod).is_some() {
            return None;
        }
    }
    Some((new, old))
}

pub fn rolling(inputs: &Inputs, by_node: &ByNode, hash: &str, now: Timestamp) -> Work {
    let (surge, unavailable) = limits(inputs);
    let min_ready = inputs.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let is_available = |pod: &Pod| pods::is_available(pod, min_ready, now);
    if surge > 0 {
        surging(inputs, by_node, hash, surge, is_available)
    } else {
        replacing(by_node, hash, unavailable, is_available)
    }
}

fn replacing(by_node: &ByNode, hash: &str, max_unavailable: i32, is_available: impl Fn(&Pod) -> bool) -> Work {
    let mut unavailable = 0;
    let (mut allowed, mut candidates) = (Vec::new(), Vec::new());
    for pods in by_node.values() {
        match pair(pods, hash) {
            None | Some((None, None) | (Some(_), Some(_))) => unavailable += 1,
            Some((Some(new), None)) => unavailable += i32::from(!is_available(new)),
            Some((None, Some(old))) if is_available(old) => candidates.push(old.clone()),
            Some((None, Some(old))) => {
                allowed.push(old.clone());
                unavailable += 1;
            }
        }
    }
    let room = usize::try_from(max_unavailable - unavailable).unwrap_or(0);
    allowed.extend(candidates.into_iter().take(room));
    Work { delete: allowed, create_on: Vec::new() }
}

fn surging(inputs: &Inputs, by_node: &ByNode, hash: &str, max_surge: i32, is_available: impl Fn(&Pod) -> bool) -> Work {
    let mut work = Work::default();
    let mut surged = 0;
    let mut candidates = Vec::new();
    let node = |name: &str| -> Option<&Arc<Node>> { inputs.nodes.iter().find(|node| node.name() == name) };
    for (name, pods) in by_node {
        match pair(pods, hash) {
            None => surged += 1,
            Some((_, None)) => {}
            Some((None, Some(old))) => {
                let may_run = node(name).is_some_and(|node| should_run(&inputs.set, node).0);
                match (may_run, is_available(old)) {
                    (false, _) => work.delete.push(old.clone()),
                    (true, false) => work.create_on.push((*name).into()),
                    (true, true) => candidates.push((*name).to_owned()),
                }
            }
            Some((Some(new), Some(old))) if is_available(new) => work.delete.push(old.clone()),
            Some((Some(_), Some(_))) => surged += 1,
        }
    }
    let room = usize::try_from(max_surge - surged).unwrap_or(0);
    work.create_on.extend(candidates.into_iter().take(room));
    work
}
