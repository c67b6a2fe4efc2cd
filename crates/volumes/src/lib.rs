//! Pod volumes of a node: what a pod's volumes need (plan), done on the kernel (execute), in upstream's layout on disk
//! (`ROOT/pods/UID/volumes/kubernetes.io~PLUGIN/NAME`).
//!
//! [`VolumeManager::set_up`] collects content through an [`ObjectSource`], observes mounts, makes a pure, printable
//! [`plan`](plan::plan_pod) and carries it out. Every step can be repeated: what is already there is left alone.
//!
//! Also here, because volumes and the kubelet both need them: pod resources and QoS ([`resources`]) and the downward API
//! ([`downward`]).

pub mod atomic;
pub mod collect;
pub mod downward;
mod error;
mod execute;
pub mod host_path;
mod inline;
pub mod layout;
mod manager;
pub mod mount;
mod nested;
pub mod ownership;
pub mod payload;
pub mod plan;
pub mod resources;
mod source;
pub mod subpath;
mod tokens;

pub use error::{Cause, VolumeError};
pub use layout::Layout;
pub use manager::{MountedVolume, PodMounts, SubPath, VolumeConfig, VolumeManager};
pub use mount::{KernelMounter, Mounter, RecordingMounter};
pub use source::{ObjectSource, SourceError, Token, TokenQuery};
