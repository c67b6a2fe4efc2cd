//! What all workers of a node share: the runtime, images, volumes, cgroups, and the seams to the API.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use client::{
    EventType,
    kinds::core::v1::{ObjectReference, Pod, PodStatus, Service},
    reference,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;
use volumes::{ObjectSource, VolumeManager};

use super::Signal;
use crate::{
    cgroups::{Cgroups, Enforcement},
    config::NodeFacts,
    cri::Runtime,
    eviction::Pressure,
    images::Images,
    plan::spec,
};

/// The writes a worker makes to the API.
#[async_trait]
pub trait PodApi: Send + Sync + 'static {
    /// Brings the status of the object with `pod`'s UID to `status`. `last`: what was written before.
    async fn patch_status(&self, pod: &Pod, last: Option<&PodStatus>, status: &PodStatus) -> client::Result<()>;
    /// Removes the object at once, if it still has this UID.
    async fn delete(&self, pod: &Pod) -> client::Result<()>;
}

/// Where events go; never waits.
pub trait Recorder: Send + Sync + 'static {
    fn event(&self, regarding: ObjectReference, kind: EventType, reason: &str, message: String);
}

impl Recorder for client::EventRecorder {
    fn event(&self, regarding: ObjectReference, kind: EventType, reason: &str, message: String) {
        client::EventRecorder::event(self, regarding, kind, reason, message);
    }
}

/// Finds the handler of a RuntimeClass; `Err` is a message.
pub type RuntimeClasses = Box<dyn Fn(&str) -> Result<String, String> + Send + Sync>;

pub struct Node {
    pub runtime: Arc<dyn Runtime>,
    /// As in container ids: `containerd`.
    pub runtime_name: String,
    pub images: Images,
    pub volumes: VolumeManager,
    pub objects: Arc<dyn ObjectSource>,
    /// `None`: pods' cgroups are the runtime's own business.
    pub cgroups: Option<Cgroups>,
    pub enforcement: Enforcement,
    pub services: Box<dyn Fn() -> Vec<Arc<Service>> + Send + Sync>,
    pub runtime_classes: RuntimeClasses,
    pub api: Arc<dyn PodApi>,
    pub recorder: Arc<dyn Recorder>,
    pub pressure: Pressure,
    pub clock: Arc<dyn client::Clock>,
    pub facts: RwLock<Arc<NodeFacts>>,
    /// Which worker a container or sandbox belongs to.
    pub owners: Mutex<HashMap<String, mpsc::UnboundedSender<Signal>>>,
}

impl Node {
    pub fn facts(&self) -> Arc<NodeFacts> {
        self.facts.read().clone()
    }

    pub(super) fn register(&self, id: &str, worker: &mpsc::UnboundedSender<Signal>) {
        self.owners.lock().insert(id.to_owned(), worker.clone());
    }

    pub(super) fn unregister(&self, id: &str) {
        self.owners.lock().remove(id);
    }

    /// Hands the news of an exit to the worker it concerns.
    pub fn exited(&self, id: &str) {
        let owner = self.owners.lock().get(id).cloned();
        if let Some(owner) = owner {
            let _ = owner.send(Signal::Exited { id: id.to_owned() });
        }
    }

    /// An event about the node itself.
    pub fn node_event(&self, kind: EventType, reason: &str, message: String) {
        let name = self.facts().node_name.clone();
        // Upstream's kubelet knows its node by name only, and puts that for the UID.
        let regarding = ObjectReference {
            kind: Some("Node".into()),
            uid: Some(name.clone()),
            name: Some(name),
            ..ObjectReference::default()
        };
        self.recorder.event(regarding, kind, reason, message);
    }

    /// An event about a pod, or about one of its containers.
    pub fn event(&self, pod: &Pod, container: Option<&str>, kind: EventType, reason: &str, message: String) {
        let mut regarding = reference(pod);
        if let Some(name) = container {
            let init = spec::init_containers(pod).iter().any(|container| container.name == name);
            let ephemeral = spec::ephemeral_containers(pod).iter().any(|container| container.name == name);
            let list = match (init, ephemeral) {
                (true, _) => "initContainers",
                (_, true) => "ephemeralContainers",
                _ => "containers",
            };
            regarding.field_path = Some(format!("spec.{list}{{{name}}}"));
        }
        self.recorder.event(regarding, kind, reason, message);
    }
}
