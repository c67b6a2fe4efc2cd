//! What a cluster can leave on a machine, looked for by its own traces.

use std::{fs, path::Path, process::Command};

use crate::harness::Cluster;

/// Everything of the cluster that is still there, one line each.
pub fn traces(cluster: &Cluster) -> Vec<String> {
    let dir = cluster.dir.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for (pid, line) in processes() {
        if line.contains(&dir) {
            found.push(format!("process {pid}: {line}"));
        }
    }
    // Network namespaces of pods are mounts below the data folder.
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    found.extend(mounts.lines().filter(|line| line.contains(&dir)).map(|line| format!("mount {line}")));
    let tables = run("nft", &["list", "tables"]);
    let instance = cluster.instance();
    found.extend(tables.lines().filter(|line| line.ends_with(&format!("-{instance}"))).map(str::to_owned));
    let routes = run("ip", &["route", "show"]);
    let pods = format!("10.{}.", 200 + cluster.number);
    found.extend(routes.lines().filter(|line| line.starts_with(&pods)).map(|line| format!("route {line}")));
    for folder in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let own = folder.path().join(format!("argosy-{instance}"));
        if own.exists() {
            found.push(format!("cgroup {}", own.display()));
        }
    }
    let nat = run("iptables-save", &["-t", "nat"]);
    found.extend(nat.lines().filter(|line| line.contains(&pods)).map(|line| format!("iptables {line}")));
    found
}

/// Folders of a pod's cgroups, in every hierarchy.
pub fn cgroups_of(uid: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                if path.to_string_lossy().contains(uid) {
                    found.push(path.to_string_lossy().into_owned());
                } else {
                    folders.push(path);
                }
            }
        }
    }
    found
}

fn processes() -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
    })
    .collect()
}

/// The standard output of a program that must be there; what it fails with is no trace.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
