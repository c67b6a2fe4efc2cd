//! The node's conditions (upstream `pkg/kubelet/nodestatus/setters.go`). Pure.

use client::{apimachinery::pkg::apis::meta::v1::Time, kinds::core::v1::NodeCondition};
use jiff::Timestamp;

/// What conditions are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why the runtime cannot run pods, if it cannot.
    pub runtime: Option<String>,
    pub network: Option<String>,
    pub memory_pressure: bool,
    pub disk_pressure: bool,
    pub pid_pressure: bool,
}

fn condition(kind: &str, status: bool, reason: &str, message: &str, now: Timestamp) -> NodeCondition {
    NodeCondition {
        type_: kind.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// All conditions this kubelet sets, over those the node has; others' stay as they are.
pub fn merge(health: &Health, present: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let problems: Vec<String> = [&health.runtime, &health.network].into_iter().flatten().cloned().collect();
    let ready = match problems.as_slice() {
        [] => condition("Ready", true, "KubeletReady", "kubelet is posting ready status", now),
        [one] => condition("Ready", false, "KubeletNotReady", one, now),
        // Upstream's text of several errors.
        many => condition("Ready", false, "KubeletNotReady", &format!("[{}]", many.join(", ")), now),
    };
    let mut own = vec![
        match health.memory_pressure {
            true => condition(
                "MemoryPressure",
                true,
                "KubeletHasInsufficientMemory",
                "kubelet has insufficient memory available",
                now,
            ),
            false => condition(
                "MemoryPressure",
                false,
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
                now,
            ),
        },
        match health.disk_pressure {
            true => condition("DiskPressure", true, "KubeletHasDiskPressure", "kubelet has disk pressure", now),
            false => condition("DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure", now),
        },
        match health.pid_pressure {
            true => condition(
                "PIDPressure",
                true,
                "KubeletHasInsufficientPID",
                "kubelet has insufficient PID available",
                now,
            ),
            false => {
                condition("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available", now)
            }
        },
        ready,
    ];
    for condition in &mut own {
        let before = present.iter().find(|old| old.type_ == condition.type_ && old.status == condition.status);
        if let Some(since) = before.and_then(|old| old.last_transition_time.clone()) {
            condition.last_transition_time = Some(since);
        }
    }
    let others = present.iter().filter(|old| own.iter().all(|new| new.type_ != old.type_)).cloned();
    others.collect::<Vec<_>>().into_iter().chain(own.clone()).collect()
}
