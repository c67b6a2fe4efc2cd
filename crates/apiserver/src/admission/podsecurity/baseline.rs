//! The checks of the baseline level: what would give a pod the node
//! (upstream `pod-security-admission/policy/check_*.go`). Sorted by name, which is the order of their findings.

use std::collections::BTreeSet;

use api::Value;

use super::checks::{Check, Finding, Names, Pod, called, context, name, plural, quote, setters};

pub(super) const CHECKS: [Check; 12] = [
    Check { id: "appArmorProfile", versions: &[(0, app_armor)], replaces: "" },
    Check { id: "capabilities_baseline", versions: &[(0, capabilities)], replaces: "" },
    Check { id: "hostNamespaces", versions: &[(0, host_namespaces)], replaces: "" },
    Check { id: "hostPathVolumes", versions: &[(0, host_path_volumes)], replaces: "" },
    Check { id: "hostPorts", versions: &[(0, host_ports)], replaces: "" },
    Check { id: "hostProbesAndHostLifecycle", versions: &[(34, probe_hosts)], replaces: "" },
    Check { id: "privileged", versions: &[(0, privileged)], replaces: "" },
    Check { id: "procMount", versions: &[(0, proc_mount), (35, proc_mount_unless_user_namespace)], replaces: "" },
    Check {
        id: "seLinuxOptions",
        versions: &[
            (0, |pod| selinux_options(pod, &["", "container_t", "container_init_t", "container_kvm_t"])),
            (31, |pod| {
                selinux_options(pod, &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"])
            }),
        ],
        replaces: "",
    },
    Check { id: "seccompProfile_baseline", versions: &[(0, seccomp_annotations), (19, seccomp)], replaces: "" },
    Check {
        id: "sysctls",
        versions: &[
            (0, |pod| sysctls(pod, &SYSCTLS[..5])),
            (27, |pod| sysctls(pod, &SYSCTLS[..6])),
            (29, |pod| sysctls(pod, &SYSCTLS[..10])),
            (32, |pod| sysctls(pod, &SYSCTLS)),
        ],
        replaces: "",
    },
    Check { id: "windowsHostProcess", versions: &[(0, windows_host_process)], replaces: "" },
];

/// Sysctls that touch nothing but the pod, in the order in which they were allowed.
const SYSCTLS: [&str; 12] = [
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

/// What a container runtime adds by itself.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The profile's type, where a profile is set.
fn profile<'a>(holder: &'a Value, kind: &str) -> Option<&'a str> {
    Some(context(holder, &[kind])?.str_at(&["type"]))
}

fn is_confined(profile: &str) -> bool {
    matches!(profile, "RuntimeDefault" | "Localhost")
}

/// Who sets a profile that confines nothing, and which profiles these are.
pub(super) fn unconfined<'a>(pod: Pod<'a>, kind: &str) -> (bool, Vec<&'a str>, Names<'a>) {
    let mut values = Names::new();
    let mut is_bad = |holder: &'a Value| {
        let bad = profile(holder, kind).filter(|profile| !is_confined(profile));
        values.extend(bad);
        bad.is_some()
    };
    let spec = is_bad(pod.spec);
    let containers = pod.bad(is_bad);
    (spec, containers, values)
}

