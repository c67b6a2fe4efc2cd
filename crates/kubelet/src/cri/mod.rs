//! CRI v1 behind one trait, so that tests run against a recording fake and nothing else in the crate knows gRPC.

mod events;
mod grpc;

use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
pub use k8s_cri::v1;
use k8s_cri::v1::{
    AttachRequest, AuthConfig, Container, ContainerConfig, ContainerStats, ContainerStatus, ExecRequest,
    ExecSyncResponse, FilesystemUsage, Image, LinuxContainerResources, PodSandbox, PodSandboxConfig, PodSandboxStats,
    PodSandboxStatus, StatusResponse, VersionResponse,
};

pub use grpc::GrpcRuntime;

/// Why a call to the runtime failed; the text is the runtime's and only for people.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RuntimeError {
    #[error("rpc error: code = NotFound desc = {message}")]
    NotFound { message: String },
    #[error("rpc error: code = AlreadyExists desc = {message}")]
    AlreadyExists { message: String },
    /// The runtime cannot be reached, or is going away.
    #[error("rpc error: code = Unavailable desc = {message}")]
    Unavailable { message: String },
    #[error("rpc error: code = DeadlineExceeded desc = {message}")]
    DeadlineExceeded { message: String },
    /// The runtime does not offer this call.
    #[error("rpc error: code = Unimplemented desc = {message}")]
    Unimplemented { message: String },
    /// `code` is the gRPC code's name, as Go prints it.
    #[error("rpc error: code = {code} desc = {message}")]
    Other { code: String, message: String },
}

impl RuntimeError {
    pub fn is_not_found(&self) -> bool {
        matches!(self, RuntimeError::NotFound { .. })
    }
}

pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;

/// Something changed with this container or sandbox: look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// A container's or sandbox's main process ended.
    Exited { id: String },
    /// It was created, started or removed by this kubelet or by someone else.
    Changed { id: String },
}

pub type RuntimeEvents = BoxStream<'static, Result<RuntimeEvent>>;

/// The calls of CRI v1 that a kubelet makes. Idempotent where CRI says so (stop and remove succeed on what is gone).
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    async fn version(&self) -> Result<VersionResponse>;
    async fn status(&self) -> Result<StatusResponse>;
    async fn update_pod_cidr(&self, cidr: &str) -> Result<()>;

    /// Gives back the sandbox's id. `handler` is a RuntimeClass handler, empty for the default.
    async fn run_pod_sandbox(&self, config: &PodSandboxConfig, handler: &str) -> Result<String>;
    async fn stop_pod_sandbox(&self, id: &str) -> Result<()>;
    async fn remove_pod_sandbox(&self, id: &str) -> Result<()>;
    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus>;
    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandbox>>;

    async fn create_container(
        &self,
        sandbox: &str,
        config: &ContainerConfig,
        sandbox_config: &PodSandboxConfig,
    ) -> Result<String>;
    async fn start_container(&self, id: &str) -> Result<()>;
    /// Sends the stop signal and, after `grace`, SIGKILL; returns when the container is dead.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()>;
    async fn remove_container(&self, id: &str) -> Result<()>;
    async fn list_containers(&self) -> Result<Vec<Container>>;
    async fn container_status(&self, id: &str) -> Result<ContainerStatus>;
    async fn update_container_resources(&self, id: &str, resources: &LinuxContainerResources) -> Result<()>;
    async fn reopen_container_log(&self, id: &str) -> Result<()>;

    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecSyncResponse>;
    async fn exec(&self, request: ExecRequest) -> Result<String>;
    async fn attach(&self, request: AttachRequest) -> Result<String>;
    async fn port_forward(&self, sandbox: &str, ports: Vec<i32>) -> Result<String>;

    async fn list_container_stats(&self) -> Result<Vec<ContainerStats>>;
    async fn list_pod_sandbox_stats(&self) -> Result<Vec<PodSandboxStats>>;

    async fn list_images(&self) -> Result<Vec<Image>>;
    /// `None` where the image is not on this node.
    async fn image_status(&self, image: &str) -> Result<Option<Image>>;
    /// Gives back the image's reference (id).
    async fn pull_image(
        &self,
        image: &str,
        auth: Option<AuthConfig>,
        sandbox: Option<&PodSandboxConfig>,
    ) -> Result<String>;
    async fn remove_image(&self, image: &str) -> Result<()>;
    async fn image_fs_info(&self) -> Result<Vec<FilesystemUsage>>;

    /// The runtime's own events. [`RuntimeError::Unimplemented`] where it has none: then the caller relists.
    async fn events(&self) -> Result<RuntimeEvents>;
}
