//! Probes: what counts as a verdict ([`Counter`], pure) and the task that runs one probe of one container instance.
//! Upstream: `pkg/kubelet/prober/worker.go`.

pub mod check;
pub mod http;

use std::{sync::Arc, time::Duration};

use client::kinds::core::v1::{Container, Probe};

pub use check::Target;

use crate::cri::Runtime;

/// Upstream's User-Agent of probes.
pub const AGENT: &str = "kube-probe/1.36";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    pub const ALL: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];

    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            ProbeKind::Startup => container.startup_probe.as_ref(),
            ProbeKind::Liveness => container.liveness_probe.as_ref(),
            ProbeKind::Readiness => container.readiness_probe.as_ref(),
        }
    }

    /// As upstream's events name it.
    pub fn title(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Readiness => "Readiness",
        }
    }
}

/// Counts results in a row until a threshold makes them a verdict.
#[derive(Clone, Debug)]
pub struct Counter {
    success_threshold: u32,
    failure_threshold: u32,
    last: Option<bool>,
    run: u32,
}

impl Counter {
    pub fn new(probe: &Probe) -> Counter {
        let threshold = |value: Option<i32>, default: u32| {
            value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        Counter {
            success_threshold: threshold(probe.success_threshold, 1),
            failure_threshold: threshold(probe.failure_threshold, 3),
            last: None,
            run: 0,
        }
    }

    /// The verdict after this result, where there is one.
    pub fn count(&mut self, success: bool) -> Option<bool> {
        self.run = if self.last == Some(success) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(success);
        let needed = if success { self.success_threshold } else { self.failure_threshold };
        (self.run >= needed).then_some(success)
    }
}

/// News from a probe.
#[derive(Clone, Debug)]
pub enum ProbeNews {
    Verdict(bool),
    /// One run failed; for an event.
    Failed(String),
}

/// Runs one probe until it is dropped (or, for startup probes, until the verdict). `age`: how long the container runs.
pub async fn run(
    runtime: Arc<dyn Runtime>,
    kind: ProbeKind,
    probe: Probe,
    target: Target,
    age: Duration,
    news: impl Fn(ProbeNews) + Send + Sync,
) {
    let seconds = |value: Option<i32>, default: u64| value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default);
    let delay = Duration::from_secs(seconds(probe.initial_delay_seconds, 0)).saturating_sub(age);
    tokio::time::sleep(delay).await;
    let period = Duration::from_secs(seconds(probe.period_seconds, 10).max(1));
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut counter = Counter::new(&probe);
    let mut told = None;
    loop {
        tick.tick().await;
        let outcome = check::probe(&*runtime, &probe, &target, AGENT).await;
        let verdict = counter.count(outcome.is_ok());
        if let Err(message) = outcome {
            news(ProbeNews::Failed(message));
        }
        if let Some(verdict) = verdict.filter(|verdict| told != Some(*verdict)) {
            told = Some(verdict);
            news(ProbeNews::Verdict(verdict));
            // What a startup or liveness failure leads to is a new instance with a probe of its own.
            if kind == ProbeKind::Startup || (kind == ProbeKind::Liveness && !verdict) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_need_their_threshold_in_a_row() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut counter = Counter::new(&probe);
        let results = [true, true, true, false, false, true, false, false, false];
        let verdicts: Vec<_> = results.iter().map(|result| counter.count(*result)).collect();
        let yes = Some(true);
        assert_eq!(verdicts, [None, yes, yes, None, None, None, None, None, Some(false)]);
    }
}
