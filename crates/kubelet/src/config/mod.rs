//! From a pod's spec to what the runtime is told: sandbox and container configurations. Pure, but for the environment,
//! whose values come from config maps and secrets.

pub mod container;
pub mod dns;
pub mod env;
pub mod expand;
pub mod names;
pub mod resources;
pub mod sandbox;
pub mod security;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use client::apimachinery::pkg::api::resource::Quantity;

use dns::ResolvConf;

/// What configurations need to know of the node.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    pub node_name: String,
    /// Primary first.
    pub host_ips: Vec<String>,
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    pub host_resolv: ResolvConf,
    /// Upstream's `/var/lib/kubelet`.
    pub root: PathBuf,
    /// Upstream's `/var/log/pods`.
    pub pod_logs: PathBuf,
    /// Upstream's seccompDefault: containers that say nothing run under RuntimeDefault.
    pub seccomp_default: bool,
    /// Kernel parameters that pods may set beside the safe ones: names, and beginnings before a `*`.
    pub allowed_unsafe_sysctls: Vec<String>,
    pub memory_capacity: i64,
    pub allocatable: Arc<BTreeMap<String, Quantity>>,
    /// The kernel has AppArmor switched on; elsewhere profiles are not passed on.
    pub apparmor: bool,
}

/// A spec that cannot be carried out here. The container waits with CreateContainerConfigError.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{0}")]
    Source(#[from] volumes::SourceError),
    #[error("{0}")]
    Field(#[from] volumes::downward::FieldError),
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { kind: &'static str, namespace: String, name: String, key: String },
    #[error("container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})")]
    RunsAsRoot { pod: String, container: String },
    #[error("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {container})")]
    RunAsUserIsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: {pod:?}, container: {container})"
    )]
    NonNumericUser { user: String, pod: String, container: String },
    #[error("variable references undefined variable {0}")]
    UndefinedVariable(String),
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    NoVolume { volume: String, container: String },
    #[error("image volume {0:?} is mounted with a subPath, which is not supported by this node")]
    ImageSubPath(String),
    #[error("block volumes are not supported by this node: container {0:?} wants a device")]
    Devices(String),
    #[error("{0}")]
    Volume(#[from] volumes::VolumeError),
    #[error("pod hostname {0:?} is longer than 63 characters")]
    HostnameTooLong(String),
    #[error("{0}")]
    Cgroup(#[from] crate::cgroups::CgroupError),
    #[error("{what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
}
