//! InterPodAffinity: pods that want, or refuse, to share a topology domain with other pods.

use std::collections::HashMap;

use super::names;
use crate::{
    event::ClusterEvent,
    framework::{Cycle, Filter, MAX_NODE_SCORE, Plugin, PreFilter, Rejection, Score},
    labels,
    node::NodeInfo,
    pod::{AffinityTerm, PodInfo},
    snapshot::Snapshot,
};

/// The weight of the required affinity of pods that run already (upstream's default `hardPodAffinityWeight`).
const HARD_POD_AFFINITY_WEIGHT: i64 = 1;

pub struct InterPodAffinity;

/// How many pods match, per topology key and value.
type Counts<'a> = HashMap<(&'a str, &'a str), i64>;

#[derive(Clone)]
struct Matches<'a> {
    cycle: Cycle<'a>,
    /// Anti-affinity of pods that run already against the pod.
    existing_anti: Counts<'a>,
    /// Pods that match all the pod's affinity terms.
    affinity: Counts<'a>,
    /// Pods that match the pod's anti-affinity terms, each for itself.
    anti: Counts<'a>,
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        names::INTER_POD_AFFINITY
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        let mut matches = Matches { cycle, existing_anti: Counts::new(), affinity: Counts::new(), anti: Counts::new() };
        for node in cycle.snapshot.with_required_anti_affinity() {
            for existing in &node.with_required_anti_affinity {
                matches.count_existing_anti(existing, node.name(), 1);
            }
        }
        let pod = cycle.pod;
        if !pod.required_affinity.is_empty() || !pod.required_anti_affinity.is_empty() {
            for (existing, nodes) in cycle.snapshot.groups().all() {
                matches.count_group(existing, nodes);
            }
        } else if matches.existing_anti.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Filter(Box::new(matches))
    }

    fn pre_score<'a>(&self, cycle: Cycle<'a>, _: &[&'a NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        let mut preferences = Preferences { cycle, scores: HashMap::new() };
        for node in cycle.snapshot.with_affinity() {
            node.with_affinity.iter().for_each(|existing| preferences.count_existing(existing, node));
        }
        let pod = cycle.pod;
        if !pod.preferred_affinity.is_empty() || !pod.preferred_anti_affinity.is_empty() {
            for (existing, nodes) in cycle.snapshot.groups().all() {
                preferences.count_own(existing, nodes);
            }
        }
        (!preferences.scores.is_empty()).then(|| Box::new(preferences) as Box<dyn Score>)
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo, snapshot: &Snapshot) -> bool {
        let all = |terms: &[AffinityTerm], other: &PodInfo| matches_all(terms, other, snapshot);
        match event {
            ClusterEvent::PodAdded(added) => all(&pod.required_affinity, added),
            ClusterEvent::PodDeleted(deleted) => {
                all(&pod.required_anti_affinity, deleted) || all(&deleted.required_anti_affinity, pod)
            }
            ClusterEvent::PodUpdated { old, new } => {
                !all(&pod.required_affinity, old) && all(&pod.required_affinity, new)
                    || all(&pod.required_anti_affinity, old) && !all(&pod.required_anti_affinity, new)
            }
            ClusterEvent::PendingPodUpdated { old, new } => new.uid() == pod.uid() && old.labels() != new.labels(),
            _ => node_may_help(event, pod),
        }
    }
}

/// A node that joins a domain, or moves to another, may help; so does one that leaves what anti-affinity looks at.
fn node_may_help(event: &ClusterEvent, pod: &PodInfo) -> bool {
    let Some((old, new)) = event.node_change() else { return false };
    let new = labels::of(&new.metadata);
    let Some(old) = old.map(|old| labels::of(&old.metadata)) else {
        return !pod.required_anti_affinity.is_empty()
            || pod.required_affinity.iter().any(|term| new.contains_key(&term.topology_key));
    };
    let moved = |term: &AffinityTerm| match (old.get(&term.topology_key), new.get(&term.topology_key)) {
        (Some(old), Some(new)) => old != new,
        _ => false,
    };
    let joined = |term: &AffinityTerm| !old.contains_key(&term.topology_key) && new.contains_key(&term.topology_key);
    let left = |term: &AffinityTerm| old.contains_key(&term.topology_key) && !new.contains_key(&term.topology_key);
    pod.required_affinity.iter().any(|term| moved(term) || joined(term))
        || pod.required_anti_affinity.iter().any(|term| moved(term) || left(term))
}

