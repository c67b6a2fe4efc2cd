//! Carries cgroup operations out, and takes groups down.

use std::{collections::BTreeSet, fs, io, path::Path, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    CgroupError, CgroupName, Hierarchy,
    plan::{CgroupOp, V2_CONTROLLERS},
};

/// Killed processes need a moment to go; 100 tries are about 5 s.
const REMOVE_TRIES: u32 = 100;
const REMOVE_PAUSE: Duration = Duration::from_millis(50);

pub(super) fn carry_out(op: &CgroupOp) -> Result<(), CgroupError> {
    match op {
        CgroupOp::MakeDir { dir } => match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(CgroupError::io("mkdir", dir)(error)),
            _ => Ok(()),
        },
        CgroupOp::InheritCpuset { dir } => {
            inherit(dir, "cpuset.cpus")?;
            inherit(dir, "cpuset.mems")
        }
        CgroupOp::EnableControllers { dir } => enable_controllers(dir),
        CgroupOp::Write { file, value } => fs::write(file, value).map_err(CgroupError::io("write", file)),
    }
}

fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(CgroupError::io("read", path))
}

fn inherit(dir: &Path, file: &str) -> Result<(), CgroupError> {
    let own = dir.join(file);
    if !read(&own)?.trim().is_empty() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(dir).join(file);
    fs::write(&own, read(&parent)?.trim()).map_err(CgroupError::io("write", own))
}

fn enable_controllers(dir: &Path) -> Result<(), CgroupError> {
    let available = read(&dir.join("cgroup.controllers"))?;
    let control = dir.join("cgroup.subtree_control");
    let enabled = read(&control)?;
    let has = |list: &str, name: &str| list.split_whitespace().any(|item| item == name);
    let missing = V2_CONTROLLERS.iter().filter(|name| has(&available, name) && !has(&enabled, name));
    let text: Vec<String> = missing.map(|name| format!("+{name}")).collect();
    if text.is_empty() {
        return Ok(());
    }
    fs::write(&control, text.join(" ")).map_err(CgroupError::io("write", control))
}

/// Names of the groups below a group's directory; none where it is gone.
pub(super) fn children(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<String> = dirs.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Processes of a group and of all below it.
pub(super) fn processes(dir: &Path) -> BTreeSet<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids: BTreeSet<i32> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    for child in children(dir) {
        pids.extend(processes(&dir.join(child)));
    }
    // 0 is a process of another pid namespace: not ours to kill, and to kill(2) it would mean ourselves.
    pids.retain(|pid| *pid > 0);
    pids
}

pub(super) async fn remove(hierarchy: &Hierarchy, name: &CgroupName) -> Result<(), CgroupError> {
    if name.parts().is_empty() {
        return Err(CgroupError::Name(name.to_string()));
    }
    let dirs = hierarchy.dirs(name);
    let mut left = BTreeSet::new();
    let mut last = None;
    for attempt in 0..REMOVE_TRIES {
        if attempt > 0 {
            tokio::time::sleep(REMOVE_PAUSE).await;
        }
        left = dirs.iter().flat_map(|dir| processes(dir)).collect();
        for pid in left.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            // Gone already is as good as killed; what cannot be killed shows below.
            let _ = kill_process(pid, Signal::KILL);
        }
        last = dirs.iter().filter_map(|dir| remove_dir(dir).err()).next();
        if last.is_none() {
            return Ok(());
        }
    }
    match last {
        Some(error) if left.is_empty() => Err(error),
        _ => Err(CgroupError::Busy { name: name.clone(), pids: left.into_iter().collect() }),
    }
}

/// Children first; only directories can be removed in a cgroup file system.
fn remove_dir(dir: &Path) -> Result<(), CgroupError> {
    for child in children(dir) {
        remove_dir(&dir.join(child))?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CgroupError::io("rmdir", dir)(error)),
        _ => Ok(()),
    }
}
