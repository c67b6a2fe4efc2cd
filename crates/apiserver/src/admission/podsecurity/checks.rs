//! The checks of the Pod Security Standards: which there are, from which version on, and how they run
//! (upstream `pod-security-admission/policy/registry.go`).

use std::collections::BTreeSet;

use api::Value;

use super::{
    baseline,
    policy::{Level, LevelVersion, Version},
    restricted,
};

/// A pod, or what a workload makes its pods from.
#[derive(Clone, Copy)]
pub(super) struct Pod<'a> {
    pub metadata: &'a Value,
    pub spec: &'a Value,
}

/// Why a check refuses a pod.
#[derive(Debug, PartialEq)]
pub(super) struct Finding {
    pub reason: &'static str,
    /// With the names of what is wrong; may be empty.
    pub detail: String,
}

type Run = fn(Pod<'_>) -> Option<Finding>;

pub(super) struct Check {
    /// Upstream's name of it, which decides the order.
    pub id: &'static str,
    /// The check as each version (`v1.N`) began to have it.
    pub versions: &'static [(u32, Run)],
    /// The weaker check of the baseline that this one replaces.
    pub replaces: &'static str,
}

/// Checks have not changed since this release: later versions are the same.
const NEWEST: u32 = 35;

impl Check {
    fn at(&self, minor: u32) -> Option<Run> {
        self.versions.iter().rev().find(|(since, _)| *since <= minor).map(|(_, run)| *run)
    }
}

/// Everything that the level forbids in the pod, in upstream's order.
pub(super) fn evaluate(policy: LevelVersion, pod: Pod<'_>) -> Vec<Finding> {
    let minor = match policy.version {
        Version::Minor(minor) => minor.min(NEWEST),
        Version::Latest => NEWEST,
    };
    let stricter: &[Check] = if policy.level == Level::Restricted { &restricted::CHECKS } else { &[] };
    let weaker: &[Check] = if policy.level == Level::Privileged { &[] } else { &baseline::CHECKS };
    let stricter: Vec<(&Check, Run)> = stricter.iter().filter_map(|check| Some((check, check.at(minor)?))).collect();
    let is_replaced = |check: &Check| stricter.iter().any(|(strict, _)| strict.replaces == check.id);
    let weaker = weaker.iter().filter(|check| !is_replaced(check)).filter_map(|check| check.at(minor));
    weaker.chain(stricter.iter().map(|(_, run)| *run)).filter_map(|run| run(pod)).collect()
}

/// All findings with their details: `host namespaces (hostPID=true), privileged (…)`.
pub(super) fn details(findings: &[Finding]) -> String {
    let texts = findings.iter().map(|finding| match finding.detail.as_str() {
        "" => finding.reason.to_owned(),
        detail => format!("{} ({detail})", finding.reason),
    });
    texts.collect::<Vec<_>>().join(", ")
}

pub(super) fn reasons(findings: &[Finding]) -> String {
    findings.iter().map(|finding| finding.reason).collect::<Vec<_>>().join(", ")
}

impl<'a> Pod<'a> {
    pub(super) fn containers(self) -> impl Iterator<Item = &'a Value> {
        let lists = ["initContainers", "containers", "ephemeralContainers"].into_iter();
        lists.flat_map(move |list| self.spec.get(list).and_then(Value::as_array).unwrap_or_default())
    }

    /// Names of the containers that are `bad`.
    pub(super) fn bad(self, mut bad: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|container| bad(container)).map(name).collect()
    }

    pub(super) fn annotations(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let map = self.metadata.get("annotations").and_then(Value::as_object);
        map.into_iter().flat_map(|map| map.iter()).map(|(key, value)| (key, value.as_str().unwrap_or_default()))
    }

    /// A pod in a user namespace of its own is root there only.
    pub(super) fn has_user_namespace(self) -> bool {
        self.spec.get("hostUsers").and_then(Value::as_bool) == Some(false)
    }

    pub(super) fn is_windows(self) -> bool {
        self.spec.str_at(&["os", "name"]) == "windows"
    }
}

pub(super) fn name(object: &Value) -> &str {
    object.str_at(&["name"])
}

/// A member of the security context of a pod's spec or of a container.
pub(super) fn context<'a>(holder: &'a Value, path: &[&str]) -> Option<&'a Value> {
    holder.get("securityContext")?.at(path)
}

pub(super) fn quote<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect();
    quoted.join(", ")
}

pub(super) fn plural(count: usize, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`
pub(super) fn called(containers: &[&str]) -> String {
    format!("{} {}", plural(containers.len(), "container", "containers"), quote(containers))
}

/// `pod and containers "a", "b"`, as far as they are to blame; `None` where nobody is.
pub(super) fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    let mut setters: Vec<String> = Vec::new();
    if pod {
        setters.push("pod".into());
    }
    if !containers.is_empty() {
        setters.push(called(containers));
    }
    (!setters.is_empty()).then(|| setters.join(" and "))
}

/// A set that prints sorted.
pub(super) type Names<'a> = BTreeSet<&'a str>;
