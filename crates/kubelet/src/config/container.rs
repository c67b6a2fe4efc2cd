//! The configuration of one container instance (upstream `kuberuntime_container.go: generateContainerConfig`).

use std::path::{Path, PathBuf};

use client::kinds::core::v1::{Container, Pod, VolumeMount};
use k8s_cri::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, Mount, MountPropagation,
};
use volumes::PodMounts;

use super::{
    ConfigError, NodeFacts,
    env::Env,
    expand::{expand, first_undefined},
    names, resources, security,
};

/// What a container's configuration is made of, beside its spec.
pub struct Parts<'a> {
    pub node: &'a NodeFacts,
    pub env: &'a Env,
    /// The runtime's reference of the image that was found or pulled.
    pub image_ref: &'a str,
    pub attempt: u32,
    pub mounts: Vec<Mount>,
    /// For an ephemeral container: the id of the container whose processes it sees.
    pub target: Option<&'a str>,
}

pub fn config(pod: &Pod, container: &Container, parts: Parts<'_>) -> Result<ContainerConfig, ConfigError> {
    if container.volume_devices.as_ref().is_some_and(|devices| !devices.is_empty()) {
        return Err(ConfigError::Devices(container.name.clone()));
    }
    let words = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|word| expand(word, |name| parts.env.get(name))).collect()
    };
    let envs = parts.env.iter().map(|(key, value)| KeyValue { key: key.to_owned(), value: value.to_owned() });
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: container.name.clone(), attempt: parts.attempt }),
        image: Some(ImageSpec {
            image: parts.image_ref.to_owned(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..ImageSpec::default()
        }),
        command: words(&container.command),
        args: words(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: envs.collect(),
        labels: names::container_labels(pod, container),
        annotations: names::container_annotations(pod, container, parts.attempt),
        log_path: names::log_path(&container.name, parts.attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources::linux(pod, container, parts.node.memory_capacity)),
            security_context: Some(security::container(pod, container, parts.target, parts.node)),
        }),
        mounts: parts.mounts,
        ..ContainerConfig::default()
    })
}

/// The sub path a mount names, with its variables replaced; `None`: the whole volume.
pub fn sub_path(mount: &VolumeMount, env: &Env) -> Result<Option<String>, ConfigError> {
    if let Some(expression) = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty()) {
        let lookup = |name: &str| env.get(name);
        if let Some(name) = first_undefined(expression, lookup) {
            return Err(ConfigError::UndefinedVariable(name));
        }
        return Ok(Some(expand(expression, lookup)));
    }
    Ok(mount.sub_path.clone().filter(|path| !path.is_empty()))
}

/// A volume mount as CRI takes it; `host_path` is the volume, or what its sub path was bound to.
pub fn volume_mount(
    container: &Container,
    mount: &VolumeMount,
    mounts: &PodMounts,
    host_path: Option<PathBuf>,
) -> Result<Mount, ConfigError> {
    let volume = mounts
        .volumes
        .get(&mount.name)
        .ok_or_else(|| ConfigError::NoVolume { volume: mount.name.clone(), container: container.name.clone() })?;
    let readonly = mount.read_only.unwrap_or(false) || volume.read_only;
    let recursive = matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
    Ok(Mount {
        // A relative path is one below the root, as upstream takes it.
        container_path: Path::new("/").join(&mount.mount_path).to_string_lossy().into_owned(),
        host_path: host_path.unwrap_or_else(|| volume.host_path.clone()).to_string_lossy().into_owned(),
        readonly,
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => MountPropagation::PropagationHostToContainer as i32,
            Some("Bidirectional") => MountPropagation::PropagationBidirectional as i32,
            _ => MountPropagation::PropagationPrivate as i32,
        },
        recursive_read_only: readonly && recursive,
        ..Mount::default()
    })
}

/// A volume that is an image: the runtime mounts it, read-only (containerd 2.1 and newer; older ones fail to make the
/// container).
pub fn image_mount(mount: &VolumeMount, image: &str) -> Result<Mount, ConfigError> {
    let has = |path: &Option<String>| path.as_deref().is_some_and(|path| !path.is_empty());
    if has(&mount.sub_path) || has(&mount.sub_path_expr) {
        return Err(ConfigError::ImageSubPath(mount.name.clone()));
    }
    Ok(Mount {
        container_path: Path::new("/").join(&mount.mount_path).to_string_lossy().into_owned(),
        image: Some(ImageSpec { image: image.to_owned(), ..ImageSpec::default() }),
        readonly: true,
        ..Mount::default()
    })
}

/// A file of the kubelet's own (/etc/hosts, the termination log) mounted into the container.
pub fn file_mount(host_path: &Path, container_path: &str) -> Mount {
    Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.to_string_lossy().into_owned(),
        ..Mount::default()
    }
}