fn matches_all(terms: &[AffinityTerm], pod: &PodInfo, snapshot: &Snapshot) -> bool {
    !terms.is_empty() && terms.iter().all(|term| term.matches(pod, &snapshot.objects))
}

impl<'a> Matches<'a> {
    /// The labels live in the snapshot, also where the node at hand is a copy made for a what-if.
    fn domain(&self, node: &str, key: &str) -> Option<(&'a str, &'a str)> {
        let (key, value) = self.cycle.snapshot.node(node)?.labels().get_key_value(key)?;
        Some((key, value))
    }

    fn count_existing_anti(&mut self, existing: &PodInfo, node: &str, by: i64) {
        for term in &existing.required_anti_affinity {
            if term.matches(self.cycle.pod, &self.cycle.snapshot.objects)
                && let Some(domain) = self.domain(node, &term.topology_key)
            {
                adjust(&mut self.existing_anti, domain, by);
            }
        }
    }

    /// Pods that look alike match alike.
    fn count_group(&mut self, existing: &PodInfo, nodes: &HashMap<usize, u32>) {
        let (pod, snapshot) = (self.cycle.pod, self.cycle.snapshot);
        let speaks_of = |term: &AffinityTerm| term.matches(existing, &snapshot.objects);
        if matches_all(&pod.required_affinity, existing, snapshot) || pod.required_anti_affinity.iter().any(speaks_of) {
            for (node, count) in nodes {
                self.count_own(existing, snapshot.nodes()[*node].name(), i64::from(*count));
            }
        }
    }

    fn count_own(&mut self, existing: &PodInfo, node: &str, by: i64) {
        let (pod, snapshot) = (self.cycle.pod, self.cycle.snapshot);
        if matches_all(&pod.required_affinity, existing, snapshot) {
            for term in &pod.required_affinity {
                if let Some(domain) = self.domain(node, &term.topology_key) {
                    adjust(&mut self.affinity, domain, by);
                }
            }
        }
        for term in &pod.required_anti_affinity {
            if term.matches(existing, &snapshot.objects)
                && let Some(domain) = self.domain(node, &term.topology_key)
            {
                adjust(&mut self.anti, domain, by);
            }
        }
    }

    fn affinity_holds(&self, node: &NodeInfo) -> bool {
        let terms = &self.cycle.pod.required_affinity;
        let mut present = true;
        for term in terms {
            let Some(value) = node.labels().get(&term.topology_key) else { return false };
            present &= self.affinity.get(&(term.topology_key.as_str(), value.as_str())).is_some_and(|count| *count > 0);
        }
        // The first of a group of pods that want to be together finds none of them yet.
        present || (self.affinity.is_empty() && matches_all(terms, self.cycle.pod, self.cycle.snapshot))
    }

    fn anti_affinity_holds(&self, node: &NodeInfo) -> bool {
        self.anti.is_empty()
            || !self.cycle.pod.required_anti_affinity.iter().any(|term| {
                let value = node.labels().get(&term.topology_key);
                value.is_some_and(|value| {
                    self.anti.get(&(term.topology_key.as_str(), value.as_str())).is_some_and(|count| *count > 0)
                })
            })
    }

    fn existing_anti_affinity_holds(&self, node: &NodeInfo) -> bool {
        let refused = |(key, value): (&String, &String)| {
            self.existing_anti.get(&(key.as_str(), value.as_str())).is_some_and(|count| *count > 0)
        };
        self.existing_anti.is_empty() || !node.labels().iter().any(refused)
    }
}

