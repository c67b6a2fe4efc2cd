//! A container's resources as the runtime takes them (upstream `kuberuntime_container_linux.go`, `qos/policy.go`).

use api::quantity::Quantity as Amount;
use client::kinds::core::v1::{Container, Pod};
use k8s_cri::v1::LinuxContainerResources;
use volumes::resources::{QosClass, amount, limits_declared, pod_limits, qos_class};

use crate::{
    cgroups::math::{milli_cpu_to_quota, milli_cpu_to_shares},
    plan::spec,
};

const PERIOD_US: u64 = 100_000;

fn of(container: &Container, limits: bool, name: &str) -> Option<Amount> {
    let resources = container.resources.as_ref()?;
    let list = if limits { &resources.limits } else { &resources.requests };
    list.as_ref()?.get(name).map(amount)
}

/// Shares, quota, memory limit and oom_score_adj. A pod's own limits stand in for a container without one.
pub fn linux(pod: &Pod, container: &Container, memory_capacity: i64) -> LinuxContainerResources {
    let of_pod = |name: &str| {
        let declared = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref()).and_then(|own| own.limits.as_ref());
        let own = declared.and_then(|limits| limits.get(name)).map(amount);
        own.filter(|_| pod.spec.as_ref().is_some_and(|spec| limits_declared(spec, name)))
    };
    let cpu_limit = of(container, true, "cpu").or_else(|| of_pod("cpu"));
    let cpu_request = of(container, false, "cpu").or(of(container, true, "cpu"));
    let memory_limit = of(container, true, "memory").or_else(|| of_pod("memory"));
    let memory_limit = memory_limit.map_or(0, Amount::value);
    let shares = milli_cpu_to_shares(cpu_request.unwrap_or_default().milli_value());
    LinuxContainerResources {
        cpu_shares: i64::try_from(shares).unwrap_or(2),
        cpu_quota: cpu_limit.map_or(0, |limit| milli_cpu_to_quota(limit.milli_value(), PERIOD_US)),
        cpu_period: PERIOD_US as i64,
        memory_limit_in_bytes: memory_limit,
        // Swap is not handed to containers.
        memory_swap_limit_in_bytes: memory_limit,
        oom_score_adj: oom_score_adj(pod, container, memory_capacity),
        ..LinuxContainerResources::default()
    }
}

/// The pod's overhead and its sum of resources, for runtimes that size a virtual machine by them.
pub fn of_pod(pod: &Pod) -> LinuxContainerResources {
    let limits = pod_limits(pod);
    let requests = volumes::resources::pod_requests(pod);
    let cpu = limits.get("cpu").copied().unwrap_or_default().milli_value();
    let shares = milli_cpu_to_shares(requests.get("cpu").copied().unwrap_or_default().milli_value());
    LinuxContainerResources {
        cpu_shares: i64::try_from(shares).unwrap_or(2),
        cpu_quota: milli_cpu_to_quota(cpu, PERIOD_US),
        cpu_period: PERIOD_US as i64,
        memory_limit_in_bytes: limits.get("memory").copied().unwrap_or_default().value(),
        ..LinuxContainerResources::default()
    }
}

/// `GetContainerOOMScoreAdjust`.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    const GUARANTEED: i64 = -997;
    let critical =
        pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref()) == Some("system-node-critical");
    match qos_class(pod) {
        _ if critical => return GUARANTEED,
        QosClass::Guaranteed => return GUARANTEED,
        QosClass::BestEffort => return 1000,
        QosClass::Burstable => {}
    }
    let requested = |container: &Container| of(container, false, "memory").map_or(0, Amount::value);
    let capacity = memory_capacity.max(1);
    let score = |bytes: i64| 1000 - i64::try_from(1000 * i128::from(bytes) / i128::from(capacity)).unwrap_or(1000);
    let mut adj = score(requested(container));
    if spec::is_sidecar(container) && spec::init_containers(pod).iter().any(|init| init.name == container.name) {
        // A sidecar must not be killed before the containers it serves.
        let least = spec::regular_containers(pod).iter().map(requested).min().unwrap_or(0);
        adj = adj.min(score(least));
    }
    adj.clamp(1000 + GUARANTEED, 999)
}