fn app_armor(pod: Pod<'_>) -> Option<Finding> {
    let (spec, containers, values) = unconfined(pod, "appArmorProfile");
    let is_allowed =
        |profile: &str| profile.is_empty() || profile == "runtime/default" || profile.starts_with("localhost/");
    let annotations: BTreeSet<String> = pod
        .annotations()
        .filter(|(key, value)| key.starts_with("container.apparmor.security.beta.kubernetes.io/") && !is_allowed(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let mut blamed: Vec<String> = setters(spec, &containers).into_iter().collect();
    if !annotations.is_empty() {
        blamed.push(plural(annotations.len(), "annotation", "annotations").into());
    }
    if blamed.is_empty() {
        return None;
    }
    let values: Vec<&str> = values.into_iter().chain(annotations.iter().map(String::as_str)).collect();
    Some(Finding {
        reason: plural(values.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles"),
        detail: format!("{} must not set AppArmor profile type to {}", blamed.join(" and "), quote(values)),
    })
}

fn capabilities(pod: Pod<'_>) -> Option<Finding> {
    let mut forbidden = Names::new();
    let containers = pod.bad(|container| {
        let before = added(container).filter(|name| !CAPABILITIES.contains(name)).collect::<Vec<_>>();
        forbidden.extend(&before);
        !before.is_empty()
    });
    (!containers.is_empty()).then(|| Finding {
        reason: "non-default capabilities",
        detail: format!(
            "{} must not include {} in securityContext.capabilities.add",
            called(&containers),
            quote(forbidden)
        ),
    })
}

pub(super) fn added(container: &Value) -> impl Iterator<Item = &str> {
    let list = context(container, &["capabilities", "add"]).and_then(Value::as_array).unwrap_or_default();
    list.iter().filter_map(Value::as_str)
}

fn host_namespaces(pod: Pod<'_>) -> Option<Finding> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|name| pod.spec.get(name).and_then(Value::as_bool) == Some(true))
        .map(|name| format!("{name}=true"))
        .collect();
    (!shared.is_empty()).then(|| Finding { reason: "host namespaces", detail: shared.join(", ") })
}

fn volumes<'a>(pod: Pod<'a>) -> &'a [Value] {
    pod.spec.get("volumes").and_then(Value::as_array).unwrap_or_default()
}

fn host_path_volumes(pod: Pod<'_>) -> Option<Finding> {
    let names: Vec<&str> = volumes(pod).iter().filter(|volume| volume.get("hostPath").is_some()).map(name).collect();
    (!names.is_empty()).then(|| Finding {
        reason: "hostPath volumes",
        detail: format!("{} {}", plural(names.len(), "volume", "volumes"), quote(names)),
    })
}

fn host_ports(pod: Pod<'_>) -> Option<Finding> {
    let mut ports: BTreeSet<String> = BTreeSet::new();
    let containers = pod.bad(|container| {
        let all = container.get("ports").and_then(Value::as_array).unwrap_or_default().iter();
        let used = all.filter_map(|port| port.get("hostPort")?.as_i64()).filter(|port| *port != 0);
        let used: Vec<String> = used.map(|port| port.to_string()).collect();
        let is_bad = !used.is_empty();
        ports.extend(used);
        is_bad
    });
    (!containers.is_empty()).then(|| Finding {
        reason: "hostPort",
        detail: format!(
            "{} {} {} {}",
            called(&containers),
            plural(containers.len(), "uses", "use"),
            plural(ports.len(), "hostPort", "hostPorts"),
            ports.into_iter().collect::<Vec<_>>().join(", ")
        ),
    })
}

fn probe_hosts(pod: Pod<'_>) -> Option<Finding> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let mut hosts = Names::new();
    let containers: Names<'_> = pod
        .bad(|container| {
            let handlers = HANDLERS.iter().filter_map(|path| container.at(path));
            let named =
                handlers.flat_map(|handler| ["httpGet", "tcpSocket"].map(|kind| handler.str_at(&[kind, "host"])));
            let named: Vec<&str> = named.filter(|host| !host.is_empty()).collect();
            hosts.extend(&named);
            !named.is_empty()
        })
        .into_iter()
        .collect();
    let containers: Vec<&str> = containers.into_iter().collect();
    (!containers.is_empty()).then(|| Finding {
        reason: "probe or lifecycle host",
        detail: format!(
            "{} {} {} {}",
            called(&containers),
            plural(containers.len(), "uses", "use"),
            plural(hosts.len(), "probe or lifecycle host", "probe or lifecycle hosts"),
            quote(hosts)
        ),
    })
}

fn privileged(pod: Pod<'_>) -> Option<Finding> {
    let containers = pod.bad(|container| context(container, &["privileged"]).and_then(Value::as_bool) == Some(true));
    (!containers.is_empty()).then(|| Finding {
        reason: "privileged",
        detail: format!("{} must not set securityContext.privileged=true", called(&containers)),
    })
}

pub(super) fn proc_mount(pod: Pod<'_>) -> Option<Finding> {
    let mut kinds = Names::new();
    let containers = pod.bad(|container| {
        let kind = context(container, &["procMount"]).and_then(Value::as_str).filter(|kind| *kind != "Default");
        kinds.extend(kind);
        kind.is_some()
    });
    (!containers.is_empty()).then(|| Finding {
        reason: "procMount",
        detail: format!("{} must not set securityContext.procMount to {}", called(&containers), quote(kinds)),
    })
}

fn proc_mount_unless_user_namespace(pod: Pod<'_>) -> Option<Finding> {
    if pod.has_user_namespace() { None } else { proc_mount(pod) }
}

fn selinux_options(pod: Pod<'_>, allowed: &[&str]) -> Option<Finding> {
    let (mut types, mut user, mut role) = (Names::new(), false, false);
    let mut is_bad = |holder| {
        let Some(options) = context(holder, &["seLinuxOptions"]) else { return false };
        let kind = Some(options.str_at(&["type"])).filter(|kind| !allowed.contains(kind));
        let (has_user, has_role) = (!options.str_at(&["user"]).is_empty(), !options.str_at(&["role"]).is_empty());
        types.extend(kind);
        user |= has_user;
        role |= has_role;
        kind.is_some() || has_user || has_role
    };
    let spec = is_bad(pod.spec);
    let containers = pod.bad(is_bad);
    let blamed = setters(spec, &containers)?;
    let mut parts = Vec::new();
    if !types.is_empty() {
        parts.push(format!("{} {}", plural(types.len(), "type", "types"), quote(types)));
    }
    parts.extend(user.then(|| "user may not be set".to_owned()));
    parts.extend(role.then(|| "role may not be set".to_owned()));
    let detail = format!("{blamed} set forbidden securityContext.seLinuxOptions: {}", parts.join("; "));
    Some(Finding { reason: "seLinuxOptions", detail })
}

/// Profiles were annotations before v1.19.
fn seccomp_annotations(pod: Pod<'_>) -> Option<Finding> {
    let is_allowed =
        |profile: &str| matches!(profile, "runtime/default" | "docker/default") || profile.starts_with("localhost/");
    let keys: Vec<String> = std::iter::once("seccomp.security.alpha.kubernetes.io/pod".to_owned())
        .chain(
            pod.containers()
                .map(|container| format!("container.seccomp.security.alpha.kubernetes.io/{}", name(container))),
        )
        .collect();
    let set = pod.annotations().filter(|(key, value)| keys.iter().any(|own| own == key) && !is_allowed(value));
    let forbidden: BTreeSet<String> = set.map(|(key, value)| format!("{key}={value:?}")).collect();
    (!forbidden.is_empty()).then(|| Finding {
        reason: "seccompProfile",
        detail: format!(
            "forbidden {} {}",
            plural(forbidden.len(), "annotation", "annotations"),
            forbidden.into_iter().collect::<Vec<_>>().join(", ")
        ),
    })
}

pub(super) fn seccomp(pod: Pod<'_>) -> Option<Finding> {
    let (spec, containers, values) = unconfined(pod, "seccompProfile");
    let blamed = setters(spec, &containers)?;
    let detail = format!("{blamed} must not set securityContext.seccompProfile.type to {}", quote(values));
    Some(Finding { reason: "seccompProfile", detail })
}

fn sysctls(pod: Pod<'_>, allowed: &[&str]) -> Option<Finding> {
    let set = context(pod.spec, &["sysctls"]).and_then(Value::as_array).unwrap_or_default();
    let forbidden: Vec<&str> = set.iter().map(name).filter(|name| !allowed.contains(name)).collect();
    (!forbidden.is_empty()).then(|| Finding { reason: "forbidden sysctls", detail: forbidden.join(", ") })
}

fn windows_host_process(pod: Pod<'_>) -> Option<Finding> {
    let is_set = |holder| context(holder, &["windowsOptions", "hostProcess"]).and_then(Value::as_bool) == Some(true);
    let blamed = setters(is_set(pod.spec), &pod.bad(is_set))?;
    let detail = format!("{blamed} must not set securityContext.windowsOptions.hostProcess=true");
    Some(Finding { reason: "hostProcess", detail })
}
