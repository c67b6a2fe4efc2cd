//! A runtime that has container stats and reopens logs, and offers nothing else.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use async_trait::async_trait;
use kubelet::cri::{Result, Runtime, RuntimeError, RuntimeEvents, v1};

#[derive(Default)]
pub struct StubRuntime {
    pub stats: Vec<v1::ContainerStats>,
    /// Container to the log it makes anew when told to; any other container is not known.
    pub logs: HashMap<String, PathBuf>,
}

fn none<T>() -> Result<T> {
    Err(RuntimeError::Unimplemented { message: "not offered by the stub".into() })
}

#[async_trait]
impl Runtime for StubRuntime {
    async fn list_container_stats(&self) -> Result<Vec<v1::ContainerStats>> {
        Ok(self.stats.clone())
    }

    async fn reopen_container_log(&self, id: &str) -> Result<()> {
        let missing = || RuntimeError::NotFound { message: format!("no container {id}") };
        let path = self.logs.get(id).ok_or_else(missing)?;
        std::fs::File::create(path).map(drop).map_err(|_| missing())
    }

    async fn image_fs_info(&self) -> Result<Vec<v1::FilesystemUsage>> {
        let id = v1::FilesystemIdentifier { mountpoint: "/".into() };
        let used_bytes = Some(v1::UInt64Value { value: 42 });
        Ok(vec![v1::FilesystemUsage { fs_id: Some(id), used_bytes, ..Default::default() }])
    }

    async fn version(&self) -> Result<v1::VersionResponse> {
        none()
    }
    async fn status(&self) -> Result<v1::StatusResponse> {
        none()
    }
    async fn update_pod_cidr(&self, _: &str) -> Result<()> {
        none()
    }
    async fn run_pod_sandbox(&self, _: &v1::PodSandboxConfig, _: &str) -> Result<String> {
        none()
    }
    async fn stop_pod_sandbox(&self, _: &str) -> Result<()> {
        none()
    }
    async fn remove_pod_sandbox(&self, _: &str) -> Result<()> {
        none()
    }
    async fn pod_sandbox_status(&self, _: &str) -> Result<v1::PodSandboxStatus> {
        none()
    }
    async fn list_pod_sandboxes(&self) -> Result<Vec<v1::PodSandbox>> {
        none()
    }
    async fn create_container(&self, _: &str, _: &v1::ContainerConfig, _: &v1::PodSandboxConfig) -> Result<String> {
        none()
    }
    async fn start_container(&self, _: &str) -> Result<()> {
        none()
    }
    async fn stop_container(&self, _: &str, _: Duration) -> Result<()> {
        none()
    }
    async fn remove_container(&self, _: &str) -> Result<()> {
        none()
    }
    async fn list_containers(&self) -> Result<Vec<v1::Container>> {
        none()
    }
    async fn container_status(&self, _: &str) -> Result<v1::ContainerStatus> {
        none()
    }
    async fn update_container_resources(&self, _: &str, _: &v1::LinuxContainerResources) -> Result<()> {
        none()
    }
    async fn exec_sync(&self, _: &str, _: &[String], _: Duration) -> Result<v1::ExecSyncResponse> {
        none()
    }
    async fn exec(&self, _: v1::ExecRequest) -> Result<String> {
        none()
    }
    async fn attach(&self, _: v1::AttachRequest) -> Result<String> {
        none()
    }
    async fn port_forward(&self, _: &str, _: Vec<i32>) -> Result<String> {
        none()
    }
    async fn list_pod_sandbox_stats(&self) -> Result<Vec<v1::PodSandboxStats>> {
        none()
    }
    async fn list_images(&self) -> Result<Vec<v1::Image>> {
        none()
    }
    async fn image_status(&self, _: &str) -> Result<Option<v1::Image>> {
        none()
    }
    async fn pull_image(&self, _: &str, _: Option<v1::AuthConfig>, _: Option<&v1::PodSandboxConfig>) -> Result<String> {
        none()
    }
    async fn remove_image(&self, _: &str) -> Result<()> {
        none()
    }
    async fn events(&self) -> Result<RuntimeEvents> {
        none()
    }
}
