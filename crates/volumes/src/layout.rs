//! Where everything lies on disk; the same places as upstream's kubelet, so that one can take over the other's node.

use std::path::{Component, Path, PathBuf};

use crate::Cause;

/// Upstream's plugin names as directories: `kubernetes.io/empty-dir` with the slash escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plugin {
    EmptyDir,
    ConfigMap,
    Secret,
    DownwardApi,
    Projected,
    HostPath,
    Local,
}

impl Plugin {
    pub fn dir(self) -> &'static str {
        match self {
            Plugin::EmptyDir => "kubernetes.io~empty-dir",
            Plugin::ConfigMap => "kubernetes.io~configmap",
            Plugin::Secret => "kubernetes.io~secret",
            Plugin::DownwardApi => "kubernetes.io~downward-api",
            Plugin::Projected => "kubernetes.io~projected",
            Plugin::HostPath => "kubernetes.io~host-path",
            Plugin::Local => "kubernetes.io~local-volume",
        }
    }

    /// Whether the directory's content is the kubelet's or the pod's own, and goes with the pod. Of all others only empty
    /// mount points may be removed.
    pub fn owns_content(dir: &str) -> bool {
        [Plugin::EmptyDir, Plugin::ConfigMap, Plugin::Secret, Plugin::DownwardApi, Plugin::Projected]
            .iter()
            .any(|plugin| plugin.dir() == dir)
    }
}

/// The kubelet's root directory (`--root-dir`, upstream's default `/var/lib/kubelet`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: impl Into<PathBuf>) -> Layout {
        Layout { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    pub fn pod(&self, uid: &str) -> Result<PathBuf, Cause> {
        Ok(self.pods().join(file_name(uid)?))
    }

    pub fn volumes(&self, uid: &str) -> Result<PathBuf, Cause> {
        Ok(self.pod(uid)?.join("volumes"))
    }

    pub fn volume(&self, uid: &str, plugin: Plugin, name: &str) -> Result<PathBuf, Cause> {
        Ok(self.volumes(uid)?.join(plugin.dir()).join(file_name(name)?))
    }

    /// Where plugins keep what they must remember of a pod's volumes.
    pub fn plugins(&self, uid: &str) -> Result<PathBuf, Cause> {
        Ok(self.pod(uid)?.join("plugins"))
    }

    /// Says that a volume was once set up completely (upstream `volumeutil.SetReady`).
    pub fn ready_marker(&self, uid: &str, volume: &str) -> Result<PathBuf, Cause> {
        Ok(self.plugins(uid)?.join(Plugin::EmptyDir.dir()).join(file_name(volume)?).join("ready"))
    }

    pub fn sub_paths(&self, uid: &str) -> Result<PathBuf, Cause> {
        Ok(self.pod(uid)?.join("volume-subpaths"))
    }

    /// The mount point of one container's volume mount with a subPath; `index` is its place in `volumeMounts`.
    pub fn sub_path(&self, uid: &str, volume: &str, container: &str, index: usize) -> Result<PathBuf, Cause> {
        let dir = self.sub_paths(uid)?.join(file_name(volume)?).join(file_name(container)?);
        Ok(dir.join(index.to_string()))
    }
}

/// `name` where it is exactly one component of a path.
fn file_name(name: &str) -> Result<&str, Cause> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name && !name.contains('\0') => Ok(name),
        _ => Err(Cause::Name(name.to_owned())),
    }
}
