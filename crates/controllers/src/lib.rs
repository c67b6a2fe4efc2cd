//! kube-controller-manager.

pub mod aggregation;
pub mod certificates;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod discovery;
pub mod disruption;
pub mod endpoints;
pub mod executor;
pub mod expectations;
pub mod garbage;
pub mod job;
pub mod manager;
pub mod metadata;
pub mod namespace;
pub mod namespace_content;
pub mod node;
pub mod plan;
pub mod quota;
pub mod registry;
pub mod replicaset;
pub mod runtime;
pub mod shared;
pub mod signer;
pub mod statefulset;
pub mod volume;

pub use manager::{ControllerManager, ControllerManagerConfig};
