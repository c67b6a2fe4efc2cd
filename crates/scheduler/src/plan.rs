//! One scheduling decision: a pod and a snapshot in, a placement or the reasons against every node out
//! (upstream `schedule_one.go`, `schedulePod`). Pure: chance comes through [`TieBreak`], time does not come at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    framework::{Cycle, Filter, PreBind, PreFilter, Rejection, Score},
    node::NodeInfo,
    nomination::Nominations,
    plugins::{Weighted, default_plugins},
    pod::PodInfo,
    preemption::{self, PostFilter},
    snapshot::Snapshot,
};

/// Fewer nodes than this are always all looked at.
const MIN_FEASIBLE_NODES: usize = 100;
/// Percent of nodes that are looked at in the largest clusters.
const MIN_PERCENTAGE: usize = 5;

/// What pods of one `schedulerName` are scheduled with.
pub struct Profile {
    pub scheduler_name: String,
    pub plugins: Vec<Weighted>,
    /// How many nodes, in percent, have to fit before the search ends; `None` adapts to the number of nodes.
    pub percentage_of_nodes_to_score: Option<usize>,
}

impl Default for Profile {
    fn default() -> Self {
        Profile {
            scheduler_name: "default-scheduler".into(),
            plugins: default_plugins(),
            percentage_of_nodes_to_score: None,
        }
    }
}

/// Chooses among equals.
pub trait TieBreak {
    /// A number below `bound`, which is at least 1.
    fn below(&mut self, bound: usize) -> usize;
}

/// Chooses the first: for tests and simulations.
pub struct First;

impl TieBreak for First {
    fn below(&mut self, _: usize) -> usize {
        0
    }
}

/// What one decision hands on to the next.
#[derive(Debug, Default)]
pub struct Search {
    /// Where the next search begins, so that all nodes have their turn.
    pub next_start: usize,
}

pub enum Outcome<'a> {
    Placed(Placement<'a>),
    Unschedulable(Unschedulable<'a>),
}

pub struct Placement<'a> {
    pub node: &'a NodeInfo,
    pub evaluated: usize,
    /// The nodes that fit, with the weighted sum of their scores; without scores where there was one alone.
    pub feasible: Vec<(&'a NodeInfo, i64)>,
    /// Weighted scores of each plugin, in the order of `feasible`.
    pub scores: Vec<(&'static str, Vec<i64>)>,
    pub pre_bind: Vec<PreBind>,
}

/// Why no node takes the pod (upstream `framework.FitError`). Its text is the message of the pod's condition.
pub struct Unschedulable<'a> {
    pub num_nodes: usize,
    pub nodes: Vec<(&'a str, Rejection)>,
    /// A plugin that refused before any node was looked at.
    pub pre_filter: Option<Rejection>,
    /// Plugins that named the only nodes to look at.
    pub restricted_by: BTreeSet<&'static str>,
    pub post_filter: PostFilter,
}

/// The filters of all plugins for one pod, in their order.
pub(crate) struct Filters<'a> {
    list: Vec<Box<dyn Filter + 'a>>,
    only: Option<BTreeSet<String>>,
    restricted_by: BTreeSet<&'static str>,
}

/// Decides where `pod` goes.
pub fn schedule_one<'a>(
    profile: &Profile,
    pod: &'a PodInfo,
    snapshot: &'a Snapshot,
    nominations: &Nominations,
    search: &mut Search,
    tie: &mut dyn TieBreak,
) -> Outcome<'a> {
    let cycle = Cycle { pod, snapshot };
    let mut failure = Unschedulable {
        num_nodes: snapshot.nodes().len(),
        nodes: Vec::new(),
        pre_filter: None,
        restricted_by: BTreeSet::new(),
        post_filter: PostFilter::NotRun,
    };
    if snapshot.nodes().is_empty() {
        return Outcome::Unschedulable(failure);
    }
    let mut filters = match Filters::new(profile, cycle) {
        Ok(filters) => filters,
        Err(rejection) => {
            failure.pre_filter = Some(rejection);
            failure.post_filter = preemption::post_filter(cycle, &Filters::none(), nominations, &failure, tie);
            return Outcome::Unschedulable(failure);
        }
    };
    let feasible = find_feasible(profile, cycle, &filters, nominations, search, &mut failure);
    if feasible.is_empty() {
        failure.restricted_by = std::mem::take(&mut filters.restricted_by);
        failure.post_filter = preemption::post_filter(cycle, &filters, nominations, &failure, tie);
        return Outcome::Unschedulable(failure);
    }
    let evaluated = feasible.len() + failure.nodes.len();
    let mut placement = prioritize(profile, cycle, feasible, tie);
    placement.evaluated = evaluated;
    for Weighted { plugin, .. } in &profile.plugins {
        if let Err(rejection) = plugin.permit(cycle, placement.node) {
            failure.nodes.push((placement.node.name(), rejection));
            return Outcome::Unschedulable(failure);
        }
        placement.pre_bind.extend(plugin.pre_bind(cycle, placement.node));
    }
    Outcome::Placed(placement)
}

