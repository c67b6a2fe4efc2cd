//! What a failed pod means to the Job: podFailurePolicy and successPolicy
//! (upstream job/pod_failure_policy.go, success_policy.go).

use client::{
    Kind,
    kinds::{
        batch::v1::{Job, PodFailurePolicyRule, SuccessPolicy},
        core::v1::{ContainerStatus, Pod},
    },
};

use super::Indexes;
use crate::shared::{is_deleting, pods};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Counts against the backoff limit.
    Count,
    Ignore,
    FailIndex,
    /// The whole Job fails, with this message.
    FailJob(String),
}

/// Only pods that reached Failed are replaced, not those being deleted.
pub fn replaces_only_failed(job: &Job) -> bool {
    let spec = job.spec.as_ref();
    spec.is_some_and(|spec| {
        spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
    })
}

pub fn is_failed(pod: &Pod, job: &Job) -> bool {
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => is_deleting(pod) && !replaces_only_failed(job),
    }
}

pub fn judge(job: &Job, pod: &Pod) -> Verdict {
    let policy = job.spec.as_ref().and_then(|spec| spec.pod_failure_policy.as_ref());
    for (at, rule) in policy.iter().flat_map(|policy| policy.rules.iter().enumerate()) {
        let Some(why) = matched(rule, pod) else {
            continue;
        };
        return match rule.action.as_str() {
            "FailJob" => Verdict::FailJob(format!("{why} matching FailJob rule at index {at}")),
            "FailIndex" => Verdict::FailIndex,
            "Ignore" => Verdict::Ignore,
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    if let Some(codes) = &rule.on_exit_codes {
        let status = pod.status.as_ref()?;
        let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        let exit =
            |container: &ContainerStatus| container.state.as_ref()?.terminated.as_ref().map(|ended| ended.exit_code);
        let named = all.filter(|container| codes.container_name.as_ref().is_none_or(|name| *name == container.name));
        let mut failed = named.filter_map(|container| Some((container, exit(container).filter(|code| *code != 0)?)));
        let (container, code) = failed.find(|(_, code)| codes.values.contains(code) == (codes.operator == "In"))?;
        return Some(format!("Container {} for pod {} failed with exit code {code}", container.name, pod.key()));
    }
    let holds = |name: &str, value: &str| pods::condition(pod, name).is_some_and(|condition| condition.status == value);
    let mut patterns = rule.on_pod_conditions.iter().flatten();
    let met = patterns.find(|pattern| holds(&pattern.type_, pattern.status.as_deref().unwrap_or("True")))?;
    Some(format!("Pod {} has condition {}", pod.key(), met.type_))
}

/// The message of the first success rule that holds.
pub fn success(policy: Option<&SuccessPolicy>, completions: i32, succeeded: &Indexes) -> Option<String> {
    if succeeded.total() == 0 {
        return None;
    }
    let holds = |at: usize| {
        let rule = &policy?.rules[at];
        let Some(listed) = &rule.succeeded_indexes else {
            return Some(rule.succeeded_count.is_some_and(|count| succeeded.total() >= count));
        };
        let required = Indexes::parse(listed, completions);
        let reached = required.0.intersection(&succeeded.0).count() as i32;
        let is_enough = reached == required.total() || rule.succeeded_count.is_some_and(|count| reached >= count);
        Some(required.total() > 0 && is_enough)
    };
    (0..policy?.rules.len()).find(|at| holds(*at) == Some(true)).map(|at| format!("Matched rules at index {at}"))
}
