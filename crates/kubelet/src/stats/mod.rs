//! What the node, its pods and their containers use (upstream `pkg/kubelet/server/stats`, `pkg/kubelet/stats`): control
//! groups and `/proc` for the node and pods, CRI for containers, the file systems for storage.

mod collect;
mod files;
mod network;
mod parts;
mod rates;
pub mod summary;

pub use collect::{StatsCollector, StatsConfig, StatsError};
pub use files::{DiskUsage, FileSystem, disk_usage, file_system};
pub use summary::Summary;
