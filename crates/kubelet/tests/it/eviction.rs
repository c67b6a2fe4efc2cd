//! Eviction: the order in which pods go, what they are told, limits of their own, and whom a node under pressure takes.

use std::{collections::BTreeSet, sync::Arc};

use api::quantity::{Format, Quantity};
use client::kinds::core::v1::Pod;
use jiff::Timestamp;
use kubelet::{
    admission,
    eviction::{
        config::{EvictionConfig, Signal},
        local,
        plan::{Condition, Observation, Observations, State, plan},
        rank::{Usage, message, rank},
    },
    stats::summary::{ContainerStats, FsStats, MemoryStats, PodReference, PodStats, ProcessStats, VolumeStats},
};
use serde_json::{Value, json};

fn pod(name: &str, priority: i32, spec: Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"priority": priority, "containers": [{"name": "main"}]},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn asks(memory: &str) -> Value {
    json!({"containers": [{"name": "main", "resources": {"requests": {"memory": memory, "ephemeral-storage": memory}}}]})
}

fn fs(mebibytes: u64) -> FsStats {
    FsStats {
        time: Timestamp::UNIX_EPOCH,
        available_bytes: None,
        capacity_bytes: None,
        used_bytes: Some(mebibytes << 20),
        inodes_free: None,
        inodes: None,
        inodes_used: Some(mebibytes),
    }
}

/// Usage in MiB (and processes): memory, root file system, logs, volume `data`.
fn stats(name: &str, [memory, root, logs, volume]: [u64; 4]) -> (String, PodStats) {
    let memory = MemoryStats {
        time: Timestamp::UNIX_EPOCH,
        available_bytes: None,
        usage_bytes: None,
        working_set_bytes: Some(memory << 20),
        rss_bytes: None,
        page_faults: None,
        major_page_faults: None,
    };
    let container = ContainerStats {
        name: "main".into(),
        start_time: Timestamp::UNIX_EPOCH,
        cpu: None,
        memory: Some(memory),
        rootfs: Some(fs(root)),
        logs: Some(fs(logs)),
        swap: None,
    };
    let pod = PodStats {
        pod_ref: PodReference { name: name.into(), namespace: "default".into(), uid: name.into() },
        start_time: Timestamp::UNIX_EPOCH,
        containers: vec![container],
        cpu: None,
        memory: Some(memory),
        network: None,
        volumes: vec![VolumeStats { fs: fs(volume), name: "data".into() }],
        ephemeral_storage: Some(fs(root + logs + volume)),
        process_stats: Some(ProcessStats { process_count: memory.working_set_bytes.map(|bytes| bytes >> 20) }),
        swap: None,
    };
    (name.to_owned(), pod)
}

#[test]
fn pods_go_in_upstreams_order() {
    let data = json!({"volumes": [{"name": "data", "emptyDir": {}}]});
    let pods = [
        pod("within", 0, asks("100Mi")),
        pod("over", 0, asks("10Mi")),
        pod("far-over", 0, json!({})),
        pod("over-but-important", 1000, json!({})),
        pod("on-disk", 0, data),
        pod("unknown", 1000, json!({})),
    ];
    let usage: Usage = [
        stats("within", [99, 10, 0, 0]),
        stats("over", [60, 20, 20, 0]),
        stats("far-over", [70, 50, 1, 0]),
        stats("over-but-important", [200, 100, 5, 0]),
        stats("on-disk", [1, 5, 2, 90]),
    ]
    .into();
    for (signal, dedicated, expect) in [
        (Signal::MemoryAvailable, false, "unknown far-over over on-disk over-but-important within"),
        (Signal::NodeFsAvailable, false, "unknown on-disk far-over over over-but-important within"),
        // With an image file system of its own, the node's holds logs and volumes, the other one the writable layers.
        (Signal::NodeFsAvailable, true, "unknown on-disk over far-over over-but-important within"),
        (Signal::ImageFsAvailable, true, "unknown far-over over on-disk over-but-important within"),
        (Signal::PidAvailable, false, "within far-over over on-disk over-but-important unknown"),
    ] {
        let ranked = rank(&pods, &usage, signal, dedicated);
        let names: Vec<&str> = ranked.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
        assert_eq!(names.join(" "), expect, "{signal}, dedicated: {dedicated}");
    }
}

