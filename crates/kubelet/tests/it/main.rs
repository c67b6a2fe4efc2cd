//! The kubelet's parts against the kernel, a stub of the runtime, and real connections.

mod certificates;
mod cgroups;
mod cluster_api;
mod eviction;
mod logs;
mod plan;
mod resize;
mod server;
mod stub_runtime;
