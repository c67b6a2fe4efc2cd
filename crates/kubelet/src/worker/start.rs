//! Making sandboxes and containers (upstream `kuberuntime_sandbox.go`, `kuberuntime_container.go: startContainer`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use client::{
    EventType,
    kinds::core::v1::{Container, Pod},
};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use volumes::{PodMounts, downward::PodFacts};

use super::{Node, Signal, act::Done, container_record, files, sandbox_record};
use crate::{
    config::{ConfigError, container, env, names, sandbox, security},
    images::ImageError,
    plan::{ContainerRecord, Role, SandboxRecord, Step, spec},
    probes::{Target, check},
};

/// Why something did not start; `reason` is a waiting reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFailure {
    pub reason: &'static str,
    pub message: String,
    /// Where the failure itself says when to try again.
    pub retry_at: Option<Timestamp>,
}

impl StartFailure {
    pub fn new(reason: &'static str, error: impl ToString) -> StartFailure {
        StartFailure { reason, message: error.to_string(), retry_at: None }
    }
}

/// The text CRI wants for the pod's cgroup.
fn cgroup_parent(node: &Node, pod: &Pod) -> Result<String, ConfigError> {
    Ok(match &node.cgroups {
        Some(cgroups) => cgroups.pod(pod)?.to_string(),
        None => String::new(),
    })
}

pub async fn sandbox(node: &Node, pod: &Pod, attempt: u32) -> Result<SandboxRecord, StartFailure> {
    let failed = |error: &dyn std::fmt::Display| StartFailure::new("ContainerCreating", error);
    let facts = node.facts();
    let parent = cgroup_parent(node, pod).map_err(|error| failed(&error))?;
    let config = sandbox::config(pod, &facts, attempt, &parent).map_err(|error| failed(&error))?;
    let cgroup = async {
        match &node.cgroups {
            Some(cgroups) => cgroups.create_pod(pod, &node.enforcement).await.map(drop).map_err(|error| failed(&error)),
            None => Ok(()),
        }
    };
    let logs = async { tokio::fs::create_dir_all(&config.log_directory).await.map_err(|error| failed(&error)) };
    tokio::try_join!(cgroup, logs)?;
    let class = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref()).filter(|name| !name.is_empty());
    let handler = match class {
        Some(class) => (node.runtime_classes)(class).map_err(|error| failed(&error))?,
        None => String::new(),
    };
    let id = node.runtime.run_pod_sandbox(&config, &handler).await.map_err(|error| failed(&error))?;
    let status = node.runtime.pod_sandbox_status(&id).await.map_err(|error| failed(&error))?;
    Ok(sandbox_record(&status))
}

/// Starts containers one after the other, each with all it takes.
pub(super) struct Starter {
    pub node: Arc<Node>,
    pub pod: Arc<Pod>,
    pub mounts: Arc<PodMounts>,
    pub sandbox: SandboxRecord,
    pub address: String,
    /// Running containers by name, for ephemeral ones to aim at.
    pub targets: BTreeMap<String, String>,
    pub sender: mpsc::UnboundedSender<Signal>,
    pub cancel: CancellationToken,
}

impl Starter {
    pub async fn run(self, lane: Vec<Step>) -> Done {
        for step in lane {
            let Step::Start { container: name, role, attempt, .. } = step else { continue };
            let Some((_, container)) = spec::find(&self.pod, &name) else { continue };
            let started = tokio::select! {
                biased;
                () = self.cancel.cancelled() => break,
                started = self.prepare(&container, role, attempt) => started,
            };
            // From here on the runtime is at work: cancelling would lose what it makes.
            let result = match started {
                Ok(config) => self.start(&container, config).await,
                Err(failure) => Err(failure),
            };
            if let Err(failure) = result {
                self.tell(Done::StartFailed { container: name, failure });
            }
        }
        Done::Lane
    }

    fn tell(&self, done: Done) {
        let _ = self.sender.send(Signal::Done(Box::new(done)));
    }

    fn warn(&self, container: &Container, reason: &str, message: String) {
        self.node.event(&self.pod, Some(&container.name), EventType::Warning, reason, message);
    }

