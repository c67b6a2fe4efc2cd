//! DefaultPreemption: where no node fits, the pods of lower priority whose removal would make one fit
//! (upstream `framework/preemption/preemption.go`, `plugins/defaultpreemption`). Pure; the executor deletes the victims.

use std::{cmp::Reverse, sync::Arc};

use client::{Kind, kinds::policy::v1::PodDisruptionBudget};
use jiff::Timestamp;

use crate::{
    framework::{Cycle, Rejection},
    labels,
    node::NodeInfo,
    nomination::Nominations,
    plan::{Filters, TieBreak, Unschedulable, write_reasons},
    plugins::names,
    pod::PodInfo,
};

/// Percent of nodes, and their least number, for which victims are looked for before one is chosen.
const CANDIDATE_PERCENTAGE: usize = 10;
const MIN_CANDIDATES: usize = 100;

/// What preemption came to.
#[derive(Clone, Debug)]
pub enum PostFilter {
    NotRun,
    Preempt(Candidate),
    /// The pod may not preempt now; a nomination it has stays.
    Ineligible(&'static str),
    /// No removal of pods helps; a nomination it has is void.
    Hopeless(String),
}

/// A node with the pods to be removed from it, most important first.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub node: String,
    pub victims: Vec<Arc<PodInfo>>,
    /// How many of them break a PodDisruptionBudget.
    pub violations: usize,
}

impl PostFilter {
    pub fn message(&self) -> Option<String> {
        match self {
            PostFilter::NotRun | PostFilter::Preempt(_) => None,
            PostFilter::Ineligible(reason) => Some(format!("preemption: {reason}")),
            PostFilter::Hopeless(message) => Some(format!("preemption: {message}")),
        }
    }
}

pub(crate) fn post_filter(
    cycle: Cycle<'_>,
    filters: &Filters<'_>,
    nominations: &Nominations,
    failure: &Unschedulable<'_>,
    tie: &mut dyn TieBreak,
) -> PostFilter {
    if let Some(reason) = ineligible(cycle, failure) {
        return PostFilter::Ineligible(reason);
    }
    let helped = failure.nodes.iter().filter(|(_, rejection)| rejection.resolvable);
    let nodes: Vec<&NodeInfo> = helped.filter_map(|(name, _)| cycle.snapshot.node(name)).map(|node| &**node).collect();
    let budgets: Vec<&PodDisruptionBudget> = cycle.snapshot.objects.budgets.all().map(|budget| &**budget).collect();
    let mut rejections = Vec::new();
    let (mut kept, mut violating) = (Vec::new(), Vec::new());
    let wanted = (nodes.len() * CANDIDATE_PERCENTAGE / 100).max(MIN_CANDIDATES).min(nodes.len());
    let offset = if nodes.is_empty() { 0 } else { tie.below(nodes.len()) };
    for at in 0..nodes.len() {
        let what_if = WhatIf {
            pod: cycle.pod,
            node: nodes[(offset + at) % nodes.len()].clone(),
            filters: filters.duplicate(),
            nominations,
        };
        match what_if.select_victims(&budgets) {
            Ok(candidate) if candidate.violations == 0 => kept.push(candidate),
            Ok(candidate) => violating.push(candidate),
            Err(rejection) => rejections.push(rejection),
        }
        if !kept.is_empty() && kept.len() + violating.len() >= wanted {
            break;
        }
    }
    kept.append(&mut violating);
    match kept.into_iter().min_by_key(rank) {
        Some(candidate) => PostFilter::Preempt(candidate),
        None => {
            let mut message = format!("0/{} nodes are available:", failure.num_nodes);
            let others = Some("Preemption is not helpful for scheduling");
            // Writing to a string does not fail.
            let _ = write_reasons(&mut message, failure.num_nodes, rejections.iter(), others);
            PostFilter::Hopeless(message)
        }
    }
}

/// Why the pod may not preempt: its class forbids it, or pods are already leaving to make room for it.
fn ineligible(cycle: Cycle<'_>, failure: &Unschedulable<'_>) -> Option<&'static str> {
    let pod = cycle.pod;
    if pod.spec().and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never") {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let nominated = pod.nominated_node();
    let lost = |(name, rejection): &(&str, Rejection)| *name == nominated && !rejection.resolvable;
    if nominated.is_empty() || failure.pre_filter.is_some() || failure.nodes.iter().any(lost) {
        return None;
    }
    let node = cycle.snapshot.node(nominated)?;
    let leaving = |victim: &Arc<PodInfo>| victim.priority() < pod.priority() && is_leaving_for_preemption(victim);
    node.pods.iter().any(leaving).then_some("not eligible due to a terminating pod on the nominated node.")
}