#[test]
fn evicted_pods_are_told_upstreams_words() {
    let observations: Observations = [(
        Signal::MemoryAvailable,
        Observation {
            available: Quantity::new(93 << 20, Format::BinarySI),
            capacity: Quantity::new(8 << 30, Format::BinarySI),
        },
    )]
    .into();
    let plan = plan(&EvictionConfig::default(), &mut State::default(), &observations, Timestamp::UNIX_EPOCH);
    let reclaim = plan.reclaim.expect("memory to reclaim");
    let usage: Usage = [stats("over", [60, 0, 0, 0]), stats("within", [60, 0, 0, 0])].into();
    let low = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 93Mi. ";
    for (pod, more) in [
        (
            pod("over", 0, asks("10Mi")),
            "Container main was using 60Mi, request is 10Mi, has larger consumption of memory. ",
        ),
        (pod("within", 0, asks("60Mi")), ""),
        (pod("unknown", 0, asks("1Mi")), ""),
    ] {
        assert_eq!(message(&pod, &usage, &reclaim, &observations), format!("{low}{more}"));
    }
}

#[test]
fn pods_over_their_own_limits_go() {
    let limited =
        |limit: &str| json!({"containers": [{"name": "main", "resources": {"limits": {"ephemeral-storage": limit}}}]});
    let sized = |limit: &str| json!({"volumes": [{"name": "data", "emptyDir": {"sizeLimit": limit}}]});
    let two = json!({"containers": [
        {"name": "main", "resources": {"limits": {"ephemeral-storage": "10Mi"}}},
        {"name": "other", "resources": {"limits": {"ephemeral-storage": "1Gi"}}},
    ]});
    for (name, spec, dedicated, expect) in [
        ("no limit", json!({}), false, None),
        ("volume within", sized("50Mi"), false, None),
        ("volume over", sized("49Mi"), false, Some("Usage of EmptyDir volume \"data\" exceeds the limit \"49Mi\". ")),
        ("pod within", limited("70Mi"), false, None),
        (
            "pod over",
            limited("69Mi"),
            false,
            Some("Pod ephemeral local storage usage exceeds the total limit of containers 69Mi. "),
        ),
        (
            "container over",
            two.clone(),
            false,
            Some("Container main exceeded its local ephemeral storage limit \"10Mi\". "),
        ),
        ("its layer is elsewhere", two, true, None),
    ] {
        let pod = pod("p", 0, spec);
        let (_, stats) = stats("p", [1, 12, 8, 50]);
        assert_eq!(local::exceeded(&pod, &stats, dedicated).as_deref(), expect, "{name}");
        assert_eq!(local::is_limited(&pod), name != "no limit", "{name}");
    }
}

#[test]
fn a_node_under_pressure_takes_few() {
    let tolerates = json!({"tolerations": [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]});
    let memory = BTreeSet::from([Condition::MemoryPressure]);
    let both = BTreeSet::from([Condition::MemoryPressure, Condition::DiskPressure]);
    for (name, pod, conditions, expect) in [
        ("no pressure", pod("p", 0, json!({})), &BTreeSet::new(), None),
        ("best effort", pod("p", 0, json!({})), &memory, Some("[MemoryPressure]")),
        ("burstable", pod("p", 0, asks("1Mi")), &memory, None),
        ("tolerant", pod("p", 0, tolerates.clone()), &memory, None),
        ("tolerant of memory alone", pod("p", 0, tolerates), &both, Some("[DiskPressure MemoryPressure]")),
        ("burstable", pod("p", 0, asks("1Mi")), &both, Some("[DiskPressure MemoryPressure]")),
        ("critical", pod("p", 2_000_000_000, json!({})), &both, None),
    ] {
        let verdict = admission::admit_under(&pod, conditions);
        let expect = expect.map(|list| format!("Pod was rejected: The node had condition: {list}. "));
        assert_eq!(verdict.as_ref().map(|verdict| verdict.message.clone()), expect, "{name}");
        assert!(verdict.is_none_or(|verdict| verdict.reason == "Evicted"), "{name}");
    }
}
