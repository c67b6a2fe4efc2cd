//! Services and EndpointSlices made of little.

use std::sync::Arc;

use client::{Kind, ObjectKey, kinds::core::v1::Service, kinds::discovery::v1::EndpointSlice};
use proxy::{NodeView, ProxyState, RulesConfig};
use serde_json::{Value, json};

pub fn config() -> RulesConfig {
    RulesConfig { cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()], ..RulesConfig::default() }
}

pub fn service_json(name: &str, cluster_ip: &str, ports: Value, more: Value) -> Value {
    let mut spec = json!({"type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "ports": ports});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let status = spec.as_object_mut().unwrap().remove("status").unwrap_or(json!({}));
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "ns", "name": name, "uid": name},
        "spec": spec, "status": status})
}

pub fn slice_json(service: &str, ports: Value, endpoints: Value) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "ns", "name": format!("{service}-1"), "uid": format!("{service}-1"),
            "labels": {"kubernetes.io/service-name": service}},
        "ports": ports, "endpoints": endpoints})
}

pub fn ready(address: &str, node: &str) -> Value {
    json!({"addresses": [address], "nodeName": node, "conditions": {"ready": true}})
}

pub fn decode<K: Kind>(value: &Value) -> Arc<K> {
    Arc::new(K::decode(value.to_string().as_bytes()).unwrap())
}

/// A state on node `n1` in zone `z1`.
pub fn state(services: &[Value], slices: &[Value]) -> ProxyState {
    let mut state = ProxyState { node: NodeView { name: "n1".into(), zone: "z1".into() }, ..ProxyState::default() };
    for service in services.iter().map(decode::<Service>) {
        state.services.insert(service.key(), service);
    }
    for slice in slices.iter().map(decode::<EndpointSlice>) {
        let service = slice.metadata.labels.as_ref().unwrap()["kubernetes.io/service-name"].clone();
        state.slices.entry(ObjectKey::new("ns", service)).or_default().push(slice);
    }
    state
}
