//! The kubelet: runs the pods bound to one node through CRI, watches them and reports what they do.
//!
//! Cut as every component is: the worker of a pod observes (runtime records, probe results), [`plan::plan_pod`] decides
//! without any I/O, and the worker's executor acts. The API server is reached through `client` alone, the runtime through
//! [`cri::Runtime`] alone.

pub mod access;
pub mod admission;
pub mod allocation;
pub mod certificate;
pub mod cgroups;
pub mod config;
pub mod cri;
pub mod eviction;
pub mod housekeeping;
pub mod images;
mod kubelet;
pub mod manager;
pub mod node;
pub mod objects;
pub mod plan;
pub mod probes;
mod recover;
pub mod references;
mod serve;
pub mod server;
pub mod sources;
pub mod stats;
pub mod status;
pub mod sysctl;
pub mod worker;

pub use access::{AccessError, PodAccess};
pub use kubelet::{Kubelet, KubeletConfig, KubeletError, Serving};
pub use serve::ServeError;
