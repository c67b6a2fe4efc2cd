//! PodTopologySpread: keeps the numbers of matching pods in topology domains close to each other.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use client::{
    apimachinery::pkg::apis::meta::v1::OwnerReference,
    kinds::core::v1::{Node, TopologySpreadConstraint},
};

use super::names;
use crate::{
    event::ClusterEvent,
    framework::{Cycle, Filter, MAX_NODE_SCORE, Plugin, PreFilter, Rejection, Score},
    labels::{self, Labels, Operator, RequiredNodeAffinity, Requirement, Selector},
    node::NodeInfo,
    objects::Objects,
    pod::PodInfo,
    snapshot::Snapshot,
    taints,
};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

pub struct PodTopologySpread;

#[derive(Clone, Debug)]
struct Constraint {
    max_skew: i64,
    topology_key: String,
    selector: Selector,
    min_domains: i64,
    honor_affinity: bool,
    honor_taints: bool,
}

/// The pod's constraints of one kind, with what decides which nodes count for them.
#[derive(Clone)]
struct Constraints<'a> {
    pod: &'a PodInfo,
    list: Vec<Constraint>,
    affinity: RequiredNodeAffinity,
}

impl<'a> Constraints<'a> {
    /// `action` is `DoNotSchedule` or `ScheduleAnyway`. A pod without any constraint has upstream's default ones, which
    /// are soft: over zones with a skew of 5, over nodes with a skew of 3.
    fn new(pod: &'a PodInfo, objects: &Objects, action: &str) -> Constraints<'a> {
        let own = pod.spec().and_then(|spec| spec.topology_spread_constraints.as_deref()).unwrap_or_default();
        let list = if !own.is_empty() {
            let own = own.iter().filter(|constraint| constraint.when_unsatisfiable == action);
            own.map(|constraint| Constraint::new(constraint, pod.labels())).collect()
        } else if action == "ScheduleAnyway" {
            default_constraints(default_selector(pod, objects))
        } else {
            Vec::new()
        };
        let affinity = pod.spec().map(RequiredNodeAffinity::new).unwrap_or_default();
        Constraints { pod, list, affinity }
    }

    fn all_keys_on(&self, labels: &Labels) -> bool {
        self.list.iter().all(|constraint| labels.contains_key(&constraint.topology_key))
    }

    /// Whether the pods of this node count for the constraint.
    fn counts(&self, constraint: &Constraint, node: &Node) -> bool {
        (!constraint.honor_affinity || self.affinity.matches(node))
            && (!constraint.honor_taints || !taints::untolerated(taints::of(node), self.pod.tolerations()))
    }

    /// Matching pods per node, for each constraint; one selector is looked for once.
    fn matching(&self, snapshot: &Snapshot) -> Vec<Rc<[i64]>> {
        let mut all: Vec<Rc<[i64]>> = Vec::with_capacity(self.list.len());
        for (at, constraint) in self.list.iter().enumerate() {
            let same = self.list[..at].iter().position(|earlier| earlier.selector == constraint.selector);
            all.push(match same {
                Some(earlier) => all[earlier].clone(),
                // Upstream counts none where the selector is empty.
                None if constraint.selector.is_everything() => vec![0; snapshot.nodes().len()].into(),
                None => snapshot.matching(self.pod.namespace(), &constraint.selector).into(),
            });
        }
        all
    }
}

impl Constraint {
    fn new(constraint: &TopologySpreadConstraint, own: &Labels) -> Constraint {
        let value = |key: &String| Requirement::new(key, Operator::In, vec![own.get(key)?.as_str().into()]).ok();
        let more = constraint.match_label_keys.iter().flatten().filter_map(value);
        let selector = labels::narrow(&labels::selector(constraint.label_selector.as_ref()), more);
        Constraint {
            max_skew: constraint.max_skew.into(),
            topology_key: constraint.topology_key.clone(),
            selector,
            min_domains: constraint.min_domains.unwrap_or(1).into(),
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}

fn default_constraints(selector: Selector) -> Vec<Constraint> {
    if selector.is_everything() {
        return Vec::new();
    }
    let constraint = |(key, max_skew): (&str, i64)| Constraint {
        max_skew,
        topology_key: key.into(),
        selector: selector.clone(),
        min_domains: 1,
        honor_affinity: true,
        honor_taints: false,
    };
    [(HOSTNAME, 3), (ZONE, 5)].into_iter().map(constraint).collect()
}

/// What selects the pod's like: the services that select it and the controller that owns it, together; everything where
/// there are none (`plugins/helper/spread.go`, `DefaultSelector`).
pub fn default_selector(pod: &PodInfo, objects: &Objects) -> Selector {
    let mut merged = Labels::new();
    for service in objects.services.in_namespace(pod.namespace()) {
        let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { continue };
        if selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value)) {
            merged.extend(selector.clone());
        }
    }
    let references = pod.pod.metadata.owner_references.iter().flatten();
    let owner = references.into_iter().find(|owner| owner.controller == Some(true));
    let own = owner.and_then(|owner| owner_selector(pod, owner, objects)).unwrap_or_else(Selector::everything);
    labels::narrow(&labels::selector_of_map(&merged), own.requirements().iter().cloned())
}

fn owner_selector(pod: &PodInfo, owner: &OwnerReference, objects: &Objects) -> Option<Selector> {
    match (owner.api_version.as_str(), owner.kind.as_str()) {
        ("v1", "ReplicationController") => {
            let owner = objects.replication_controllers.get(pod.namespace(), &owner.name)?;
            Some(labels::selector_of_map(owner.spec.as_ref()?.selector.as_ref()?))
        }
        ("apps/v1", "ReplicaSet") => {
            let owner = objects.replica_sets.get(pod.namespace(), &owner.name)?;
            Some(labels::selector(Some(&owner.spec.as_ref()?.selector)))
        }
        ("apps/v1", "StatefulSet") => {
            let owner = objects.stateful_sets.get(pod.namespace(), &owner.name)?;
            Some(labels::selector(Some(&owner.spec.as_ref()?.selector)))
        }
        _ => None,
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        names::POD_TOPOLOGY_SPREAD
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        let constraints = Constraints::new(cycle.pod, &cycle.snapshot.objects, "DoNotSchedule");
        if constraints.list.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Filter(Box::new(Skew::new(constraints, cycle.snapshot)))
    }

    fn pre_score<'a>(&self, cycle: Cycle<'a>, nodes: &[&'a NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        let constraints = Constraints::new(cycle.pod, &cycle.snapshot.objects, "ScheduleAnyway");
        if constraints.list.is_empty() {
            return None;
        }
        Some(Box::new(Spread::new(constraints, cycle.snapshot, nodes)))
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo, snapshot: &Snapshot) -> bool {
        let constraints = Constraints::new(pod, &snapshot.objects, "DoNotSchedule");
        let selects = |other: &PodInfo| {
            other.namespace() == pod.namespace()
                && constraints.list.iter().any(|constraint| constraint.selector.matches(other.labels()))
        };
        match event {
            ClusterEvent::PodAdded(other) | ClusterEvent::PodDeleted(other) => selects(other),
            ClusterEvent::PodUpdated { old, new } => selects(old) != selects(new),
            ClusterEvent::PendingPodUpdated { old, new } if new.uid() == pod.uid() => {
                let honor = constraints.list.iter().any(|constraint| constraint.honor_taints);
                (honor && old.tolerations() != new.tolerations()) || old.labels() != new.labels()
            }
            ClusterEvent::NodeAdded(node) | ClusterEvent::NodeDeleted(node) => {
                constraints.all_keys_on(labels::of(&node.metadata))
            }
            ClusterEvent::NodeUpdated { old, new } => {
                let (before, after) = (labels::of(&old.metadata), labels::of(&new.metadata));
                let was = constraints.all_keys_on(before);
                let is = constraints.all_keys_on(after);
                let moved = |constraint: &Constraint| {
                    before.get(&constraint.topology_key) != after.get(&constraint.topology_key)
                };
                was != is || (is && (constraints.list.iter().any(moved) || taints::of(old) != taints::of(new)))
            }
            _ => false,
        }
    }
}

/// Hard constraints: matching pods per domain, for each constraint.
#[derive(Clone)]
struct Skew<'a> {
    constraints: Constraints<'a>,
    domains: Vec<HashMap<&'a str, i64>>,
    /// The least of each, which the skew is measured from.
    least: Vec<i64>,
}

