//! Cells that take more than a path, by area. Each is named for what it shows.

mod network;
mod policy;
mod workload;

pub(super) use network::*;
pub(super) use policy::*;
pub(super) use workload::*;
