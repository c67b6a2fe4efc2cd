//! From a pod's resources to what the kernel is told (upstream `pkg/kubelet/cm/helpers_linux.go`). Pure.

use client::kinds::core::v1::Pod;
use volumes::resources::{QosClass, limits_declared, pod_limits, pod_requests, qos_class};

use super::Resources;

pub const SHARES_MIN: u64 = 2;
pub const SHARES_MAX: u64 = 262_144;
const SHARES_PER_CPU: i64 = 1024;
/// Microseconds; also the default of `--cpu-cfs-quota-period`.
pub const QUOTA_PERIOD_US: u64 = 100_000;
/// The kernel takes no quota below 1 ms.
const QUOTA_MIN_US: i64 = 1000;

/// `MilliCPUToShares`.
pub fn milli_cpu_to_shares(milli: i64) -> u64 {
    let shares = milli.saturating_mul(SHARES_PER_CPU) / 1000;
    u64::try_from(shares).unwrap_or(SHARES_MIN).clamp(SHARES_MIN, SHARES_MAX)
}

/// `MilliCPUToQuota`: microseconds of CPU time per period; 0 is no quota.
pub fn milli_cpu_to_quota(milli: i64, period_us: u64) -> i64 {
    if milli == 0 {
        return 0;
    }
    let period = i64::try_from(period_us).unwrap_or(i64::MAX);
    (milli.saturating_mul(period) / 1000).max(QUOTA_MIN_US)
}

/// cgroup v1 `cpu.shares` as cgroup v2 `cpu.weight`, as runc converts it (`ConvertCPUSharesToCgroupV2Value`): the pod's
/// cgroup and its containers' must be measured alike.
pub fn shares_to_weight(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=SHARES_MIN => 1,
        SHARES_MAX.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

/// What the kubelet is configured to enforce on pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforcement {
    /// `cpuCFSQuota`: whether CPU limits become quotas.
    pub cpu_quota: bool,
    /// `cpuCFSQuotaPeriod`.
    pub cpu_period_us: u64,
    /// `podPidsLimit`; `None` is no limit.
    pub pids: Option<u64>,
}

impl Default for Enforcement {
    fn default() -> Self {
        Enforcement { cpu_quota: true, cpu_period_us: QUOTA_PERIOD_US, pids: None }
    }
}

/// `ResourceConfigForPod`.
pub fn pod_resources(pod: &Pod, enforce: &Enforcement) -> Resources {
    let requests = pod_requests(pod);
    let limits = pod_limits(pod);
    let milli_cpu = |amounts: &volumes::resources::Amounts| amounts.get("cpu").map_or(0, |cpu| cpu.milli_value());
    let shares = milli_cpu_to_shares(milli_cpu(&requests));
    let quota = match enforce.cpu_quota {
        true => milli_cpu_to_quota(milli_cpu(&limits), enforce.cpu_period_us),
        false => -1,
    };
    let memory = limits.get("memory").map_or(0, |memory| memory.value());
    let declared = |resource: &str| pod.spec.as_ref().is_some_and(|spec| limits_declared(spec, resource));
    let (cpu_bound, memory_bound) = match qos_class(pod) {
        QosClass::Guaranteed => (true, true),
        QosClass::Burstable => (declared("cpu"), declared("memory")),
        QosClass::BestEffort => (false, false),
    };
    let best_effort = qos_class(pod) == QosClass::BestEffort;
    Resources {
        cpu_shares: Some(if best_effort { SHARES_MIN } else { shares }),
        cpu_quota_us: cpu_bound.then_some(quota),
        cpu_period_us: cpu_bound.then_some(enforce.cpu_period_us),
        memory_bytes: memory_bound.then_some(memory).filter(|bytes| *bytes > 0),
        pids: enforce.pids,
    }
}

/// CPU shares of the Burstable class: what all its active pods ask for (`qos_container_manager_linux.go`).
pub fn burstable_shares<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> u64 {
    let burstable = pods.into_iter().filter(|pod| qos_class(pod) == QosClass::Burstable);
    let milli = burstable.map(|pod| pod_requests(pod).get("cpu").map_or(0, |cpu| cpu.milli_value())).sum();
    milli_cpu_to_shares(milli)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (milli, expect) in
            [(0, 2), (1, 2), (2, 2), (3, 3), (100, 102), (1000, 1024), (256_000, 262_144), (512_000, 262_144), (-5, 2)]
        {
            assert_eq!(milli_cpu_to_shares(milli), expect, "{milli}m");
        }
    }

    #[test]
    fn quota() {
        for (milli, period, expect) in [
            (0, 100_000, 0),
            (5, 100_000, 1000),
            (9, 100_000, 1000),
            (10, 100_000, 1000),
            (200, 100_000, 20_000),
            (500, 100_000, 50_000),
            (1500, 100_000, 150_000),
            (500, 5_000, 2_500),
        ] {
            assert_eq!(milli_cpu_to_quota(milli, period), expect, "{milli}m of {period}");
        }
    }

    #[test]
    fn weights() {
        for (shares, expect) in [(0, 0), (1, 1), (2, 1), (1024, 100), (262_144, 10_000), (300_000, 10_000)] {
            assert_eq!(shares_to_weight(shares), expect, "{shares}");
        }
    }

    fn pod(containers: &str) -> Pod {
        serde_json::from_str(&format!(r#"{{"metadata":{{}},"spec":{{"containers":{containers}}}}}"#)).expect("pod")
    }

    #[test]
    fn pods() {
        let both = |cpu: &str, memory: &str| format!(r#"{{"cpu":"{cpu}","memory":"{memory}"}}"#);
        let container = |requests: &str, limits: &str| {
            format!(r#"{{"name":"c","resources":{{"requests":{requests},"limits":{limits}}}}}"#)
        };
        let small = both("100m", "64Mi");
        let big = both("200m", "128Mi");
        for (name, containers, shares, quota, memory) in [
            ("best effort", r#"[{"name":"c"}]"#.to_owned(), 2, None, None),
            ("guaranteed", format!("[{}]", container(&small, &small)), 102, Some(10_000), Some(64 << 20)),
            ("burstable, bounded", format!("[{}]", container(&small, &big)), 102, Some(20_000), Some(128 << 20)),
            ("burstable, one unbounded", format!(r#"[{},{{"name":"d"}}]"#, container(&small, &big)), 102, None, None),
            ("requests only", format!("[{}]", container(&small, "{}")), 102, None, None),
        ] {
            let resources = pod_resources(&pod(&containers), &Enforcement { pids: Some(7), ..Enforcement::default() });
            let expect = Resources {
                cpu_shares: Some(shares),
                cpu_quota_us: quota,
                cpu_period_us: quota.map(|_| QUOTA_PERIOD_US),
                memory_bytes: memory,
                pids: Some(7),
            };
            assert_eq!(resources, expect, "{name}");
        }
    }
}
