//! A pod's containers seen as one list with their roles, and the rules that only need the spec.

use std::borrow::Cow;

use client::kinds::core::v1::{Container, EphemeralContainer, Pod, PodSpec};
use sha2::{Digest, Sha256};

use super::observed::{ContainerRecord, Exit, State};

/// Upstream's default where the API server has not set one.
pub const GRACE_SECONDS: i64 = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Init,
    /// An init container with restartPolicy Always.
    Sidecar,
    Regular,
    Ephemeral,
}

/// The spec of a pod; an empty one where it is missing, which the API server does not let happen.
pub fn spec(pod: &Pod) -> Cow<'_, PodSpec> {
    match &pod.spec {
        Some(spec) => Cow::Borrowed(spec),
        None => Cow::Owned(PodSpec::default()),
    }
}

pub fn init_containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default()
}

pub fn regular_containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default()
}

pub fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_deref()).unwrap_or_default()
}

/// All containers in the order init, ephemeral, regular: the order in which upstream starts them.
pub fn containers(pod: &Pod) -> Vec<(Role, Cow<'_, Container>)> {
    let mut all = Vec::new();
    for container in init_containers(pod) {
        let role = if is_sidecar(container) { Role::Sidecar } else { Role::Init };
        all.push((role, Cow::Borrowed(container)));
    }
    for container in ephemeral_containers(pod) {
        all.push((Role::Ephemeral, Cow::Owned(as_container(container))));
    }
    for container in regular_containers(pod) {
        all.push((Role::Regular, Cow::Borrowed(container)));
    }
    all
}

pub fn find<'a>(pod: &'a Pod, name: &str) -> Option<(Role, Cow<'a, Container>)> {
    containers(pod).into_iter().find(|(_, container)| container.name == name)
}

fn as_container(container: &EphemeralContainer) -> Container {
    let c = container.clone();
    Container {
        args: c.args,
        command: c.command,
        env: c.env,
        env_from: c.env_from,
        image: c.image,
        image_pull_policy: c.image_pull_policy,
        name: c.name,
        resources: c.resources,
        security_context: c.security_context,
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        termination_message_path: c.termination_message_path,
        termination_message_policy: c.termination_message_policy,
        tty: c.tty,
        volume_devices: c.volume_devices,
        volume_mounts: c.volume_mounts,
        working_dir: c.working_dir,
        ..Container::default()
    }
}

pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

pub fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

pub fn restart_policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always")
}

pub fn grace_seconds(pod: &Pod) -> i64 {
    pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(GRACE_SECONDS)
}

/// A static pod, or the mirror of one: its life does not hang on the API object.
pub fn is_static(pod: &Pod) -> bool {
    let source = pod.metadata.annotations.as_ref().and_then(|all| all.get("kubernetes.io/config.source"));
    source.is_some_and(|source| source != "api")
}

pub fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"))
}

/// `NAME_NAMESPACE(UID)`, as upstream's messages name a pod.
pub fn describe(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
}

/// Changes when a running container has to be replaced: its name or image (upstream: `pickFieldsToHash`).
pub fn hash(container: &Container) -> String {
    let mut sha = Sha256::new();
    sha.update(container.name.as_bytes());
    sha.update([0]);
    sha.update(container.image.as_deref().unwrap_or_default().as_bytes());
    sha.finalize()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether an exited regular (or, with `init`, init) container runs again (upstream: `ShouldContainerBeRestarted`).
pub fn restarts_after(pod: &Pod, container: &Container, exit: &Exit, init: bool) -> bool {
    if rule_says_restart(container, exit.code) {
        return true;
    }
    let policy = container.restart_policy.as_deref().unwrap_or_else(|| restart_policy(pod));
    match policy {
        "Never" => false,
        "OnFailure" => exit.code != 0,
        // An init container of a pod that restarts always is done once it succeeded.
        _ => !init || exit.code != 0,
    }
}

fn rule_says_restart(container: &Container, code: i32) -> bool {
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    let matching = rules.iter().find(|rule| match &rule.exit_codes {
        Some(codes) => {
            let listed = codes.values.as_deref().unwrap_or_default().contains(&code);
            (codes.operator == "In") == listed
        }
        None => false,
    });
    matching.is_some_and(|rule| rule.action == "Restart")
}

/// Whether a regular container has to be started, given its newest instance.
pub fn should_start(pod: &Pod, container: &Container, record: Option<&ContainerRecord>) -> bool {
    match record.map(|record| &record.state) {
        None | Some(State::Created | State::Unknown) => true,
        Some(State::Running { .. }) => false,
        Some(State::Exited(exit)) => restarts_after(pod, container, exit, false),
    }
}