    /// The image, and everything the runtime is told about the container.
    async fn prepare(&self, container: &Container, role: Role, attempt: u32) -> Result<Prepared, StartFailure> {
        let facts = self.node.facts();
        let failed = |error: ConfigError| {
            self.warn(container, "Failed", format!("Error: {error}"));
            StartFailure::new("CreateContainerConfigError", error)
        };
        let parent = cgroup_parent(&self.node, &self.pod).map_err(failed)?;
        let sandbox_config = sandbox::config(&self.pod, &facts, self.sandbox.attempt, &parent).map_err(failed)?;
        let note = |warning: bool, reason: &str, message: String| {
            let kind = if warning { EventType::Warning } else { EventType::Normal };
            self.node.event(&self.pod, Some(&container.name), kind, reason, message);
        };
        let now = self.node.clock.now();
        let image = self.node.images.ensure(&self.pod, container, &sandbox_config, now, &note).await;
        let failed_image = |error: ImageError| {
            self.warn(container, "Failed", format!("Error: {}", error.reason));
            StartFailure { reason: error.reason, message: error.message, retry_at: Some(error.retry_at) }
        };
        let image = image.map_err(failed_image)?;
        let images = self.node.images.ensure_volumes(&self.pod, container, &sandbox_config, now, &note).await;
        let images = images.map_err(failed_image)?;
        security::verify_non_root(&self.pod, container, &image).map_err(failed)?;
        let services = (self.node.services)();
        let pod_facts = PodFacts {
            pod_ips: if self.sandbox.ips.is_empty() { facts.host_ips.clone() } else { self.sandbox.ips.clone() },
            host_ips: facts.host_ips.clone(),
            node_name: facts.node_name.clone(),
        };
        let sources =
            env::EnvSources { node: &facts, facts: &pod_facts, objects: &*self.node.objects, services: &services };
        let env = env::make(&self.pod, container, &sources).await.map_err(failed)?;
        let attempt = match attempt {
            0 => files::attempt_on_disk(&names::pod_log_dir(&facts.pod_logs, &self.pod).join(&container.name)).await,
            attempt => attempt,
        };
        let mounts = files::Mounts {
            node: &self.node,
            pod: &self.pod,
            container,
            mounts: &self.mounts,
            images: &images,
            env: &env,
            ips: &self.sandbox.ips,
            attempt,
        };
        let mounts = mounts.make().await.map_err(failed)?;
        let target = self.target(container, role);
        let parts = container::Parts {
            node: &facts,
            env: &env,
            image_ref: &image.id,
            attempt,
            mounts,
            target: target.as_deref(),
        };
        let config = container::config(&self.pod, container, parts).map_err(failed)?;
        Ok(Prepared { config, sandbox_config })
    }

    fn target(&self, container: &Container, role: Role) -> Option<String> {
        if role != Role::Ephemeral {
            return None;
        }
        let all = spec::ephemeral_containers(&self.pod);
        let wanted = all.iter().find(|ephemeral| ephemeral.name == container.name)?.target_container_name.as_deref()?;
        self.targets.get(wanted).cloned()
    }

    async fn start(&self, container: &Container, prepared: Prepared) -> Result<(), StartFailure> {
        let runtime = &self.node.runtime;
        let id = runtime.create_container(&self.sandbox.id, &prepared.config, &prepared.sandbox_config).await;
        let id = id.map_err(|error| {
            // A runtime that does not know of image volumes fails over the path that they do not have.
            let images = prepared.config.mounts.iter().any(|mount| mount.image.is_some());
            let hint =
                if images { " (image volumes need a runtime that mounts images, as containerd 2.1 does)" } else { "" };
            let message = format!("{error}{hint}");
            self.warn(container, "Failed", format!("Error: {message}"));
            StartFailure::new("CreateContainerError", message)
        })?;
        // Before it runs, so that not even an exit at once is missed.
        self.node.register(&id, &self.sender);
        self.node.event(&self.pod, Some(&container.name), EventType::Normal, "Created", "Container created".into());
        let resources = container.resources.clone().unwrap_or_default();
        if let Err(error) = runtime.start_container(&id).await {
            self.warn(container, "Failed", format!("Error: {error}"));
            if let Ok(record) = self.look(&id).await {
                self.tell(Done::Started { record, post_start: false, resources });
            }
            return Err(StartFailure::new("RunContainerError", error));
        }
        self.node.event(&self.pod, Some(&container.name), EventType::Normal, "Started", "Container started".into());
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.clone());
        let record = self.look(&id).await?;
        self.tell(Done::Started { record, post_start: hook.is_some(), resources });
        let Some(hook) = hook else { return Ok(()) };
        let target = Target { id: id.clone(), container: container.clone(), address: self.address.clone() };
        let outcome = check::hook(&**runtime, &hook, &target, Duration::ZERO).await;
        if let Err(error) = outcome {
            self.warn(container, "FailedPostStartHook", format!("PostStartHook failed: {error}"));
            let grace = Duration::from_secs(spec::grace_seconds(&self.pod).max(0).unsigned_abs());
            let _ = runtime.stop_container(&id, grace).await;
            let status = runtime.container_status(&id).await;
            self.tell(Done::PostStart { id: id.clone() });
            self.tell(Done::Status { id, status });
            return Err(StartFailure::new("PostStartHookError", error));
        }
        self.tell(Done::PostStart { id });
        Ok(())
    }

    async fn look(&self, id: &str) -> Result<ContainerRecord, StartFailure> {
        match self.node.runtime.container_status(id).await {
            Ok(status) => Ok(container_record(&status, Some(&self.sandbox.id))),
            Err(error) => Err(StartFailure::new("RunContainerError", error)),
        }
    }
}

struct Prepared {
    config: k8s_cri::v1::ContainerConfig,
    sandbox_config: k8s_cri::v1::PodSandboxConfig,
}
