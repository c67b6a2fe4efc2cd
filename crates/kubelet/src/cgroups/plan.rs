//! What making or changing a control group takes, as a list that prints. Pure.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use super::{CgroupName, Hierarchy, Resources, math::shares_to_weight};

/// The controllers of version 2 that pods use.
pub const V2_CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "hugetlb", "memory", "pids"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupOp {
    /// Nothing where it exists.
    MakeDir {
        dir: PathBuf,
    },
    /// Version 1: a new cpuset is empty and takes no process until its cpus and mems are filled in, from its parent.
    InheritCpuset {
        dir: PathBuf,
    },
    /// Version 2: hands the controllers that are there on to the children.
    EnableControllers {
        dir: PathBuf,
    },
    Write {
        file: PathBuf,
        value: String,
    },
}

/// Makes `name` with all its parents, then sets `resources`. Every step may be repeated.
pub fn plan_create(hierarchy: &Hierarchy, name: &CgroupName, resources: &Resources) -> Vec<CgroupOp> {
    let mut ops = Vec::new();
    match hierarchy {
        Hierarchy::V1 { mounts } => {
            let roots: BTreeSet<_> = mounts.values().collect();
            for root in roots {
                let is_cpuset = mounts.get("cpuset") == Some(root);
                let mut dir = root.clone();
                for part in name.parts() {
                    dir.push(part);
                    ops.push(CgroupOp::MakeDir { dir: dir.clone() });
                    if is_cpuset {
                        ops.push(CgroupOp::InheritCpuset { dir: dir.clone() });
                    }
                }
            }
        }
        Hierarchy::V2 { root } => {
            let mut dir = root.clone();
            for part in name.parts() {
                ops.push(CgroupOp::EnableControllers { dir: dir.clone() });
                dir.push(part);
                ops.push(CgroupOp::MakeDir { dir: dir.clone() });
            }
        }
    }
    ops.extend(plan_update(hierarchy, name, resources));
    ops
}

/// Sets what `resources` names; what it leaves out stays as it is.
pub fn plan_update(hierarchy: &Hierarchy, name: &CgroupName, resources: &Resources) -> Vec<CgroupOp> {
    let values = match hierarchy {
        Hierarchy::V1 { .. } => v1_values(resources),
        Hierarchy::V2 { .. } => v2_values(resources),
    };
    let write = |(controller, file, value): (&str, &str, String)| {
        let dir = hierarchy.dir(controller, name)?;
        Some(CgroupOp::Write { file: dir.join(file), value })
    };
    values.into_iter().filter_map(write).collect()
}

type Value = (&'static str, &'static str, String);

fn v1_values(resources: &Resources) -> Vec<Value> {
    let mut values = Vec::new();
    if let Some(shares) = resources.cpu_shares {
        values.push(("cpu", "cpu.shares", shares.to_string()));
    }
    if let Some(period) = resources.cpu_period_us {
        values.push(("cpu", "cpu.cfs_period_us", period.to_string()));
    }
    if let Some(quota) = resources.cpu_quota_us {
        // Zero is "no quota" here, -1 in the kernel.
        values.push(("cpu", "cpu.cfs_quota_us", if quota > 0 { quota } else { -1 }.to_string()));
    }
    if let Some(memory) = resources.memory_bytes {
        values.push(("memory", "memory.limit_in_bytes", memory.to_string()));
    }
    if let Some(pids) = resources.pids {
        values.push(("pids", "pids.max", pids.to_string()));
    }
    values
}

fn v2_values(resources: &Resources) -> Vec<Value> {
    let mut values = Vec::new();
    if let Some(shares) = resources.cpu_shares {
        values.push(("cpu", "cpu.weight", shares_to_weight(shares).to_string()));
    }
    if let Some(quota) = resources.cpu_quota_us {
        let period = resources.cpu_period_us.unwrap_or(super::math::QUOTA_PERIOD_US);
        let quota = if quota > 0 { quota.to_string() } else { "max".into() };
        values.push(("cpu", "cpu.max", format!("{quota} {period}")));
    }
    if let Some(memory) = resources.memory_bytes {
        let memory = if memory > 0 { memory.to_string() } else { "max".into() };
        values.push(("memory", "memory.max", memory));
    }
    if let Some(pids) = resources.pids {
        values.push(("pids", "pids.max", pids.to_string()));
    }
    values
}

impl fmt::Display for CgroupOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CgroupOp::MakeDir { dir } => write!(f, "mkdir {}", dir.display()),
            CgroupOp::InheritCpuset { dir } => write!(f, "inherit cpuset {}", dir.display()),
            CgroupOp::EnableControllers { dir } => {
                write!(f, "enable controllers {}", dir.display())
            }
            CgroupOp::Write { file, value } => write!(f, "write {} {value}", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ops: &[CgroupOp]) -> String {
        ops.iter().map(|op| format!("{op}\n")).collect()
    }

    fn pod() -> (CgroupName, Resources) {
        let name = CgroupName::root().child("kubepods").and_then(|n| n.child("podu1")).expect("name");
        let resources = Resources {
            cpu_shares: Some(1024),
            cpu_quota_us: Some(50_000),
            cpu_period_us: Some(100_000),
            memory_bytes: Some(1 << 20),
            pids: Some(100),
        };
        (name, resources)
    }

    #[test]
    fn version_1() {
        let mounts = [("cpu", "/c/cpu"), ("cpuacct", "/c/cpu"), ("cpuset", "/c/cpuset"), ("memory", "/c/memory")];
        let hierarchy = Hierarchy::V1 { mounts: mounts.map(|(c, p)| (c.to_owned(), p.into())).into() };
        let (name, resources) = pod();
        // No pids controller is mounted, so its limit cannot be set.
        let expect = "\
mkdir /c/cpu/kubepods
mkdir /c/cpu/kubepods/podu1
mkdir /c/cpuset/kubepods
inherit cpuset /c/cpuset/kubepods
mkdir /c/cpuset/kubepods/podu1
inherit cpuset /c/cpuset/kubepods/podu1
mkdir /c/memory/kubepods
mkdir /c/memory/kubepods/podu1
write /c/cpu/kubepods/podu1/cpu.shares 1024
write /c/cpu/kubepods/podu1/cpu.cfs_period_us 100000
write /c/cpu/kubepods/podu1/cpu.cfs_quota_us 50000
write /c/memory/kubepods/podu1/memory.limit_in_bytes 1048576
";
        assert_eq!(text(&plan_create(&hierarchy, &name, &resources)), expect);
    }

    #[test]
    fn version_2() {
        let (name, resources) = pod();
        let expect = "\
enable controllers /c
mkdir /c/kubepods
enable controllers /c/kubepods
mkdir /c/kubepods/podu1
write /c/kubepods/podu1/cpu.weight 100
write /c/kubepods/podu1/cpu.max 50000 100000
write /c/kubepods/podu1/memory.max 1048576
write /c/kubepods/podu1/pids.max 100
";
        assert_eq!(text(&plan_create(&Hierarchy::V2 { root: "/c".into() }, &name, &resources)), expect);
    }
}
