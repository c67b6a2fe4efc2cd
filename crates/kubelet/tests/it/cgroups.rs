//! Pod cgroups on the real kernel, below a root of the test's own.

use std::{
    fs,
    process::{Child, Command},
};

use client::kinds::core::v1::Pod;
use kubelet::cgroups::{CgroupName, Cgroups, Enforcement, Hierarchy, Resources};

fn pod(uid: &str, resources: &str) -> Pod {
    let text =
        format!(r#"{{"metadata":{{"uid":"{uid}"}},"spec":{{"containers":[{{"name":"c","resources":{resources}}}]}}}}"#);
    serde_json::from_str(&text).expect("pod")
}

/// A file of a group, in the words of version 1; `None` on version 2 where it is called otherwise.
fn value(cgroups: &Cgroups, controller: &str, name: &CgroupName, v1: &str, v2: &str) -> String {
    let file = match cgroups.hierarchy() {
        Hierarchy::V1 { .. } => v1,
        Hierarchy::V2 { .. } => v2,
    };
    let path = cgroups.hierarchy().dir(controller, name).expect("controller").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

fn sleeper_in(cgroups: &Cgroups, name: &CgroupName) -> Child {
    let child = Command::new("sleep").arg("600").spawn().expect("sleep");
    for controller in ["memory", "cpu", "cpuset", "pids"] {
        if let Some(dir) = cgroups.hierarchy().dir(controller, name) {
            fs::write(dir.join("cgroup.procs"), child.id().to_string()).expect("move process");
        }
    }
    child
}

#[tokio::test]
async fn pods_get_their_groups_and_leave_nothing() {
    let root = format!("argosy-test-{}", std::process::id());
    let cgroups = Cgroups::new(Hierarchy::detect().expect("cgroups"), &root).expect("root");
    cgroups.set_up(Resources { cpu_shares: Some(2048), ..Resources::default() }).await.expect("set up");
    cgroups.set_up(Resources::default()).await.expect("set up again");
    let v1 = matches!(cgroups.hierarchy(), Hierarchy::V1 { .. });
    let shares = |name: &CgroupName| value(&cgroups, "cpu", name, "cpu.shares", "cpu.weight");
    assert_eq!(shares(&cgroups.kubepods()), if v1 { "2048" } else { "170" });

    let limits = r#"{"requests":{"cpu":"100m","memory":"32Mi"},"limits":{"cpu":"200m","memory":"64Mi"}}"#;
    let burstable = pod("b1", limits);
    let enforce = Enforcement { pids: Some(50), ..Enforcement::default() };
    let name = cgroups.create_pod(&burstable, &enforce).await.expect("pod");
    assert_eq!(name.to_string(), format!("/{root}/kubepods/burstable/podb1"));
    assert!(cgroups.exists(&name));
    assert_eq!(value(&cgroups, "memory", &name, "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    assert_eq!(value(&cgroups, "pids", &name, "pids.max", "pids.max"), "50");
    if v1 {
        assert_eq!(shares(&name), "102");
        assert_eq!(value(&cgroups, "cpu", &name, "cpu.cfs_quota_us", ""), "20000");
        let parent = value(&cgroups, "cpuset", &CgroupName::root(), "cpuset.cpus", "");
        assert_eq!(value(&cgroups, "cpuset", &name, "cpuset.cpus", ""), parent);
    }
    let best_effort = pod("e1", "{}");
    let other = cgroups.create_pod(&best_effort, &enforce).await.expect("pod");
    assert_eq!(other.to_string(), format!("/{root}/kubepods/besteffort/pode1"));
    let on_node: Vec<String> = cgroups.pods_on_node().into_iter().map(|(uid, _)| uid).collect();
    assert_eq!(on_node, ["b1", "e1"]);
    cgroups.update_qos(512).await.expect("weight of the class");

    let mut sleeper = sleeper_in(&cgroups, &name);
    let usage = cgroups.usage(&name);
    assert_eq!((usage.processes, usage.memory_limit_bytes), (Some(1), Some(64 << 20)));
    assert!(usage.memory_bytes.is_some() && usage.working_set_bytes <= usage.memory_bytes, "{usage:?}");
    // Reaps the child while it is being killed: a zombie keeps no group busy, but would stay.
    let reaper = std::thread::spawn(move || sleeper.wait().expect("wait"));
    cgroups.remove(&name).await.expect("remove with a process inside");
    assert!(!reaper.join().expect("reaper").success(), "the process was killed");
    assert!(!cgroups.exists(&name));
    cgroups.remove(&name).await.expect("gone already");
    cgroups.remove(&CgroupName::parse(&root).expect("root")).await.expect("all of it");
    assert!(cgroups.pods_on_node().is_empty());
    assert!(cgroups.remove(&CgroupName::root()).await.is_err(), "never the machine's own root");
}
