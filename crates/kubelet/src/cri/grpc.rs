//! [`Runtime`] over gRPC on a unix socket.

use std::{
    future::Future,
    path::Path,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use k8s_cri::v1::{image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient, *};
use tokio::net::UnixStream;
use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint, Uri},
};

use super::{Result, Runtime, RuntimeError, RuntimeEvents, events};

/// Upstream's runtimeRequestTimeout: how long one ordinary call may take.
const CALL: Duration = Duration::from_secs(120);

/// A response of the runtime may list thousands of containers; gRPC's own limit of 4 MiB is too low for that.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// A CRI v1 runtime behind a socket. Cheap to clone; connects on the first call and again after a loss.
#[derive(Clone)]
pub struct GrpcRuntime {
    channel: Channel,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl GrpcRuntime {
    /// `endpoint`: a path, or `unix://PATH` as upstream's flag takes it. Must be called in a tokio runtime; connects lazily.
    pub fn connect(endpoint: &str) -> GrpcRuntime {
        let path = Path::new(endpoint.strip_prefix("unix://").unwrap_or(endpoint)).to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The authority is never looked at: the connector knows where to go.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
        GrpcRuntime {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            channel,
        }
    }
}

pub(super) fn failure(status: Status) -> RuntimeError {
    let message = status.message().to_owned();
    match status.code() {
        Code::NotFound => RuntimeError::NotFound { message },
        Code::AlreadyExists => RuntimeError::AlreadyExists { message },
        Code::Unavailable => RuntimeError::Unavailable { message },
        Code::DeadlineExceeded => RuntimeError::DeadlineExceeded { message },
        Code::Unimplemented => RuntimeError::Unimplemented { message },
        code => RuntimeError::Other { code: format!("{code:?}"), message },
    }
}

async fn call<T>(limit: Duration, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T> {
    let begun = Instant::now();
    let answer = tokio::time::timeout(limit, call).await;
    // Where a pod's time goes: most of it is the runtime's.
    tracing::trace!(answer = std::any::type_name::<T>(), elapsed = ?begun.elapsed(), "runtime call");
    match answer {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(failure(status)),
        Err(_) => Err(RuntimeError::DeadlineExceeded { message: format!("no answer in {limit:?}") }),
    }
}

fn missing(what: &str) -> RuntimeError {
    RuntimeError::Other { code: "Internal".into(), message: format!("the runtime's answer has no {what}") }
}

fn spec(image: &str) -> Option<ImageSpec> {
    Some(ImageSpec { image: image.to_owned(), ..ImageSpec::default() })
}

#[async_trait]
impl Runtime for GrpcRuntime {
    async fn version(&self) -> Result<VersionResponse> {
        call(CALL, self.runtime.clone().version(VersionRequest { version: "v1".into() })).await
    }

    async fn status(&self) -> Result<StatusResponse> {
        call(CALL, self.runtime.clone().status(StatusRequest { verbose: false })).await
    }

    async fn update_pod_cidr(&self, cidr: &str) -> Result<()> {
        let network_config = Some(NetworkConfig { pod_cidr: cidr.to_owned() });
        let request = UpdateRuntimeConfigRequest { runtime_config: Some(RuntimeConfig { network_config }) };
        call(CALL, self.runtime.clone().update_runtime_config(request)).await.map(drop)
    }

    async fn run_pod_sandbox(&self, config: &PodSandboxConfig, handler: &str) -> Result<String> {
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.to_owned() };
        // Upstream allows twice the ordinary time: network plugins may be slow.
        Ok(call(2 * CALL, self.runtime.clone().run_pod_sandbox(request)).await?.pod_sandbox_id)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        call(CALL, self.runtime.clone().stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.into() }))
            .await
            .map(drop)
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        call(CALL, self.runtime.clone().remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id.into() }))
            .await
            .map(drop)
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
        let response = call(CALL, self.runtime.clone().pod_sandbox_status(request)).await?;
        response.status.ok_or_else(|| missing("sandbox status"))
    }

    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandbox>> {
        Ok(call(CALL, self.runtime.clone().list_pod_sandbox(ListPodSandboxRequest { filter: None })).await?.items)
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: &ContainerConfig,
        sandbox_config: &PodSandboxConfig,
    ) -> Result<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config.clone()),
            sandbox_config: Some(sandbox_config.clone()),
        };
        Ok(call(CALL, self.runtime.clone().create_container(request)).await?.container_id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        call(CALL, self.runtime.clone().start_container(StartContainerRequest { container_id: id.into() }))
            .await
            .map(drop)
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = StopContainerRequest { container_id: id.into(), timeout };
        call(CALL.saturating_add(grace), self.runtime.clone().stop_container(request)).await.map(drop)
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        call(CALL, self.runtime.clone().remove_container(RemoveContainerRequest { container_id: id.into() }))
            .await
            .map(drop)
    }

    async fn list_containers(&self) -> Result<Vec<Container>> {
        Ok(call(CALL, self.runtime.clone().list_containers(ListContainersRequest { filter: None })).await?.containers)
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
        let response = call(CALL, self.runtime.clone().container_status(request)).await?;
        response.status.ok_or_else(|| missing("container status"))
    }

    async fn update_container_resources(&self, id: &str, resources: &LinuxContainerResources) -> Result<()> {
        let request = UpdateContainerResourcesRequest {
            container_id: id.into(),
            linux: Some(resources.clone()),
            ..UpdateContainerResourcesRequest::default()
        };
        call(CALL, self.runtime.clone().update_container_resources(request)).await.map(drop)
    }

    async fn reopen_container_log(&self, id: &str) -> Result<()> {
        call(CALL, self.runtime.clone().reopen_container_log(ReopenContainerLogRequest { container_id: id.into() }))
            .await
            .map(drop)
    }

    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecSyncResponse> {
        let request = ExecSyncRequest {
            container_id: id.into(),
            cmd: command.to_vec(),
            timeout: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        };
        // Zero is CRI's word for "no limit". Otherwise the runtime enforces it, and ours only guards against its hanging.
        let limit = if timeout.is_zero() { Duration::MAX } else { CALL.saturating_add(timeout) };
        call(limit, self.runtime.clone().exec_sync(request)).await
    }

    async fn exec(&self, request: ExecRequest) -> Result<String> {
        Ok(call(CALL, self.runtime.clone().exec(request)).await?.url)
    }

    async fn attach(&self, request: AttachRequest) -> Result<String> {
        Ok(call(CALL, self.runtime.clone().attach(request)).await?.url)
    }

    async fn port_forward(&self, sandbox: &str, ports: Vec<i32>) -> Result<String> {
        let request = PortForwardRequest { pod_sandbox_id: sandbox.to_owned(), port: ports };
        Ok(call(CALL, self.runtime.clone().port_forward(request)).await?.url)
    }

    async fn list_container_stats(&self) -> Result<Vec<ContainerStats>> {
        Ok(call(CALL, self.runtime.clone().list_container_stats(ListContainerStatsRequest { filter: None }))
            .await?
            .stats)
    }

    async fn list_pod_sandbox_stats(&self) -> Result<Vec<PodSandboxStats>> {
        Ok(call(CALL, self.runtime.clone().list_pod_sandbox_stats(ListPodSandboxStatsRequest { filter: None }))
            .await?
            .stats)
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(call(CALL, self.images.clone().list_images(ListImagesRequest { filter: None })).await?.images)
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>> {
        Ok(call(CALL, self.images.clone().image_status(ImageStatusRequest { image: spec(image), verbose: false }))
            .await?
            .image)
    }

    async fn pull_image(
        &self,
        image: &str,
        auth: Option<AuthConfig>,
        sandbox: Option<&PodSandboxConfig>,
    ) -> Result<String> {
        let request = PullImageRequest { image: spec(image), auth, sandbox_config: sandbox.cloned() };
        // No limit of ours: the runtime gives up on a pull that makes no progress.
        Ok(self.images.clone().pull_image(request).await.map_err(failure)?.into_inner().image_ref)
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        call(CALL, self.images.clone().remove_image(RemoveImageRequest { image: spec(image) })).await.map(drop)
    }

    async fn image_fs_info(&self) -> Result<Vec<FilesystemUsage>> {
        Ok(call(CALL, self.images.clone().image_fs_info(ImageFsInfoRequest {})).await?.image_filesystems)
    }

    async fn events(&self) -> Result<RuntimeEvents> {
        events::subscribe(self.channel.clone()).await
    }
}
