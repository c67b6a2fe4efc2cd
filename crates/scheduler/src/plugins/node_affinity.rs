//! NodeAffinity: `spec.nodeSelector`, required and preferred node affinity.

use std::collections::BTreeSet;

use super::names;
use crate::{
    event::ClusterEvent,
    framework::{Cycle, Filter, Plugin, PreFilter, Rejection, Score, normalize},
    labels::{NodeTerm, RequiredNodeAffinity, required_terms},
    node::NodeInfo,
    pod::PodInfo,
    snapshot::Snapshot,
};

pub struct NodeAffinity;

#[derive(Clone)]
struct Required(RequiredNodeAffinity);

struct Preferred(Vec<(i64, NodeTerm)>);

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        names::NODE_AFFINITY
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        let required = required(cycle.pod);
        if required.is_empty() {
            return PreFilter::Skip;
        }
        let filter = Box::new(Required(required));
        match named_nodes(cycle.pod) {
            None => PreFilter::Filter(filter),
            Some(names) if names.is_empty() => {
                PreFilter::Reject(Rejection::unresolvable(self.name(), "pod affinity terms conflict"))
            }
            Some(names) => PreFilter::Nodes(names, filter),
        }
    }

    fn pre_score<'a>(&self, cycle: Cycle<'a>, _: &[&'a NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        let affinity = cycle.pod.spec()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let terms = affinity.preferred_during_scheduling_ignored_during_execution.as_ref()?;
        let terms: Vec<_> = terms
            .iter()
            .filter(|term| term.weight != 0)
            .filter_map(|term| Some((i64::from(term.weight), NodeTerm::new(&term.preference)?)))
            .collect();
        (!terms.is_empty()).then(|| Box::new(Preferred(terms)) as Box<dyn Score>)
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo, _: &Snapshot) -> bool {
        let Some((old, new)) = event.node_change() else { return false };
        let required = required(pod);
        required.matches(new) && !old.is_some_and(|old| required.matches(old))
    }
}

fn required(pod: &PodInfo) -> RequiredNodeAffinity {
    pod.spec().map(RequiredNodeAffinity::new).unwrap_or_default()
}

/// The nodes that the terms name by `metadata.name`; `None` where some term names none, as any node may then do.
fn named_nodes(pod: &PodInfo) -> Option<BTreeSet<String>> {
    let terms = required_terms(pod.spec()?).filter(|terms| !terms.is_empty())?;
    let mut names = BTreeSet::new();
    for term in terms {
        let fields = term.match_fields.iter().flatten();
        let named = fields.filter(|field| field.key == "metadata.name" && field.operator == "In");
        let sets = named.map(|field| field.values.iter().flatten().cloned().collect::<BTreeSet<String>>());
        names.extend(sets.reduce(|one, other| &one & &other)?);
    }
    Some(names)
}

impl Filter for Required {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if self.0.matches(&node.node) {
            return Ok(());
        }
        Err(Rejection::unresolvable(names::NODE_AFFINITY, "node(s) didn't match Pod's node affinity/selector"))
    }

    fn duplicate<'a>(&self) -> Box<dyn Filter + 'a>
    where
        Self: 'a,
    {
        Box::new(self.clone())
    }
}

impl Score for Preferred {
    fn score(&self, node: &NodeInfo) -> i64 {
        self.0.iter().filter(|(_, term)| term.matches(&node.node)).map(|(weight, _)| weight).sum()
    }

    fn normalize(&self, _: &[&NodeInfo], scores: &mut [i64]) {
        normalize(scores, false);
    }
}
