//! Plans as text, for situations worth a picture.

use std::sync::Arc;

use client::kinds::{
    apps::v1::ReplicaSet,
    core::v1::{Node, Pod},
};
use controllers::{
    node::{eviction, ipam, lifecycle},
    plan::{Verb, Write},
    replicaset,
    runtime::Context,
    shared::range::Range,
};
use jiff::Timestamp;
use serde_json::{Value, json};

fn object<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).expect("object"))
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("time")
}

fn set(replicas: i32) -> Arc<ReplicaSet> {
    object(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "set", "generation": 2},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}}},
    }))
}

fn pod(name: &str, more: Value) -> Arc<Pod> {
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "set", "controller": true});
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}, "ownerReferences": [owner]},
        "spec": {"containers": [], "nodeName": "n1"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    for (key, value) in more.as_object().expect("object") {
        for (field, value) in value.as_object().expect("object") {
            pod[key][field] = value.clone();
        }
    }
    object(pod)
}

#[test]
fn replica_set_adopts_releases_and_deletes_the_least_useful() {
    let inputs = replicaset::Inputs {
        owner: set(2),
        pods: vec![
            pod("a-ready", json!({})),
            pod("b-pending", json!({"status": {"phase": "Pending", "conditions": []}})),
            pod("c-orphan", json!({"metadata": {"ownerReferences": []}})),
            pod("d-relabelled", json!({"metadata": {"labels": {"app": "other"}}})),
            pod("e-failed", json!({"status": {"phase": "Failed"}})),
        ],
        related: vec![],
    };
    let context = Context { now: at("2026-01-01T01:00:00Z"), failure: None };
    insta::assert_snapshot!(replicaset::plan(&inputs, &context));
}

#[test]
fn replica_set_tells_of_a_failed_creation() {
    let failure = controllers::executor::WriteFailure {
        verb: "create",
        kind: "Pod".into(),
        reason: Some(api::status::Reason::Forbidden),
        message: "exceeded quota".into(),
        namespace_terminating: false,
    };
    let inputs = replicaset::Inputs { owner: set(1), pods: vec![], related: vec![] };
    let mut context = Context { now: at("2026-01-01T01:00:00Z"), failure: Some(failure) };
    let plan = replicaset::plan(&inputs, &context);
    insta::assert_snapshot!(plan);
    let is_status = |write: &Write| matches!(write.verb, Verb::UpdateStatus);
    let status = plan.writes.iter().find(|write| is_status(write)).expect("a status");
    let told: ReplicaSet = serde_json::from_slice(&status.body).expect("a set");
    let inputs = replicaset::Inputs { owner: Arc::new(told), pods: vec![], related: vec![] };
    context.failure.iter_mut().for_each(|failure| failure.message = "the same of another pod".into());
    let again = replicaset::plan(&inputs, &context);
    assert!(!again.writes.iter().any(is_status), "told once");
}

#[test]
fn silent_node_turns_unknown_and_tainted() {
    let node: Arc<Node> = object(json!({
        "metadata": {"name": "n1", "uid": "n1", "resourceVersion": "7"},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]},
    }));
    let inputs = lifecycle::Inputs {
        node,
        pods: vec![pod("a", json!({}))],
        heartbeat: at("2026-01-01T00:00:00Z"),
        grace: std::time::Duration::from_secs(50),
    };
    insta::assert_snapshot!("node_in_touch", lifecycle::plan(&inputs, at("2026-01-01T00:00:40Z")));
    insta::assert_snapshot!("node_out_of_touch", lifecycle::plan(&inputs, at("2026-01-01T00:00:50Z")));
}

#[test]
fn taints_evict_by_toleration() {
    let tolerating = |seconds: Value| {
        let mut toleration =
            json!({"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"});
        if !seconds.is_null() {
            toleration["tolerationSeconds"] = seconds;
        }
        json!({"spec": {"tolerations": [toleration]}})
    };
    let taint = json!({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"});
    let inputs = eviction::Inputs {
        pods: vec![
            pod("always", tolerating(Value::Null)),
            pod("for-a-while", tolerating(300.into())),
            pod("never", json!({})),
            pod("no-longer", tolerating(10.into())),
        ],
        taints: vec![(serde_json::from_value(taint).expect("taint"), at("2026-01-01T00:00:00Z"))],
    };
    insta::assert_snapshot!(eviction::plan(&inputs, at("2026-01-01T00:01:00Z")));
}

#[test]
fn ranges_avoid_each_other_and_the_services() {
    let range = |text: &str| Range::parse(text).expect("range");
    let pool = ipam::Pool { clusters: vec![(range("10.0.0.0/22"), 24)], reserved: vec![range("10.0.0.0/24")] };
    let node = |name: &str, cidr: Value| -> Arc<Node> {
        object(json!({"metadata": {"name": name, "uid": name}, "spec": {"podCIDR": cidr}}))
    };
    let nodes =
        [node("a", Value::Null), node("b", "10.0.2.0/24".into()), node("c", Value::Null), node("d", Value::Null)];
    insta::assert_snapshot!(ipam::plan(&nodes, &pool));
}