impl<'a> Skew<'a> {
    fn new(constraints: Constraints<'a>, snapshot: &'a Snapshot) -> Skew<'a> {
        let mut domains = vec![HashMap::new(); constraints.list.len()];
        let matching = constraints.matching(snapshot);
        let nodes = snapshot.nodes().iter().enumerate();
        for (at, node) in nodes.filter(|(_, node)| constraints.all_keys_on(node.labels())) {
            for ((constraint, domains), matching) in constraints.list.iter().zip(&mut domains).zip(&matching) {
                if constraints.counts(constraint, &node.node)
                    && let Some(value) = node.labels().get(&constraint.topology_key)
                {
                    *domains.entry(value.as_str()).or_insert(0) += matching[at];
                }
            }
        }
        let mut skew = Skew { constraints, domains, least: Vec::new() };
        skew.find_least();
        skew
    }

    /// Fewer domains than `minDomains`: the least is taken to be 0.
    fn find_least(&mut self) {
        let least = |(constraint, domains): (&Constraint, &HashMap<&str, i64>)| {
            if (domains.len() as i64) < constraint.min_domains {
                0
            } else {
                domains.values().copied().min().unwrap_or(0)
            }
        };
        self.least = self.constraints.list.iter().zip(&self.domains).map(least).collect();
    }

    fn count(&mut self, pod: &PodInfo, node: &NodeInfo, by: i64) {
        if pod.namespace() != self.constraints.pod.namespace() || !self.constraints.all_keys_on(node.labels()) {
            return;
        }
        for (constraint, domains) in self.constraints.list.iter().zip(&mut self.domains) {
            if constraint.selector.matches(pod.labels())
                && self.constraints.counts(constraint, &node.node)
                && let Some(value) = node.labels().get(&constraint.topology_key)
                && let Some(count) = domains.get_mut(value.as_str())
            {
                *count += by;
            }
        }
        self.find_least();
    }
}

