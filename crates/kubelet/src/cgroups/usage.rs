//! What a control group uses, from the kernel's counters.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use super::{CgroupName, Hierarchy, execute};

/// `None`: the kernel does not tell (the group is gone, or the controller is not there).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time consumed since the group was made.
    pub cpu_nanoseconds: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// Memory less what the kernel could take back without writing (inactive file pages): what eviction and limits look at.
    pub working_set_bytes: Option<u64>,
    pub rss_bytes: Option<u64>,
    pub swap_bytes: Option<u64>,
    /// `None` too where there is no limit.
    pub memory_limit_bytes: Option<u64>,
    pub page_faults: Option<u64>,
    pub major_page_faults: Option<u64>,
    pub processes: Option<u64>,
}

pub(super) fn read(hierarchy: &Hierarchy, name: &CgroupName) -> Usage {
    match hierarchy {
        Hierarchy::V1 { .. } => read_v1(hierarchy, name),
        Hierarchy::V2 { .. } => read_v2(hierarchy, name),
    }
}

fn number(path: PathBuf) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A file of `key value` lines.
fn table(path: PathBuf) -> Option<HashMap<String, u64>> {
    let text = fs::read_to_string(path).ok()?;
    let line = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    Some(text.lines().filter_map(line).collect())
}

fn read_v1(hierarchy: &Hierarchy, name: &CgroupName) -> Usage {
    let mut usage = Usage::default();
    if let Some(dir) = hierarchy.dir("cpuacct", name) {
        usage.cpu_nanoseconds = number(dir.join("cpuacct.usage"));
    }
    if let Some(dir) = hierarchy.dir("memory", name) {
        let stat = table(dir.join("memory.stat")).unwrap_or_default();
        let get = |key: &str| stat.get(key).copied();
        usage.memory_bytes = number(dir.join("memory.usage_in_bytes"));
        usage.working_set_bytes = working_set(usage.memory_bytes, get("total_inactive_file"));
        usage.rss_bytes = get("total_rss");
        usage.swap_bytes = get("total_swap");
        usage.page_faults = get("total_pgfault");
        usage.major_page_faults = get("total_pgmajfault");
        // "No limit" is the largest number of pages, some 2^63.
        usage.memory_limit_bytes = number(dir.join("memory.limit_in_bytes")).filter(|bytes| *bytes < 1 << 62);
    }
    usage.processes = process_count(hierarchy, "pids", name);
    usage
}

fn read_v2(hierarchy: &Hierarchy, name: &CgroupName) -> Usage {
    let Some(dir) = hierarchy.dir("", name) else {
        return Usage::default();
    };
    let cpu = table(dir.join("cpu.stat")).unwrap_or_default();
    let stat = table(dir.join("memory.stat")).unwrap_or_default();
    let get = |key: &str| stat.get(key).copied();
    // The root group has no memory.current; the machine's own figures stand for it.
    let memory = number(dir.join("memory.current")).or_else(|| name.parts().is_empty().then(machine_memory)?);
    Usage {
        cpu_nanoseconds: cpu.get("usage_usec").map(|us| us.saturating_mul(1000)),
        memory_bytes: memory,
        working_set_bytes: working_set(memory, get("inactive_file")),
        rss_bytes: get("anon"),
        swap_bytes: number(dir.join("memory.swap.current")),
        memory_limit_bytes: number(dir.join("memory.max")),
        page_faults: get("pgfault"),
        major_page_faults: get("pgmajfault"),
        processes: process_count(hierarchy, "pids", name),
    }
}

fn working_set(usage: Option<u64>, inactive: Option<u64>) -> Option<u64> {
    Some(usage?.saturating_sub(inactive.unwrap_or(0)))
}

fn machine_memory() -> Option<u64> {
    let info = MemInfo::read()?;
    Some(info.total_bytes.saturating_sub(info.free_bytes))
}

fn process_count(hierarchy: &Hierarchy, controller: &str, name: &CgroupName) -> Option<u64> {
    let dir = hierarchy.dir(controller, name).filter(|dir| dir.is_dir())?;
    number(dir.join("pids.current")).or_else(|| u64::try_from(execute::processes(&dir).len()).ok())
}

/// Any process of a group: what its network namespace is looked at through.
pub(crate) fn any_process(hierarchy: &Hierarchy, name: &CgroupName) -> Option<i32> {
    let dir = hierarchy.dir("memory", name)?;
    execute::processes(&dir).into_iter().next()
}

/// The machine's memory from `/proc/meminfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemInfo {
    pub total_bytes: u64,
    pub free_bytes: u64,
    pub available_bytes: u64,
    pub swap_total_bytes: u64,
    pub swap_free_bytes: u64,
}

impl MemInfo {
    pub fn read() -> Option<MemInfo> {
        Some(MemInfo::parse(&fs::read_to_string(Path::new("/proc/meminfo")).ok()?))
    }

    pub fn parse(text: &str) -> MemInfo {
        let get = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            let kilobytes = value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
            kilobytes.unwrap_or(0).saturating_mul(1024)
        };
        MemInfo {
            total_bytes: get("MemTotal"),
            free_bytes: get("MemFree"),
            available_bytes: get("MemAvailable"),
            swap_total_bytes: get("SwapTotal"),
            swap_free_bytes: get("SwapFree"),
        }
    }
}
