//! The checks that the restricted level adds to the baseline: how a pod is hardened
//! (upstream `pod-security-admission/policy/check_*.go`). Sorted by name, which is the order of their findings.

use api::Value;

use super::{
    baseline,
    checks::{Check, Finding, Names, Pod, called, context, name, plural, quote, setters},
};

pub(super) const CHECKS: [Check; 7] = [
    Check {
        id: "allowPrivilegeEscalation",
        versions: &[(8, privilege_escalation), (25, |pod| unless_windows(pod, privilege_escalation))],
        replaces: "",
    },
    Check {
        id: "capabilities_restricted",
        versions: &[(22, capabilities), (25, |pod| unless_windows(pod, capabilities))],
        replaces: "capabilities_baseline",
    },
    Check { id: "procMount_restricted", versions: &[(35, baseline::proc_mount)], replaces: "procMount" },
    Check { id: "restrictedVolumes", versions: &[(0, volumes)], replaces: "hostPathVolumes" },
    Check {
        id: "runAsNonRoot",
        versions: &[(0, run_as_non_root), (35, |pod| unless_user_namespace(pod, run_as_non_root))],
        replaces: "",
    },
    Check {
        id: "runAsUser",
        versions: &[(23, run_as_user), (35, |pod| unless_user_namespace(pod, run_as_user))],
        replaces: "",
    },
    Check {
        id: "seccompProfile_restricted",
        versions: &[(19, seccomp), (25, |pod| unless_windows(pod, seccomp))],
        replaces: "seccompProfile_baseline",
    },
];

fn unless_windows(pod: Pod<'_>, check: fn(Pod<'_>) -> Option<Finding>) -> Option<Finding> {
    if pod.is_windows() { None } else { check(pod) }
}

fn unless_user_namespace(pod: Pod<'_>, check: fn(Pod<'_>) -> Option<Finding>) -> Option<Finding> {
    if pod.has_user_namespace() { None } else { check(pod) }
}

fn flag(holder: &Value, name: &str) -> Option<bool> {
    context(holder, &[name]).and_then(Value::as_bool)
}

fn privilege_escalation(pod: Pod<'_>) -> Option<Finding> {
    let containers = pod.bad(|container| flag(container, "allowPrivilegeEscalation") != Some(false));
    (!containers.is_empty()).then(|| Finding {
        reason: "allowPrivilegeEscalation != false",
        detail: format!("{} must set securityContext.allowPrivilegeEscalation=false", called(&containers)),
    })
}

fn capabilities(pod: Pod<'_>) -> Option<Finding> {
    let keeping = pod.bad(|container| {
        let dropped = context(container, &["capabilities", "drop"]).and_then(Value::as_array).unwrap_or_default();
        !dropped.iter().any(|name| name.as_str() == Some("ALL"))
    });
    let mut forbidden = Names::new();
    let adding = pod.bad(|container| {
        let added: Vec<&str> = baseline::added(container).filter(|name| *name != "NET_BIND_SERVICE").collect();
        forbidden.extend(&added);
        !added.is_empty()
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", called(&keeping)));
    }
    if !adding.is_empty() {
        let forbidden = quote(forbidden);
        details.push(format!("{} must not include {forbidden} in securityContext.capabilities.add", called(&adding)));
    }
    (!details.is_empty()).then(|| Finding { reason: "unrestricted capabilities", detail: details.join("; ") })
}

const ALLOWED_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn volumes(pod: Pod<'_>) -> Option<Finding> {
    let mut kinds = Names::new();
    let all = pod.spec.get("volumes").and_then(Value::as_array).unwrap_or_default();
    let names: Vec<&str> = all
        .iter()
        .filter(|volume| {
            let mut sources =
                volume.as_object().into_iter().flat_map(|volume| volume.keys()).filter(|key| *key != "name");
            let kind = sources.next().unwrap_or("unknown");
            let is_bad = !ALLOWED_VOLUMES.contains(&kind);
            kinds.extend(is_bad.then_some(kind));
            is_bad
        })
        .map(name)
        .collect();
    (!names.is_empty()).then(|| Finding {
        reason: "restricted volume types",
        detail: format!(
            "{} {} {} {} {}",
            plural(names.len(), "volume", "volumes"),
            quote(&names),
            plural(names.len(), "uses", "use"),
            plural(kinds.len(), "restricted volume type", "restricted volume types"),
            quote(kinds)
        ),
    })
}

fn run_as_non_root(pod: Pod<'_>) -> Option<Finding> {
    const REASON: &str = "runAsNonRoot != true";
    let whole = flag(pod.spec, "runAsNonRoot");
    let denying = pod.bad(|container| flag(container, "runAsNonRoot") == Some(false));
    if let Some(blamed) = setters(whole == Some(false), &denying) {
        let detail = format!("{blamed} must not set securityContext.runAsNonRoot=false");
        return Some(Finding { reason: REASON, detail });
    }
    let silent = pod.bad(|container| flag(container, "runAsNonRoot").is_none());
    (whole.is_none() && !silent.is_empty()).then(|| Finding {
        reason: REASON,
        detail: format!("pod or {} must set securityContext.runAsNonRoot=true", called(&silent)),
    })
}

fn run_as_user(pod: Pod<'_>) -> Option<Finding> {
    let is_root = |holder| context(holder, &["runAsUser"]).and_then(Value::as_i64) == Some(0);
    let blamed = setters(is_root(pod.spec), &pod.bad(is_root))?;
    Some(Finding { reason: "runAsUser=0", detail: format!("{blamed} must not set runAsUser=0") })
}

fn seccomp(pod: Pod<'_>) -> Option<Finding> {
    if let Some(finding) = baseline::seccomp(pod) {
        return Some(finding);
    }
    let is_silent = |holder| context(holder, &["seccompProfile"]).is_none();
    let silent = pod.bad(is_silent);
    (is_silent(pod.spec) && !silent.is_empty()).then(|| Finding {
        reason: "seccompProfile",
        detail: format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            called(&silent)
        ),
    })
}
