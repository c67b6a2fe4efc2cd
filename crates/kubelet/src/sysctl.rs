//! Which kernel parameters pods may set: those that touch nothing beyond the pod, and those that the node's owner allows
//! (upstream `pkg/kubelet/sysctl`). Pure.

use client::kinds::core::v1::Pod;

use crate::plan::{Verdict, spec};

/// They belong to the pod's namespaces alone, on every kernel from 5.15.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The namespace that a parameter belongs to; `None` where it is the whole machine's.
fn namespace(name: &str) -> Option<&'static str> {
    let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if is(&["net."]) {
        Some("net")
    } else if is(&["kernel.shm", "kernel.msg", "fs.mqueue."]) || name == "kernel.sem" {
        Some("ipc")
    } else {
        None
    }
}

/// What is wrong with a pattern of `--allowed-unsafe-sysctls`: a name, or the beginning of names before a `*`.
pub fn check_pattern(pattern: &str) -> Result<(), String> {
    let name = pattern.replace('/', ".");
    let beginning = name.strip_suffix('*').unwrap_or(&name);
    if beginning.contains('*') || namespace(beginning).is_none() {
        return Err(format!("the sysctls {pattern:?} are not known to be namespaced"));
    }
    Ok(())
}

/// Why a pod may not run because of what it sets; `None` where it may.
pub fn refused(pod: &Pod, allowed: &[String]) -> Option<Verdict> {
    let spec = spec::spec(pod);
    let context = spec.security_context.as_ref()?;
    let problem = context.sysctls.iter().flatten().find_map(|sysctl| {
        let name = sysctl.name.replace('/', ".");
        let is_allowed = |pattern: &String| {
            let pattern = pattern.replace('/', ".");
            pattern.strip_suffix('*').map_or(name == pattern, |beginning| name.starts_with(beginning))
        };
        if !SAFE.contains(&&*name) && !allowed.iter().any(is_allowed) {
            return Some(format!("{name:?} not allowlisted"));
        }
        let shared = match namespace(&name) {
            Some("net") => spec.host_network == Some(true),
            Some(_) => spec.host_ipc == Some(true),
            None => false,
        };
        shared.then(|| format!("{name:?} not allowed with host {} enabled", namespace(&name).unwrap_or_default()))
    })?;
    Some(Verdict {
        reason: "SysctlForbidden".into(),
        message: format!("forbidden sysctl: {problem}"),
        grace_seconds: Some(0),
        disruption: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_beyond_the_pod_is_refused() {
        let allowed = ["net.core.*".to_owned(), "kernel/msgmax".to_owned()];
        for (spec, expected) in [
            (r#"{}"#, None),
            (r#"{"securityContext":{"sysctls":[{"name":"kernel.shm_rmid_forced","value":"1"}]}}"#, None),
            (
                r#"{"securityContext":{"sysctls":[{"name":"kernel.sem","value":"1"}]}}"#,
                Some("forbidden sysctl: \"kernel.sem\" not allowlisted"),
            ),
            (r#"{"securityContext":{"sysctls":[{"name":"net/core/somaxconn","value":"1"}]}}"#, None),
            (r#"{"securityContext":{"sysctls":[{"name":"kernel.msgmax","value":"1"}]}}"#, None),
            (
                r#"{"hostIPC":true,"securityContext":{"sysctls":[{"name":"kernel.msgmax","value":"1"}]}}"#,
                Some("forbidden sysctl: \"kernel.msgmax\" not allowed with host ipc enabled"),
            ),
            (
                r#"{"hostNetwork":true,"securityContext":{"sysctls":[{"name":"net.ipv4.tcp_syncookies","value":"1"}]}}"#,
                Some("forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host net enabled"),
            ),
        ] {
            let pod = format!(r#"{{"metadata":{{}},"spec":{{"containers":[],{}"#, spec.trim_start_matches('{'));
            let pod = pod.replace("[],}", "[]}") + "}";
            let pod: Pod = serde_json::from_str(&pod).unwrap_or_else(|error| panic!("{pod}: {error}"));
            assert_eq!(refused(&pod, &allowed).map(|verdict| verdict.message).as_deref(), expected, "{spec}");
        }
        assert!(check_pattern("vm.swappiness").is_err() && check_pattern("net.*").is_ok());
    }
}