impl Filter for Skew<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        for ((constraint, domains), least) in self.constraints.list.iter().zip(&self.domains).zip(&self.least) {
            let Some(value) = node.labels().get(&constraint.topology_key) else {
                let reason = "node(s) didn't match pod topology spread constraints (missing required label)";
                return Err(Rejection::unresolvable(names::POD_TOPOLOGY_SPREAD, reason));
            };
            let own = i64::from(constraint.selector.matches(self.constraints.pod.labels()));
            let matching = domains.get(value.as_str()).copied().unwrap_or(0);
            if matching + own - least > constraint.max_skew {
                let reason = "node(s) didn't match pod topology spread constraints";
                return Err(Rejection::resolvable(names::POD_TOPOLOGY_SPREAD, reason));
            }
        }
        Ok(())
    }

    fn add_pod(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.count(pod, node, 1);
    }

    fn remove_pod(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.count(pod, node, -1);
    }

    fn duplicate<'b>(&self) -> Box<dyn Filter + 'b>
    where
        Self: 'b,
    {
        Box::new(self.clone())
    }
}

/// Soft constraints: matching pods per node, and their sums per domain where a domain is more than a node.
struct Spread<'a> {
    snapshot: &'a Snapshot,
    constraints: Constraints<'a>,
    matching: Vec<Rc<[i64]>>,
    domains: Vec<HashMap<&'a str, i64>>,
    /// What a pod more weighs: the more domains, the more.
    weights: Vec<f64>,
    ignored: HashSet<&'a str>,
}

impl<'a> Spread<'a> {
    fn new(constraints: Constraints<'a>, snapshot: &'a Snapshot, nodes: &[&'a NodeInfo]) -> Spread<'a> {
        // Default constraints leave room for nodes without a zone.
        let own = constraints.pod.spec().and_then(|spec| spec.topology_spread_constraints.as_ref());
        let all_keys = own.is_some_and(|own| !own.is_empty());
        let scored = |node: &NodeInfo| !all_keys || constraints.all_keys_on(node.labels());
        let ignored: HashSet<&str> = nodes.iter().filter(|node| !scored(node)).map(|node| node.name()).collect();
        let mut domains = Vec::new();
        let mut weights = Vec::new();
        for constraint in &constraints.list {
            let mut values: HashMap<&'a str, i64> = HashMap::new();
            let mut size = nodes.len() - ignored.len();
            if constraint.topology_key != HOSTNAME {
                let mut missing = false;
                for node in nodes.iter().filter(|node| scored(node)) {
                    match node.labels().get(&constraint.topology_key) {
                        Some(value) => drop(values.insert(value, 0)),
                        None => missing = true,
                    }
                }
                size = values.len() + usize::from(missing);
            }
            weights.push(((size + 2) as f64).ln());
            domains.push(values);
        }
        let matching = constraints.matching(snapshot);
        let mut spread = Spread { snapshot, constraints, matching, domains, weights, ignored };
        spread.count(all_keys);
        spread
    }

    fn count(&mut self, all_keys: bool) {
        let constraints = &self.constraints;
        let each = constraints.list.iter().zip(&mut self.domains).zip(&self.matching);
        for ((constraint, domains), matching) in each.filter(|((_, domains), _)| !domains.is_empty()) {
            for (node, matching) in self.snapshot.nodes().iter().zip(&**matching).filter(|(_, matching)| **matching > 0)
            {
                if let Some(value) = node.labels().get(&constraint.topology_key)
                    && let Some(count) = domains.get_mut(value.as_str())
                    && (!all_keys || constraints.all_keys_on(node.labels()))
                    && constraints.counts(constraint, &node.node)
                {
                    *count += matching;
                }
            }
        }
    }
}

impl Score for Spread<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        if self.ignored.contains(node.name()) {
            return 0;
        }
        let place = self.snapshot.place(node.name());
        let mut score = 0.0;
        let each = self.constraints.list.iter().zip(&self.domains).zip(&self.weights).zip(&self.matching);
        for (((constraint, domains), weight), matching) in each {
            let Some(value) = node.labels().get(&constraint.topology_key) else { continue };
            let count = match constraint.topology_key.as_str() {
                HOSTNAME => place.and_then(|place| matching.get(place)).copied().unwrap_or(0),
                _ => domains.get(value.as_str()).copied().unwrap_or(0),
            };
            score += count as f64 * weight + (constraint.max_skew - 1) as f64;
        }
        score.round() as i64
    }

    fn normalize(&self, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let ignored = |node: &NodeInfo| self.ignored.contains(node.name());
        let counted = || nodes.iter().zip(scores.iter()).filter(|(node, _)| !ignored(node)).map(|(_, score)| *score);
        let (min, max) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
        for (node, score) in nodes.iter().zip(scores) {
            *score = match max {
                _ if ignored(node) => 0,
                0 => MAX_NODE_SCORE,
                max => MAX_NODE_SCORE * (max + min - *score) / max,
            };
        }
    }
}
