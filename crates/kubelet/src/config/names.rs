//! Labels, annotations and paths under which a pod's sandboxes and containers are found again after a restart (upstream
//! `kuberuntime/labels.go`, `kuberuntime/helpers.go`).

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use client::kinds::core::v1::{Container, LifecycleHandler, Pod};

use crate::plan::spec;

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
pub const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
pub const DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";

fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_default()
}

/// The pod's own labels and the ones it is found by.
pub fn pod_labels(pod: &Pod) -> HashMap<String, String> {
    let mut labels: HashMap<_, _> = pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    labels.extend(identity(pod));
    labels
}

fn identity(pod: &Pod) -> [(String, String); 3] {
    let meta = &pod.metadata;
    [
        (POD_NAME.into(), text(&meta.name)),
        (POD_NAMESPACE.into(), text(&meta.namespace)),
        (POD_UID.into(), text(&meta.uid)),
    ]
}

pub fn pod_annotations(pod: &Pod) -> HashMap<String, String> {
    pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect()
}

pub fn container_labels(pod: &Pod, container: &Container) -> HashMap<String, String> {
    let mut labels: HashMap<_, _> = identity(pod).into();
    labels.insert(CONTAINER_NAME.into(), container.name.clone());
    labels
}

pub fn container_annotations(pod: &Pod, container: &Container, attempt: u32) -> HashMap<String, String> {
    let mut all = HashMap::from([
        (CONTAINER_HASH.into(), spec::hash(container)),
        (RESTART_COUNT.into(), attempt.to_string()),
        (TERMINATION_PATH.into(), text(&container.termination_message_path)),
        (TERMINATION_POLICY.into(), text(&container.termination_message_policy)),
        (GRACE.into(), spec::grace_seconds(pod).to_string()),
    ]);
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        all.insert(DELETION_GRACE.into(), grace.to_string());
    }
    // A container whose pod is gone from the API when the kubelet starts still gets its hook.
    let hook: Option<&LifecycleHandler> = container.lifecycle.as_ref().and_then(|hooks| hooks.pre_stop.as_ref());
    if let Some(json) = hook.and_then(|hook| serde_json::to_string(hook).ok()) {
        all.insert(PRE_STOP.into(), json);
    }
    all
}

/// `ROOT/NAMESPACE_NAME_UID`.
pub fn pod_log_dir(root: &Path, pod: &Pod) -> PathBuf {
    let meta = &pod.metadata;
    root.join(format!("{}_{}_{}", text(&meta.namespace), text(&meta.name), text(&meta.uid)))
}

/// Relative to the pod's log directory.
pub fn log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

/// The restart count to go on from where the runtime has no record: the number of the newest log file, plus one (upstream
/// `calcRestartCountByLogDir`).
pub fn attempt_from_logs(files: impl Iterator<Item = String>) -> u32 {
    let newest = files.filter_map(|file| file.split('.').next()?.parse::<u32>().ok()).max();
    newest.map_or(0, |newest| newest + 1)
}
