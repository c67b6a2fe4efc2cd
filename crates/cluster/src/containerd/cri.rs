//! The few CRI calls that starting and stopping a node needs, over the runtime's Unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use k8s_cri::v1;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// A call to the runtime that failed.
#[derive(Debug, thiserror::Error)]
#[error("the container runtime at {} could not {action}", socket.display())]
pub struct CriError {
    pub action: &'static str,
    pub socket: PathBuf,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// An image that the runtime holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// `sha256:` and the digest of the image's configuration.
    pub id: String,
    pub tags: Vec<String>,
    pub digests: Vec<String>,
    pub size_bytes: u64,
}

/// A connection to a runtime.
#[derive(Clone, Debug)]
pub struct Cri {
    socket: PathBuf,
    channel: Channel,
}

impl Cri {
    pub async fn connect(socket: &Path) -> Result<Cri, CriError> {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_: tonic::transport::Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The address is a form's sake: the connector knows the way.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
        let channel = channel.map_err(|source| CriError {
            action: "be reached",
            socket: socket.to_owned(),
            source: source.into(),
        })?;
        Ok(Cri { socket: socket.to_owned(), channel })
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(tonic::Status) -> CriError + use<> {
        let socket = self.socket.clone();
        move |status| CriError { action, socket, source: status.into() }
    }

    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone())
    }

    fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone())
    }

    /// The runtime's name and version: the call that shows it is ready.
    pub async fn version(&self) -> Result<(String, String), CriError> {
        let answer = self.runtime().version(v1::VersionRequest { version: "v1".into() }).await;
        let answer = answer.map_err(self.failed("tell its version"))?.into_inner();
        Ok((answer.runtime_name, answer.runtime_version))
    }

    /// The image of that name or id, `None` where it is not there.
    pub async fn image(&self, name: &str) -> Result<Option<ImageInfo>, CriError> {
        let image = v1::ImageSpec { image: name.into(), ..Default::default() };
        let request = v1::ImageStatusRequest { image: Some(image), verbose: false };
        let answer = self.images().image_status(request).await.map_err(self.failed("look up an image"))?;
        Ok(answer.into_inner().image.map(image_info))
    }

    pub async fn list_images(&self) -> Result<Vec<ImageInfo>, CriError> {
        let answer = self.images().list_images(v1::ListImagesRequest { filter: None }).await;
        let answer = answer.map_err(self.failed("list its images"))?;
        Ok(answer.into_inner().images.into_iter().map(image_info).collect())
    }

    /// The ids of all pod sandboxes, running or not.
    pub async fn sandboxes(&self) -> Result<Vec<String>, CriError> {
        let answer = self.runtime().list_pod_sandbox(v1::ListPodSandboxRequest { filter: None }).await;
        let answer = answer.map_err(self.failed("list its pods"))?;
        Ok(answer.into_inner().items.into_iter().map(|s| s.id).collect())
    }

    /// Stops a sandbox's containers, each with `grace`, then takes the sandbox and its network down and removes it.
    pub async fn remove_sandbox(&self, id: &str, grace: Duration) -> Result<(), CriError> {
        let filter = v1::ContainerFilter { pod_sandbox_id: id.into(), ..Default::default() };
        let listed = self.runtime().list_containers(v1::ListContainersRequest { filter: Some(filter) }).await;
        let containers = listed.map_err(self.failed("list its containers"))?.into_inner().containers;
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let mut stops = tokio::task::JoinSet::new();
        for container in containers {
            let mut runtime = self.runtime();
            let request = v1::StopContainerRequest { container_id: container.id, timeout };
            stops.spawn(async move { runtime.stop_container(request).await });
        }
        // What does not stop by itself is killed with its sandbox.
        while stops.join_next().await.is_some() {}
        let stop = v1::StopPodSandboxRequest { pod_sandbox_id: id.into() };
        self.runtime().stop_pod_sandbox(stop).await.map_err(self.failed("stop a pod"))?;
        let remove = v1::RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        self.runtime().remove_pod_sandbox(remove).await.map_err(self.failed("remove a pod"))?;
        Ok(())
    }
}

fn image_info(image: v1::Image) -> ImageInfo {
    ImageInfo { id: image.id, tags: image.repo_tags, digests: image.repo_digests, size_bytes: image.size }
}
