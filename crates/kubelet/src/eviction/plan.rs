//! What node pressure there is and what to do about it, from thresholds and observations over time (upstream
//! `pkg/kubelet/eviction/eviction_manager.go: synchronize`). Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use api::quantity::Quantity;
use jiff::Timestamp;

use super::config::{EvictionConfig, Signal, Threshold};

/// A node condition that the eviction manager answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    DiskPressure,
    MemoryPressure,
    PidPressure,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Condition::DiskPressure => "DiskPressure",
            Condition::MemoryPressure => "MemoryPressure",
            Condition::PidPressure => "PIDPressure",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    pub available: Quantity,
    pub capacity: Quantity,
}

/// What the node has left; a signal that could not be observed is missing, and never met.
pub type Observations = BTreeMap<Signal, Observation>;

/// What is remembered from one round to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Thresholds that were met, and since when.
    first_met: Vec<(Threshold, Timestamp)>,
    /// Those whose grace period was over: they stay met until their minimum reclaim is reached.
    acted_on: Vec<Threshold>,
    conditions_seen: BTreeMap<Condition, Timestamp>,
}

/// The one threshold to act on now.
#[derive(Clone, Debug, PartialEq)]
pub struct Reclaim {
    pub threshold: Threshold,
    /// All that are met, for the message.
    pub met: Vec<Threshold>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PressurePlan {
    /// True now, or within the transition period.
    pub conditions: BTreeSet<Condition>,
    pub reclaim: Option<Reclaim>,
}

/// Thresholds that observations are below; with `min_reclaim` they must be exceeded by that much to count as no longer met.
pub fn met(thresholds: &[Threshold], observations: &Observations, min_reclaim: bool) -> Vec<Threshold> {
    let is_met = |threshold: &&Threshold| {
        observations.get(&threshold.signal).is_some_and(|observed| {
            let mut bound = threshold.value.of(observed.capacity);
            if let Some(more) = threshold.min_reclaim.filter(|_| min_reclaim) {
                bound += more.of(observed.capacity);
            }
            bound > observed.available
        })
    };
    thresholds.iter().filter(is_met).copied().collect()
}

/// One round. `state` goes on to the next one.
pub fn plan(config: &EvictionConfig, state: &mut State, observations: &Observations, now: Timestamp) -> PressurePlan {
    let mut thresholds = met(&config.thresholds, observations, false);
    for unresolved in met(&state.acted_on, observations, true) {
        if !thresholds.contains(&unresolved) {
            thresholds.push(unresolved);
        }
    }
    let since = |threshold: &Threshold| {
        let known = state.first_met.iter().find(|(known, _)| known == threshold);
        known.map_or(now, |(_, since)| *since)
    };
    let first_met: Vec<_> = thresholds.iter().map(|threshold| (*threshold, since(threshold))).collect();
    for threshold in &thresholds {
        state.conditions_seen.insert(threshold.signal.condition(), now);
    }
    let recent = |at: &Timestamp| now.duration_since(*at) < config.pressure_transition_period;
    let seen = state.conditions_seen.iter();
    // One that is met now counts whatever the period is.
    let conditions = seen.filter(|(_, at)| **at == now || recent(at)).map(|(condition, _)| *condition).collect();
    let due = first_met.iter().filter(|(threshold, since)| now.duration_since(*since) >= threshold.grace);
    let mut due: Vec<Threshold> = due.map(|(threshold, _)| *threshold).collect();
    // Memory before everything else; hard before soft, so that the harsher one decides on the grace of its pod.
    due.sort_by_key(|threshold| (threshold.signal, threshold.grace));
    state.first_met = first_met;
    state.acted_on = due.clone();
    PressurePlan { conditions, reclaim: due.first().map(|first| Reclaim { threshold: *first, met: due.clone() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eviction::config::{Statements, pairs};
    use api::quantity::Format;
    use jiff::SignedDuration;

    fn config(soft: &str, grace: &str, reclaim: &str) -> EvictionConfig {
        let statements = Statements {
            hard: None,
            soft: pairs(soft, '<').expect("pairs"),
            soft_grace_period: pairs(grace, '=').expect("pairs"),
            minimum_reclaim: pairs(reclaim, '=').expect("pairs"),
        };
        EvictionConfig::parse(&statements).expect("configuration")
    }

    /// Memory in MiB of 1000, file systems in percent.
    fn observe(memory: i64, disk: i64) -> Observations {
        let of = |available, capacity| Observation {
            available: Quantity::new(available, Format::BinarySI),
            capacity: Quantity::new(capacity, Format::BinarySI),
        };
        [
            (Signal::MemoryAvailable, of(memory << 20, 1000 << 20)),
            (Signal::NodeFsAvailable, of(disk, 100)),
            (Signal::ImageFsAvailable, of(disk, 100)),
        ]
        .into()
    }

    /// Rounds at given seconds: what is observed, and what is planned, as text.
    fn run(config: &EvictionConfig, rounds: &[(i64, (i64, i64), &str)]) {
        let mut state = State::default();
        for (second, (memory, disk), expect) in rounds {
            let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(*second);
            let plan = plan(config, &mut state, &observe(*memory, *disk), now);
            let conditions: Vec<String> = plan.conditions.iter().map(Condition::to_string).collect();
            let reclaim = plan.reclaim.map_or(String::new(), |reclaim| {
                let kind = if reclaim.threshold.is_hard() { "hard" } else { "soft" };
                format!(" {kind} {}", reclaim.threshold.signal)
            });
            assert_eq!(format!("{}{reclaim}", conditions.join("+")), *expect, "at {second} s");
        }
    }

    #[test]
    fn hard_thresholds_act_at_once_and_conditions_outlast_them() {
        run(
            &config("", "", ""),
            &[
                (0, (500, 50), ""),
                (10, (99, 50), "MemoryPressure hard memory.available"),
                (20, (99, 12), "DiskPressure+MemoryPressure hard memory.available"),
                (30, (500, 12), "DiskPressure+MemoryPressure hard imagefs.available"),
                (40, (500, 9), "DiskPressure+MemoryPressure hard nodefs.available"),
                (50, (500, 50), "DiskPressure+MemoryPressure"),
                (320, (500, 50), "DiskPressure"),
                (340, (500, 50), ""),
            ],
        );
    }

    #[test]
    fn soft_thresholds_wait_for_their_grace() {
        run(
            &config("memory.available<300Mi", "memory.available=1m", ""),
            &[
                (0, (200, 50), "MemoryPressure"),
                (50, (200, 50), "MemoryPressure"),
                // Over for a moment: the time counts from the start again.
                (55, (400, 50), "MemoryPressure"),
                (60, (200, 50), "MemoryPressure"),
                (119, (200, 50), "MemoryPressure"),
                (120, (200, 50), "MemoryPressure soft memory.available"),
                (130, (50, 50), "MemoryPressure hard memory.available"),
            ],
        );
    }

    #[test]
    fn minimum_reclaim_keeps_a_threshold_met() {
        run(
            &config("", "", "memory.available=200Mi"),
            &[
                (0, (150, 50), ""),
                (10, (99, 50), "MemoryPressure hard memory.available"),
                (20, (299, 50), "MemoryPressure hard memory.available"),
                (30, (300, 50), "MemoryPressure"),
                (40, (150, 50), "MemoryPressure"),
            ],
        );
    }
}
