//! What the kubelet's HTTPS API needs to know of the pods on this node: the seam between `server` and the workers.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use client::kinds::core::v1::Pod;

use crate::cri::RuntimeError;

#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No such pod on this node.
    #[error("pod {namespace}/{name} does not exist")]
    PodNotFound { namespace: String, name: String },
    /// The pod is here, but has no container of this name, or none was made yet.
    #[error("container {container} is not available in pod {namespace}/{name}")]
    ContainerNotFound { namespace: String, name: String, container: String },
    /// `previous` was asked for and the container has only one instance.
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPreviousContainer { pod: String, container: String },
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// One instance of a container as the runtime knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerHandle {
    pub id: String,
    /// Where the runtime writes this instance's log in CRI format.
    pub log_path: PathBuf,
    pub running: bool,
    /// Restart count of this instance, from 0.
    pub attempt: u32,
}

/// Which streams an exec or attach wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// Pods, their containers and the runtime's streaming endpoints.
#[async_trait]
pub trait PodAccess: Send + Sync {
    /// Every pod on this node with its newest status, static pods included.
    fn pods(&self) -> Vec<Arc<Pod>>;

    /// `uid`: only this one; `None`: whichever has the name now.
    fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Result<Arc<Pod>, AccessError>;

    /// The newest instance of a container, or with `previous` the one before it.
    fn container(&self, pod: &Pod, container: &str, previous: bool) -> Result<ContainerHandle, AccessError>;

    /// The URL to stream an exec from. `container` is a runtime id.
    async fn exec(&self, container: &str, command: Vec<String>, streams: Streams) -> Result<String, AccessError>;

    /// The URL to stream an attach from.
    async fn attach(&self, container: &str, streams: Streams) -> Result<String, AccessError>;

    /// The URL to stream port forwards of this pod from.
    async fn port_forward(&self, pod: &Pod, ports: Vec<i32>) -> Result<String, AccessError>;

    /// Runs a command to its end: exit code, stdout and stderr together (the `/run` endpoint).
    async fn run(&self, container: &str, command: Vec<String>) -> Result<(i32, Vec<u8>), AccessError>;
}