impl<'a> Filters<'a> {
    fn none() -> Filters<'a> {
        Filters { list: Vec::new(), only: None, restricted_by: BTreeSet::new() }
    }

    fn new(profile: &Profile, cycle: Cycle<'a>) -> Result<Filters<'a>, Rejection> {
        let mut filters = Filters::none();
        for Weighted { plugin, .. } in &profile.plugins {
            match plugin.pre_filter(cycle) {
                PreFilter::Skip => {}
                PreFilter::Reject(rejection) => return Err(rejection),
                PreFilter::Filter(filter) => filters.list.push(filter),
                PreFilter::Nodes(names, filter) => {
                    filters.list.push(filter);
                    filters.only = Some(filters.only.map_or(names.clone(), |only| &only & &names));
                    filters.restricted_by.insert(plugin.name());
                }
            }
        }
        Ok(filters)
    }

    fn run(&self, node: &NodeInfo) -> Result<(), Rejection> {
        self.list.iter().try_for_each(|filter| filter.filter(node))
    }

    pub(crate) fn duplicate(&self) -> Filters<'a> {
        Filters { list: self.list.iter().map(|filter| filter.duplicate()).collect(), ..Filters::none() }
    }

    pub(crate) fn add_pod(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.list.iter_mut().for_each(|filter| filter.add_pod(pod, node));
    }

    pub(crate) fn remove_pod(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.list.iter_mut().for_each(|filter| filter.remove_pod(pod, node));
    }

    /// Whether the pod fits beside the pods nominated to the node that it has to give way to, and also if those never come
    /// (upstream `RunFilterPluginsWithNominatedPods`).
    pub(crate) fn fits(&self, pod: &PodInfo, node: &NodeInfo, nominations: &Nominations) -> Result<(), Rejection> {
        let yields = |other: &&std::sync::Arc<PodInfo>| other.priority() >= pod.priority() && other.uid() != pod.uid();
        let mut others = nominations.on(node.name()).iter().filter(yields).peekable();
        if others.peek().is_some() {
            let (mut filters, mut with) = (self.duplicate(), node.clone());
            for other in others {
                with.add_pod(other.clone());
                filters.add_pod(other, &with);
            }
            filters.run(&with)?;
        }
        self.run(node)
    }
}

fn find_feasible<'a>(
    profile: &Profile,
    cycle: Cycle<'a>,
    filters: &Filters<'a>,
    nominations: &Nominations,
    search: &mut Search,
    failure: &mut Unschedulable<'a>,
) -> Vec<&'a NodeInfo> {
    let (pod, snapshot) = (cycle.pod, cycle.snapshot);
    // The room that preemption made for the pod is the likeliest place.
    if let Some(node) = snapshot.node(nominations.node_of(pod.uid()).unwrap_or(pod.nominated_node()))
        && filters.only.as_ref().is_none_or(|only| only.contains(node.name()))
        && filters.fits(pod, node, nominations).is_ok()
    {
        return vec![node];
    }
    let all = snapshot.nodes();
    let named: Option<Vec<_>> =
        filters.only.as_ref().map(|only| only.iter().filter_map(|name| snapshot.node(name)).collect());
    let count = named.as_ref().map_or(all.len(), Vec::len);
    let target = nodes_to_find(profile.percentage_of_nodes_to_score, count);
    let mut feasible = Vec::with_capacity(target);
    for at in 0..count {
        let at = (search.next_start + at) % count;
        let node: &NodeInfo = named.as_ref().map_or_else(|| &*all[at], |named| named[at]);
        match filters.fits(pod, node, nominations) {
            Ok(()) => feasible.push(node),
            Err(rejection) => failure.nodes.push((node.name(), rejection)),
        }
        if feasible.len() == target {
            break;
        }
    }
    search.next_start = (search.next_start + feasible.len() + failure.nodes.len()) % all.len();
    feasible
}

