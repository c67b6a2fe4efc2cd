//! Objects in few words.

use std::sync::Arc;

use client::{
    Kind,
    kinds::core::v1::{Node, Pod},
};
use scheduler::{node::NodeInfo, objects::Objects, pod::PodInfo, snapshot::Snapshot};
use serde_json::{Value, json};

pub fn object<K: Kind>(value: &Value) -> Arc<K> {
    let bytes = serde_json::to_vec(value).expect("JSON values can be written");
    Arc::new(K::decode(&bytes).unwrap_or_else(|error| panic!("{error} in {value}")))
}

/// Lays `over` on `base`, object by object.
pub fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            over.iter().for_each(|(key, value)| merge(base.entry(key).or_insert(Value::Null), value));
        }
        (base, over) => *base = over.clone(),
    }
}

/// A node of 4 CPUs, 8 GiB and 110 pods, changed by `over`.
pub fn node(name: &str, over: Value) -> Arc<Node> {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "status": { "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" } },
    });
    merge(&mut value, &over);
    object(&value)
}

/// A pod of one container that asks for nothing, changed by `over`.
pub fn pod(name: &str, over: Value) -> Arc<Pod> {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}") },
        "spec": { "schedulerName": "default-scheduler", "containers": [{ "name": "c", "image": "app" }] },
    });
    merge(&mut value, &over);
    object(&value)
}

/// The spec of a pod whose container asks for this much.
pub fn wants(cpu: &str, memory: &str) -> Value {
    let requests = json!({ "cpu": cpu, "memory": memory });
    json!({ "spec": { "containers": [{ "name": "c", "image": "app", "resources": { "requests": requests } }] } })
}

pub fn with(mut base: Value, over: Value) -> Value {
    merge(&mut base, &over);
    base
}

pub fn on(node: &str) -> Value {
    json!({ "spec": { "nodeName": node } })
}

pub fn info(pod: Arc<Pod>) -> Arc<PodInfo> {
    Arc::new(PodInfo::new(pod))
}

/// Nodes with the pods on them.
pub fn snapshot(nodes: Vec<Arc<Node>>, pods: Vec<Arc<Pod>>, objects: Objects) -> Snapshot {
    let mut infos: Vec<NodeInfo> = nodes.into_iter().map(NodeInfo::new).collect();
    for pod in pods {
        let pod = info(pod);
        let node = infos.iter_mut().find(|node| node.name() == pod.node_name());
        node.expect("the pod's node exists").add_pod(pod);
    }
    Snapshot::new(infos, objects)
}
