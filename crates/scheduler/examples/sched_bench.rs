//! Pods per second over a simulated cluster, everything but the API: queue, cache, snapshot, plan, assume.
//!
//! `cargo run --release -p scheduler --example sched_bench -- [nodes] [pods]`

use std::{error::Error, sync::Arc, time::Instant};

use client::{
    Kind,
    kinds::{
        apps::v1::ReplicaSet,
        core::v1::{Node, Pod},
    },
};
use jiff::Timestamp;
use scheduler::{
    plan::{First, Profile},
    queue::Delays,
    state::{Action, Change, State, Update},
};
use serde_json::{Value, json};

fn object<K: Kind>(value: &Value) -> Result<Arc<K>, Box<dyn Error>> {
    Ok(Arc::new(K::decode(&serde_json::to_vec(value)?)?))
}

fn node(at: usize) -> Result<Arc<Node>, Box<dyn Error>> {
    let name = format!("node-{at}");
    object(&json!({
        "metadata": { "name": name, "labels": {
            "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", at % 3),
        } },
        "status": { "allocatable": { "cpu": "32", "memory": "128Gi", "pods": "110" } },
    }))
}

/// Pods of one kind: what is added to `metadata` and to `spec`.
fn pod(at: usize, metadata: &Value, affinity: &Value) -> Result<Arc<Pod>, Box<dyn Error>> {
    let mut pod = json!({
        "metadata": { "name": format!("pod-{at}"), "namespace": "default", "uid": format!("uid-{at}"), "labels": { "app": "web" } },
        "spec": {
            "affinity": affinity,
            "containers": [{ "name": "c", "image": "app", "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } } }],
        },
    });
    if let (Some(pod), Some(more)) = (pod["metadata"].as_object_mut(), metadata.as_object()) {
        pod.extend(more.clone());
    }
    object(&pod)
}

fn measure(what: &str, nodes: usize, pods: usize, metadata: Value, affinity: Value) -> Result<(), Box<dyn Error>> {
    let now = Timestamp::UNIX_EPOCH;
    let mut state = State::new(vec![Profile::default()], Delays::default(), None, Box::new(First));
    let set = json!({
        "metadata": { "name": "web", "namespace": "default" },
        "spec": { "selector": { "matchLabels": { "app": "web" } }, "template": {} },
    });
    state.apply(Change::ReplicaSet(Update { old: None, new: Some(object::<ReplicaSet>(&set)?) }), now);
    for at in 0..nodes {
        state.apply(Change::Node(Update { old: None, new: Some(node(at)?) }), now);
    }
    let list = (0..pods).map(|at| pod(at, &metadata, &affinity)).collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    for pod in list {
        state.apply(Change::Pod(Update { old: None, new: Some(pod) }), now);
    }
    let mut bound = 0;
    while let Some(actions) = state.schedule_next(now) {
        bound += actions.iter().filter(|action| matches!(action, Action::Bind { .. })).count();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{what:<28} {bound:>7} of {pods} bound on {nodes} nodes, {:>8.0} pods/s", pods as f64 / seconds);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let number =
        |at: usize, default: usize| std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (nodes, pods) = (number(1, 1000), number(2, 10_000));
    let owner = json!({ "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true }] });
    let term = json!({ "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "web" } } });
    let apart = json!({ "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 1, "podAffinityTerm": term }] } });
    let strict = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
    measure("plain pods", nodes, pods, json!({}), Value::Null)?;
    measure("pods of a ReplicaSet", nodes, pods, owner, Value::Null)?;
    measure("preferred anti-affinity", nodes, pods / 5, json!({}), apart)?;
    measure("required anti-affinity", nodes, nodes.min(pods), json!({}), strict)
}