fn is_leaving_for_preemption(pod: &PodInfo) -> bool {
    let mut conditions = pod.status().into_iter().flat_map(|status| status.conditions.iter().flatten());
    pod.is_terminating()
        && conditions.any(|condition| {
            condition.type_ == "DisruptionTarget"
                && condition.status == "True"
                && condition.reason.as_deref() == Some("PreemptionByScheduler")
        })
}

/// A node that pods are taken off and put back on.
struct WhatIf<'a, 'n> {
    pod: &'a PodInfo,
    node: NodeInfo,
    filters: Filters<'a>,
    nominations: &'n Nominations,
}

impl WhatIf<'_, '_> {
    /// Takes off all pods of lower priority, then puts back as many as fit: first those that a budget protects, and the
    /// more important before the less (upstream `SelectVictimsOnNode`).
    fn select_victims(mut self, budgets: &[&PodDisruptionBudget]) -> Result<Candidate, Rejection> {
        let lower = |other: &&Arc<PodInfo>| other.priority() < self.pod.priority();
        let mut potential: Vec<Arc<PodInfo>> = self.node.pods.iter().filter(lower).cloned().collect();
        if potential.is_empty() {
            return Err(Rejection::unresolvable(
                names::DEFAULT_PREEMPTION,
                "No preemption victims found for incoming pod",
            ));
        }
        potential.iter().for_each(|victim| self.remove(victim));
        self.filters.fits(self.pod, &self.node, self.nominations)?;
        potential.sort_by_key(|pod| importance(pod));
        let (violating, others) = split_by_budgets(&potential, budgets);
        let mut victims = Vec::new();
        for victim in &violating {
            self.reprieve(victim, &mut victims);
        }
        let violations = victims.len();
        for victim in &others {
            self.reprieve(victim, &mut victims);
        }
        victims.sort_by_key(|pod| importance(pod));
        if victims.is_empty() {
            // The pod fits without it: only a nominated pod of this pass can have kept it off before.
            return Err(Rejection::unresolvable(
                names::DEFAULT_PREEMPTION,
                "No preemption victims found for incoming pod",
            ));
        }
        Ok(Candidate { node: self.node.name().to_owned(), victims, violations })
    }

    fn remove(&mut self, pod: &Arc<PodInfo>) {
        self.node.remove_pod(pod.uid());
        self.filters.remove_pod(pod, &self.node);
    }

    fn reprieve(&mut self, pod: &Arc<PodInfo>, victims: &mut Vec<Arc<PodInfo>>) {
        self.node.add_pod(pod.clone());
        self.filters.add_pod(pod, &self.node);
        if self.filters.fits(self.pod, &self.node, self.nominations).is_err() {
            self.remove(pod);
            victims.push(pod.clone());
        }
    }
}

/// Sorts the most important first: by priority, then by how long the pod has run.
fn importance(pod: &PodInfo) -> (Reverse<i32>, Timestamp) {
    (Reverse(pod.priority()), start_time(pod))
}

/// A pod that has not started counts as started last.
fn start_time(pod: &PodInfo) -> Timestamp {
    pod.status().and_then(|status| status.start_time.as_ref()).map_or(Timestamp::MAX, |time| time.0)
}

/// The pods whose removal would break a budget, and the others; in the order given.
fn split_by_budgets(pods: &[Arc<PodInfo>], budgets: &[&PodDisruptionBudget]) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let allowed = |budget: &&PodDisruptionBudget| {
        budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0)
    };
    let selector =
        |budget: &&PodDisruptionBudget| labels::selector(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()));
    let mut budgets: Vec<_> = budgets.iter().map(|budget| (*budget, selector(budget), allowed(budget))).collect();
    let mut breaks = |pod: &PodInfo| {
        let mut broken = false;
        for (budget, selector, allowed) in &mut budgets {
            let disrupted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
            if pod.labels().is_empty()
                || budget.namespace() != pod.namespace()
                || selector.is_everything()
                || !selector.matches(pod.labels())
                || disrupted.is_some_and(|pods| pods.contains_key(pod.name()))
            {
                continue;
            }
            *allowed -= 1;
            broken |= *allowed < 0;
        }
        broken
    };
    pods.iter().cloned().partition(|pod| breaks(pod))
}

/// The least is preferred: few broken budgets, unimportant victims, few of them, started lately
/// (upstream `pickOneNodeForPreemption`).
fn rank(candidate: &Candidate) -> (usize, i32, i64, usize, Reverse<Timestamp>) {
    let highest = candidate.victims.first().map_or(i32::MIN, |pod| pod.priority());
    // Shifted above zero, so that many pods of negative priority weigh more than few.
    let sum = candidate.victims.iter().map(|pod| i64::from(pod.priority()) + (1 << 31)).sum();
    let most_important = candidate.victims.iter().filter(|pod| pod.priority() == highest);
    let earliest = most_important.map(|pod| start_time(pod)).min().unwrap_or(Timestamp::MAX);
    (candidate.violations, highest, sum, candidate.victims.len(), Reverse(earliest))
}
