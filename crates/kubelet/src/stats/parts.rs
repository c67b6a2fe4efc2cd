//! The pieces a summary is put together from.

use std::{fs, path::Path};

use client::kinds::core::v1::Pod;
use jiff::Timestamp;

use super::{
    files::{DiskUsage, FileSystem},
    network,
    summary::{FsStats, MemoryStats, NetworkStats, RlimitStats},
};
use crate::cgroups::Usage;

pub(super) fn started_at(pod: &Pod, container: &str) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let all = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let statuses = all.into_iter().flat_map(|list| list.iter().flatten());
    let mut named = statuses.filter(|status| status.name == container);
    let state = named.next()?.state.as_ref()?;
    Some(state.running.as_ref()?.started_at.as_ref()?.0)
}

pub(super) fn memory_stats(usage: &Usage, limit: Option<u64>, now: Timestamp) -> MemoryStats {
    MemoryStats {
        time: now,
        available_bytes: limit.zip(usage.working_set_bytes).map(|(limit, used)| limit.saturating_sub(used)),
        usage_bytes: usage.memory_bytes,
        working_set_bytes: usage.working_set_bytes,
        rss_bytes: usage.rss_bytes,
        page_faults: usage.page_faults,
        major_page_faults: usage.major_page_faults,
    }
}

pub(super) fn empty_fs(now: Timestamp) -> FsStats {
    FsStats {
        time: now,
        available_bytes: None,
        capacity_bytes: None,
        used_bytes: None,
        inodes_free: None,
        inodes: None,
        inodes_used: None,
    }
}

pub(super) fn whole(fs: &FileSystem, now: Timestamp) -> FsStats {
    FsStats {
        time: now,
        available_bytes: Some(fs.available_bytes),
        capacity_bytes: Some(fs.capacity_bytes),
        used_bytes: Some(fs.used_bytes),
        inodes_free: Some(fs.inodes_free),
        inodes: Some(fs.inodes),
        inodes_used: Some(fs.inodes.saturating_sub(fs.inodes_free)),
    }
}

pub(super) fn part_of(fs: &FileSystem, usage: &DiskUsage, now: Timestamp) -> FsStats {
    FsStats { used_bytes: Some(usage.bytes), inodes_used: Some(usage.inodes), ..whole(fs, now) }
}

pub(super) fn add(total: &mut DiskUsage, part: &FsStats) {
    total.bytes += part.used_bytes.unwrap_or(0);
    total.inodes += part.inodes_used.unwrap_or(0);
}

pub(super) fn interfaces(net: &Path, now: Timestamp) -> Option<NetworkStats> {
    let interfaces = network::parse(&fs::read_to_string(net.join("dev")).ok()?);
    let routes = fs::read_to_string(net.join("route")).unwrap_or_default();
    let name = network::default_interface(&routes).unwrap_or("eth0");
    let default = interfaces.iter().find(|interface| interface.name == name).cloned();
    Some(NetworkStats { time: now, default, interfaces })
}

pub(super) fn rlimit(now: Timestamp) -> Option<RlimitStats> {
    let maxpid = fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(|text| text.trim().parse().ok());
    // The fourth field is running/all.
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let curproc = load.split_whitespace().nth(3).and_then(|field| field.split_once('/')?.1.parse().ok());
    Some(RlimitStats { time: now, maxpid, curproc })
}