fn adjust<'a>(counts: &mut Counts<'a>, domain: (&'a str, &'a str), by: i64) {
    let count = counts.entry(domain).or_default();
    *count += by;
    if *count == 0 {
        counts.remove(&domain);
    }
}

impl Filter for Matches<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if !self.affinity_holds(node) {
            return Err(Rejection::unresolvable(names::INTER_POD_AFFINITY, "node(s) didn't match pod affinity rules"));
        }
        if !self.anti_affinity_holds(node) {
            return Err(Rejection::resolvable(
                names::INTER_POD_AFFINITY,
                "node(s) didn't match pod anti-affinity rules",
            ));
        }
        if !self.existing_anti_affinity_holds(node) {
            let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
            return Err(Rejection::resolvable(names::INTER_POD_AFFINITY, reason));
        }
        Ok(())
    }

    fn add_pod(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.count_existing_anti(pod, node.name(), 1);
        self.count_own(pod, node.name(), 1);
    }

    fn remove_pod(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.count_existing_anti(pod, node.name(), -1);
        self.count_own(pod, node.name(), -1);
    }

    fn duplicate<'b>(&self) -> Box<dyn Filter + 'b>
    where
        Self: 'b,
    {
        Box::new(self.clone())
    }
}

struct Preferences<'a> {
    cycle: Cycle<'a>,
    /// Sums of weights, per topology key and value.
    scores: HashMap<&'a str, HashMap<&'a str, i64>>,
}

impl<'a> Preferences<'a> {
    /// What the pod thinks of a group of pods that run.
    fn count_own(&mut self, existing: &PodInfo, nodes: &HashMap<usize, u32>) {
        let Cycle { pod, snapshot } = self.cycle;
        let wanted = pod.preferred_affinity.iter().map(|(weight, term)| (*weight, term));
        let unwanted = pod.preferred_anti_affinity.iter().map(|(weight, term)| (-weight, term));
        for (weight, term) in wanted.chain(unwanted).filter(|(_, term)| term.matches(existing, &snapshot.objects)) {
            for (node, count) in nodes {
                if let Some(value) = snapshot.nodes()[*node].labels().get(&term.topology_key) {
                    let scores = self.scores.entry(&term.topology_key).or_default();
                    *scores.entry(value).or_default() += weight * i64::from(*count);
                }
            }
        }
    }

    /// What a pod that runs thinks of the pod.
    fn count_existing(&mut self, existing: &'a PodInfo, node: &'a NodeInfo) {
        let pod = self.cycle.pod;
        for term in &existing.required_affinity {
            self.add(term, pod, node, HARD_POD_AFFINITY_WEIGHT);
        }
        for (weight, term) in &existing.preferred_affinity {
            self.add(term, pod, node, *weight);
        }
        for (weight, term) in &existing.preferred_anti_affinity {
            self.add(term, pod, node, -weight);
        }
    }

    fn add(&mut self, term: &'a AffinityTerm, pod: &PodInfo, node: &'a NodeInfo, weight: i64) {
        if let Some(value) = node.labels().get(&term.topology_key)
            && term.matches(pod, &self.cycle.snapshot.objects)
        {
            *self.scores.entry(&term.topology_key).or_default().entry(value).or_default() += weight;
        }
    }
}

impl Score for Preferences<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let of_key = |(key, values): (&&str, &HashMap<&str, i64>)| {
            node.labels().get(*key).and_then(|value| values.get(value.as_str())).copied().unwrap_or(0)
        };
        self.scores.iter().map(of_key).sum()
    }

    fn normalize(&self, _: &[&NodeInfo], scores: &mut [i64]) {
        let min = scores.iter().copied().min().unwrap_or(0);
        let max = scores.iter().copied().max().unwrap_or(0);
        for score in scores {
            let share = if max > min { (*score - min) as f64 / (max - min) as f64 } else { 0.0 };
            *score = (MAX_NODE_SCORE as f64 * share) as i64;
        }
    }
}