/// How many nodes that fit end the search (upstream `numFeasibleNodesToFind`).
pub fn nodes_to_find(percentage: Option<usize>, nodes: usize) -> usize {
    if nodes < MIN_FEASIBLE_NODES {
        return nodes;
    }
    let adaptive = || 50_usize.saturating_sub(nodes / 125).max(MIN_PERCENTAGE);
    let percentage = percentage.filter(|percentage| *percentage > 0).unwrap_or_else(adaptive);
    (nodes * percentage / 100).clamp(MIN_FEASIBLE_NODES, nodes)
}

fn prioritize<'a>(
    profile: &Profile,
    cycle: Cycle<'a>,
    nodes: Vec<&'a NodeInfo>,
    tie: &mut dyn TieBreak,
) -> Placement<'a> {
    let mut totals = vec![0; nodes.len()];
    let mut scores = Vec::new();
    if nodes.len() > 1 {
        for Weighted { plugin, weight } in profile.plugins.iter().filter(|weighted| weighted.weight > 0) {
            let Some(score) = plugin.pre_score(cycle, &nodes) else { continue };
            let weighted = score_nodes(&*score, &nodes, *weight);
            totals.iter_mut().zip(&weighted).for_each(|(total, score)| *total += score);
            scores.push((plugin.name(), weighted));
        }
    }
    let best = totals.iter().copied().max().unwrap_or(0);
    let ties: Vec<usize> = (0..nodes.len()).filter(|at| totals[*at] == best).collect();
    let node = nodes[ties[tie.below(ties.len())]];
    let feasible = nodes.into_iter().zip(totals).collect();
    Placement { node, evaluated: 0, feasible, scores, pre_bind: Vec::new() }
}

fn score_nodes(score: &dyn Score, nodes: &[&NodeInfo], weight: i64) -> Vec<i64> {
    let mut scores: Vec<i64> = nodes.iter().map(|node| score.score(node)).collect();
    score.normalize(nodes, &mut scores);
    scores.iter_mut().for_each(|score| *score *= weight);
    scores
}

impl fmt::Display for Placement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "place on {} ({} of {} evaluated fit)", self.node.name(), self.feasible.len(), self.evaluated)?;
        for (at, (node, total)) in self.feasible.iter().enumerate() {
            write!(f, "\n  {} {total}", node.name())?;
            for (plugin, scores) in &self.scores {
                write!(f, " {plugin}={}", scores[at])?;
            }
        }
        self.pre_bind.iter().try_for_each(|step| write!(f, "\n  first {step}"))
    }
}

impl Unschedulable<'_> {
    /// The plugins whose minds an event has to change before another attempt makes sense.
    pub fn rejectors(&self) -> BTreeSet<&'static str> {
        let rejections = self.nodes.iter().map(|(_, rejection)| rejection).chain(&self.pre_filter);
        rejections.map(|rejection| rejection.plugin).chain(self.restricted_by.iter().copied()).collect()
    }
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: ...`
impl fmt::Display for Unschedulable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.num_nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.num_nodes)?;
        match &self.pre_filter {
            Some(rejection) => write!(f, " {}.", rejection.message())?,
            None => {
                let others = match self.restricted_by.len() {
                    0 => None,
                    _ => Some(format!(
                        "node(s) didn't satisfy plugin(s) [{}]",
                        Vec::from_iter(self.restricted_by.iter().copied()).join(" ")
                    )),
                };
                write_reasons(f, self.num_nodes, self.nodes.iter().map(|(_, rejection)| rejection), others.as_deref())?;
            }
        }
        match self.post_filter.message() {
            Some(message) => write!(f, " {message}"),
            None => Ok(()),
        }
    }
}

/// How many nodes each reason holds for, in order of the text; `others` is that of the nodes not listed.
pub(crate) fn write_reasons<'a>(
    f: &mut impl fmt::Write,
    num_nodes: usize,
    rejections: impl Iterator<Item = &'a Rejection>,
    others: Option<&str>,
) -> fmt::Result {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut listed = 0;
    for rejection in rejections {
        listed += 1;
        rejection.reasons.iter().for_each(|reason| *counts.entry(reason).or_default() += 1);
    }
    if let Some(others) = others.filter(|_| listed < num_nodes) {
        *counts.entry(others).or_default() += num_nodes - listed;
    }
    let mut texts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    texts.sort();
    if texts.is_empty() { Ok(()) } else { write!(f, " {}.", texts.join(", ")) }
}
