//! The mounts of a container, and the files of the kubelet's own among them: /etc/hosts and the termination log.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use client::kinds::core::v1::{Container, Pod};
use k8s_cri::v1::Mount;
use volumes::{PodMounts, SubPath};

use super::Node;
use crate::config::{ConfigError, container, dns, env::Env, names};

pub(super) struct Mounts<'a> {
    pub node: &'a Node,
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub mounts: &'a PodMounts,
    /// Ids of images that are volumes, by the volumes' names.
    pub images: &'a BTreeMap<String, String>,
    pub env: &'a Env,
    pub ips: &'a [String],
    pub attempt: u32,
}

impl Mounts<'_> {
    pub async fn make(&self) -> Result<Vec<Mount>, ConfigError> {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        let mut all = Vec::new();
        for (index, mount) in self.container.volume_mounts.iter().flatten().enumerate() {
            if let Some(image) = self.images.get(&mount.name) {
                all.push(container::image_mount(mount, image)?);
                continue;
            }
            let host_path = match container::sub_path(mount, self.env)? {
                None => None,
                Some(sub_path) => {
                    let request = SubPath {
                        pod_uid: uid,
                        container: &self.container.name,
                        index,
                        volume: &mount.name,
                        sub_path: &sub_path,
                    };
                    Some(self.node.volumes.sub_path(self.mounts, request).await?)
                }
            };
            all.push(container::volume_mount(self.container, mount, self.mounts, host_path)?);
        }
        let home = self.node.facts().root.join("pods").join(uid);
        if !all.iter().any(|mount| mount.container_path == "/etc/hosts") {
            all.push(container::file_mount(&self.hosts(&home).await?, "/etc/hosts"));
        }
        let path = self.container.termination_message_path.as_deref().filter(|path| !path.is_empty());
        if let Some(path) = path {
            all.push(container::file_mount(&self.termination_log(&home).await?, path));
        }
        Ok(all)
    }

    async fn hosts(&self, home: &Path) -> Result<PathBuf, ConfigError> {
        let facts = self.node.facts();
        let (host, domain) = dns::hostname(self.pod, &facts)?;
        let node_hosts = tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
        let text = dns::hosts(self.pod, self.ips, &host, domain.as_deref(), &node_hosts);
        write(&home.join("etc-hosts"), &text, 0o644).await
    }

    async fn termination_log(&self, home: &Path) -> Result<PathBuf, ConfigError> {
        let dir = home.join("containers").join(&self.container.name);
        write(&dir.join(self.attempt.to_string()), "", 0o666).await
    }
}

/// In one go off the async threads: every hop there and back is felt in the time a pod takes to start.
async fn write(path: &Path, text: &str, mode: u32) -> Result<PathBuf, ConfigError> {
    let failed = |source| ConfigError::Io { what: "cannot write", path: path.to_owned(), source };
    let (owned, text) = (path.to_owned(), text.to_owned());
    let work = move || {
        if let Some(dir) = owned.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(&owned, text)?;
        std::fs::set_permissions(&owned, std::fs::Permissions::from_mode(mode))
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| failed(std::io::ErrorKind::Interrupted.into()))?.map_err(failed)?;
    Ok(path.to_owned())
}

/// Where the runtime has no record of a container but its logs show that there were instances.
pub(super) async fn attempt_on_disk(dir: &Path) -> u32 {
    let Ok(mut entries) = tokio::fs::read_dir(dir).await else { return 0 };
    let mut files = Vec::new();
    while let Ok(Some(entry)) = entries.next_entry().await {
        files.push(entry.file_name().to_string_lossy().into_owned());
    }
    names::attempt_from_logs(files.into_iter())
}
