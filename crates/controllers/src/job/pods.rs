//! A Job's pods: made from its template, with index and finalizer; and what is read back from them.

use client::{
    Kind,
    kinds::{
        batch::v1::Job,
        core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod},
    },
};
use jiff::{SignedDuration, Timestamp};

use super::{TRACKING, policy::Verdict};
use crate::shared::{annotation, created_at, owners, pods, template};

pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

pub fn index(pod: &Pod) -> Option<i32> {
    annotation(pod, INDEX).parse().ok().filter(|index| *index >= 0)
}

/// How often this pod's index had failed before it.
pub fn index_failures(pod: &Pod) -> i32 {
    annotation(pod, FAILURES).parse().unwrap_or(0)
}

/// When the pod ended, as far as it tells (backoff_utils.go `getFinishedTime`).
pub fn finished_at(pod: &Pod) -> Timestamp {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let ended =
        statuses.filter_map(|status| Some(status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0)).max();
    let unready = pods::condition(pod, "Ready").filter(|condition| condition.status == "False");
    let unready = unready.and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0);
    let deleted = pod.metadata.deletion_timestamp.as_ref().map(|time| {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        time.0.checked_sub(SignedDuration::from_secs(grace)).unwrap_or(time.0)
    });
    ended.or(unready).or(deleted).unwrap_or_else(|| created_at(pod))
}

/// The next pod, for `index` where the Job is indexed. `failed`: the pod of that index it replaces, and how that was judged.
pub fn new_pod(job: &Job, index: Option<i32>, counts_per_index: bool, failed: Option<(&Pod, Verdict)>) -> Pod {
    let spec = job.spec.clone().unwrap_or_default();
    let mut pod = template::pod(job, owners::controller_ref(job), &spec.template);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == TRACKING) {
        finalizers.push(TRACKING.into());
    }
    let Some(index) = index else {
        return pod;
    };
    let prefix: String = job.name().chars().take(247 - index.to_string().len()).collect();
    pod.metadata.generate_name = Some(format!("{prefix}-{index}-"));
    pod.metadata.labels.get_or_insert_default().insert(INDEX.into(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.into(), index.to_string());
    if counts_per_index {
        let is_ignored = failed.as_ref().is_some_and(|(_, verdict)| *verdict == Verdict::Ignore);
        let before = failed.as_ref().map_or(0, |(pod, _)| index_failures(pod));
        let counted = before + i32::from(failed.is_some() && !is_ignored);
        annotations.insert(FAILURES.into(), counted.to_string());
        if let Some((failed, _)) = failed {
            let ignored = annotation(failed, IGNORED_FAILURES).parse::<i32>().unwrap_or(0) + i32::from(is_ignored);
            if ignored > 0 {
                annotations.insert(IGNORED_FAILURES.into(), ignored.to_string());
            }
        }
    }
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(format!("{}-{index}", job.name()));
    for container in pod_spec.containers.iter_mut().chain(pod_spec.init_containers.iter_mut().flatten()) {
        let env = container.env.get_or_insert_default();
        if !env.iter().any(|variable| variable.name == "JOB_COMPLETION_INDEX") {
            env.push(index_variable());
        }
    }
    pod
}

fn index_variable() -> EnvVar {
    EnvVar {
        name: "JOB_COMPLETION_INDEX".into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: format!("metadata.labels['{INDEX}']"),
                api_version: None,
            }),
            ..EnvVarSource::default()
        }),
    }
}
