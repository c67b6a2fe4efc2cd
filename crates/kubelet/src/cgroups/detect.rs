//! Which control groups this machine has, and where they are mounted.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The machine's control groups. A machine that mounts both kinds side by side (hybrid) is used as version 1, as upstream
/// and runc do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// Controller (or `name=...`) to mount point; controllers mounted together share one.
    V1 {
        mounts: BTreeMap<String, PathBuf>,
    },
    V2 {
        root: PathBuf,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("no control groups are mounted")]
    NoCgroups,
    /// What pods cannot run without.
    #[error("the {0} cgroup controller is not mounted")]
    Missing(&'static str),
}

/// What upstream refuses to start without on version 1.
const REQUIRED: [&str; 4] = ["cpu", "cpuacct", "cpuset", "memory"];

impl Hierarchy {
    pub fn detect() -> Result<Hierarchy, DetectError> {
        let path = Path::new("/proc/self/mountinfo");
        let text = std::fs::read(path).map_err(|source| DetectError::Read { path: path.into(), source })?;
        // What is not UTF-8 is the name of somebody's mount.
        parse(&String::from_utf8_lossy(&text))
    }
}

/// From the text of `/proc/PID/mountinfo`.
pub fn parse(mountinfo: &str) -> Result<Hierarchy, DetectError> {
    let mut mounts: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut unified: Option<PathBuf> = None;
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let Some(point) = before.split(' ').nth(4) else {
            continue;
        };
        let mut after = after.split(' ');
        match after.next() {
            Some("cgroup2") => {
                let shorter = unified.as_ref().is_none_or(|present| point.len() < present.as_os_str().len());
                if shorter {
                    unified = Some(point.into());
                }
            }
            Some("cgroup") => {
                let options = after.nth(1).unwrap_or_default();
                for controller in options.split(',').filter(|option| is_controller(option)) {
                    // Of several mounts of one controller upstream takes the shortest path.
                    let entry = mounts.entry(controller.to_owned()).or_insert_with(|| point.into());
                    if point.len() < entry.as_os_str().len() {
                        *entry = point.into();
                    }
                }
            }
            _ => {}
        }
    }
    match unified {
        Some(root) if mounts.is_empty() || root == Path::new("/sys/fs/cgroup") => Ok(Hierarchy::V2 { root }),
        _ if mounts.is_empty() => Err(DetectError::NoCgroups),
        _ => match REQUIRED.iter().find(|controller| !mounts.contains_key(**controller)) {
            Some(missing) => Err(DetectError::Missing(missing)),
            None => Ok(Hierarchy::V1 { mounts }),
        },
    }
}

fn is_controller(option: &str) -> bool {
    let known = [
        "cpu",
        "cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "hugetlb",
        "net_cls",
        "net_prio",
        "perf_event",
        "rdma",
        "misc",
    ];
    known.contains(&option) || option.starts_with("name=")
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
25 1 0:23 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
27 25 0:25 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
28 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
29 25 0:27 / /some/other/longer/memory rw shared:3 - cgroup cgroup rw,memory
30 25 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
31 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid_is_version_1() {
        let Ok(Hierarchy::V1 { mounts }) = parse(V1) else { panic!("not version 1") };
        let text: Vec<String> = mounts.iter().map(|(c, p)| format!("{c} {}", p.display())).collect();
        assert_eq!(
            text,
            [
                "cpu /sys/fs/cgroup/cpu,cpuacct",
                "cpuacct /sys/fs/cgroup/cpu,cpuacct",
                "cpuset /sys/fs/cgroup/cpuset",
                "memory /sys/fs/cgroup/memory",
                "name=systemd /sys/fs/cgroup/systemd",
            ]
        );
    }

    #[test]
    fn unified_is_version_2() {
        let text = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(parse(text).ok(), Some(Hierarchy::V2 { root: "/sys/fs/cgroup".into() }));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(matches!(parse("1 1 0:1 / / rw - ext4 /dev/vda rw"), Err(DetectError::NoCgroups)));
        let without: String = V1.lines().filter(|line| !line.contains("memory")).map(|l| format!("{l}\n")).collect();
        assert!(matches!(parse(&without), Err(DetectError::Missing("memory"))));
    }
}
