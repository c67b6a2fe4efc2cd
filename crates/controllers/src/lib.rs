//! kube-controller-manager.

pub mod deployment;
pub mod executor;
pub mod expectations;
pub mod manager;
pub mod plan;
pub mod registry;
pub mod replicaset;
pub mod runtime;
pub mod shared;
pub mod signer;

pub use manager::{ControllerManager, ControllerManagerConfig};
