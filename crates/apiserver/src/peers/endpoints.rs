//! The endpoints of the Service `kubernetes`: the addresses of all API servers that live. Each keeps a key with a time to
//! live in the store, and each makes the Endpoints and the EndpointSlice say what keys there are (upstream
//! `pkg/controlplane/reconcilers/lease.go` and `endpointsadapter.go`, driven by `pkg/controlplane/controller/kubernetesservice`).
//! Keys and values are upstream's, so that its servers and these agree on one etcd.

use std::{net::IpAddr, sync::Arc, time::Duration};

use api::{Status, Value, json, status::Reason};
use bytes::Bytes;
use serde_json::json;
use store::{Entry, Error as StoreError, ListOptions};
use tokio_util::sync::CancellationToken;

use crate::{
    Server, bootstrap,
    cache::{LEASES, stored_tree},
    config::EndpointReconciler,
    own::Own,
    rest::store_status,
};

/// Upstream: `DefaultEndpointReconcilerTTL` and `DefaultEndpointReconcilerInterval`.
const TTL: Duration = Duration::from_secs(15);
const INTERVAL: Duration = Duration::from_secs(10);
/// After a failure: a lease must not run out because one try came at a bad time.
const RETRY: Duration = Duration::from_secs(1);
/// How often a lease that others write at the same time (servers with one address) is tried.
const TRIES: usize = 8;

const NAMESPACE: &str = "default";
const SERVICE: &str = "kubernetes";

fn is_kept(server: &Server) -> bool {
    // No endpoint may have the address of a loopback: a machine without a network has none.
    server.config.endpoint_reconciler == EndpointReconciler::Lease && !server.config.advertise_address.is_loopback()
}

/// Keeps lease and endpoints until `leaving`, then takes this server's out.
pub(super) async fn run(first: Result<(), Status>, server: Arc<Server>, leaving: CancellationToken) {
    let mut done = first;
    // Upstream's servers see that another has come or gone at their next round only.
    let mut leases = server.cache.leases();
    loop {
        if let Err(status) = &done {
            tracing::warn!(status = status.message, "the endpoints of the Service kubernetes could not be kept");
        }
        let pause = if done.is_ok() { INTERVAL } else { RETRY };
        tokio::select! {
            biased;
            () = leaving.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
            _ = leases.changed() => {}
        }
        done = round(&server).await;
    }
    if is_kept(&server)
        && let Err(status) = remove(&server).await
    {
        tracing::warn!(status = status.message, "this server's address could not be taken out of its Service");
    }
}

/// Everything as it should be now. The first round comes before a server says that it serves.
pub(super) async fn round(server: &Arc<Server>) -> Result<(), Status> {
    bootstrap::keep(server).await?;
    if !is_kept(server) {
        return Ok(());
    }
    let own = server.config.advertise_address.to_string();
    renew(server, &own).await?;
    let addresses = living(server).await?;
    // Having just written its own, a server that finds none must not tell everybody that there is none.
    if addresses.is_empty() {
        return Err(Status::internal(
            "no API server IP addresses were listed in storage, refusing to erase all endpoints",
        ));
    }
    publish(server, &addresses).await
}

async fn remove(server: &Arc<Server>) -> Result<(), Status> {
    let key = lease_key(&server.config.advertise_address.to_string());
    if let Some(entry) = server.store.get(&key).await.map_err(store_status)? {
        match server.store.delete(&key, entry.modified).await {
            // Another server of the same address has just renewed it, or its time ran out.
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(store_status(error)),
        }
    }
    let addresses = living(server).await?;
    publish(server, &addresses).await
}

fn lease_key(address: &str) -> String {
    format!("{LEASES}{address}")
}

/// An Endpoints object with the address; the generation makes every renewal a change.
fn lease(address: &str, generation: i64) -> Bytes {
    let object = json!({
        "kind": "Endpoints", "apiVersion": "v1",
        "metadata": {"generation": generation, "creationTimestamp": null},
        "subsets": [{"addresses": [{"ip": address}]}],
    });
    object.to_string().into()
}

async fn renew(server: &Server, address: &str) -> Result<(), Status> {
    let key = lease_key(address);
    for _ in 0..TRIES {
        let written = match server.store.get(&key).await.map_err(store_status)? {
            None => server.store.create(&key, lease(address, 1), Some(TTL)).await,
            Some(entry) => {
                let tree = stored_tree(&entry.value).unwrap_or_default();
                let generation = tree.at(&["metadata", "generation"]).and_then(Value::as_i64).unwrap_or_default();
                server.store.update(&key, lease(address, generation + 1), entry.modified, Some(TTL)).await
            }
        };
        match written {
            Err(StoreError::Exists { .. } | StoreError::Conflict { .. }) => {}
            written => return written.map(drop).map_err(store_status),
        }
    }
    Err(Status::internal(format!("the lease of {address} is being written by somebody else")))
}

/// The addresses of all servers that live, in order, each once.
async fn living(server: &Server) -> Result<Vec<String>, Status> {
    let options = ListOptions { prefix: LEASES.into(), ..ListOptions::default() };
    let page = server.store.list(options).await.map_err(store_status)?;
    Ok(addresses(&page.entries))
}

fn addresses(leases: &[Entry]) -> Vec<String> {
    let address = |entry: &Entry| {
        let tree = stored_tree(&entry.value).ok()?;
        let subset = tree.get("subsets")?.as_array()?.first()?;
        let ip = subset.get("addresses")?.as_array()?.first()?.str_at(&["ip"]).to_owned();
        Some(ip).filter(|ip| !ip.is_empty())
    };
    let mut all: Vec<String> = leases.iter().filter_map(address).collect();
    all.sort();
    all.dedup();
    all
}

async fn publish(server: &Arc<Server>, addresses: &[String]) -> Result<(), Status> {
    let (own, port) = (server.config.advertise_address.to_string(), server.config.secure_port);
    let mut published = Value::object();
    Own::of(server, "v1", "Endpoints", NAMESPACE)?
        .ensure(SERVICE, |before| {
            published = endpoints(before, addresses, &own, port);
            Ok(published.clone())
        })
        .await?;
    let slices = Own::of(server, "discovery.k8s.io/v1", "EndpointSlice", NAMESPACE)?;
    let wanted = slice(&published);
    // The kind of addresses of a slice cannot be changed.
    if let Some(present) = slices.cached(SERVICE)
        && present.tree().get("addressType") != wanted.get("addressType")
        && let Err(status) = slices.delete(SERVICE, present.tree().str_at(&["metadata", "uid"])).await
        && status.reason != Reason::NotFound
    {
        return Err(status);
    }
    slices.ensure(SERVICE, |before| Ok(merged(before, &wanted))).await
}

/// The Endpoints with these addresses. They are left as they are where they say the same in another order; their ports are
/// this server's where it is alone or they cannot be right, since servers with several ports would only overwrite each other.
fn endpoints(before: &Value, addresses: &[String], own: &str, port: u16) -> Value {
    let mut object = before.clone();
    object.set(&["metadata", "labels", "endpointslice.kubernetes.io/skip-mirror"], "true");
    if addresses.is_empty() {
        object.take(&["subsets"]);
        return object;
    }
    let former = match before.get("subsets").and_then(Value::as_array) {
        Some([subset]) => Some(subset),
        _ => None,
    };
    let ips = |subset: &Value| {
        let all = subset.get("addresses").and_then(Value::as_array).unwrap_or_default();
        let mut ips: Vec<String> = all.iter().map(|address| address.str_at(&["ip"]).to_owned()).collect();
        ips.sort();
        ips
    };
    let mut subset = former.cloned().unwrap_or_else(Value::object);
    if former.is_none_or(|former| ips(former) != addresses) {
        let all: Vec<Value> = addresses.iter().map(|ip| tree(&json!({"ip": ip}))).collect();
        subset = Value::object();
        subset.set(&["addresses"], all);
        if let Some(ports) = former.and_then(|former| former.get("ports")) {
            subset.set(&["ports"], ports.clone());
        }
    }
    if subset.get("ports").is_none() || addresses == [own] {
        subset.set(&["ports"], vec![tree(&json!({"name": "https", "port": port, "protocol": "TCP"}))]);
    }
    object.set(&["subsets"], vec![subset]);
    object
}

/// The EndpointSlice that says the same as these Endpoints (upstream: `endpointSliceFromEndpoints`).
fn slice(endpoints: &Value) -> Value {
    let subset = endpoints.get("subsets").and_then(Value::as_array).and_then(|all| all.first());
    let all = subset.and_then(|subset| subset.get("addresses")).and_then(Value::as_array).unwrap_or_default();
    let is_v6 = |ip: &str| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
    let ips: Vec<&str> = all.iter().map(|address| address.str_at(&["ip"])).collect();
    let only_v6 = !ips.is_empty() && ips.iter().all(|ip| is_v6(ip));
    let shown: Vec<Value> = ips
        .iter()
        .filter(|ip| is_v6(ip) == only_v6)
        .map(|ip| tree(&json!({"addresses": [ip], "conditions": {"ready": true}})))
        .collect();
    let mut slice = Value::object();
    slice.set(&["metadata", "labels", "kubernetes.io/service-name"], SERVICE);
    slice.set(&["addressType"], if only_v6 { "IPv6" } else { "IPv4" });
    slice.set(&["endpoints"], shown);
    if let Some(ports) = subset.and_then(|subset| subset.get("ports")) {
        slice.set(&["ports"], ports.clone());
    }
    slice
}

fn merged(before: &Value, wanted: &Value) -> Value {
    let mut object = before.clone();
    object.take(&["ports"]);
    for name in ["addressType", "endpoints", "ports"] {
        if let Some(value) = wanted.get(name) {
            object.set(&[name], value.clone());
        }
    }
    object.set(&["metadata", "labels", "kubernetes.io/service-name"], SERVICE);
    object
}

fn tree(value: &serde_json::Value) -> Value {
    // What is written here is JSON.
    json::parse(value.to_string().as_bytes()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use store::Revision;

    use super::*;

    fn of(text: serde_json::Value) -> Value {
        tree(&text)
    }

    #[test]
    fn endpoints_follow_the_leases() {
        let label = json!({"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}});
        let https = |port: u16| json!([{"name": "https", "port": port, "protocol": "TCP"}]);
        let ip = |ip: &str| json!({"ip": ip});
        let cases = [
            (
                "a new cluster",
                json!({}),
                vec!["10.0.0.1"],
                json!([{"addresses": [ip("10.0.0.1")], "ports": https(6443)}]),
            ),
            (
                "another's port is left, its order too",
                json!([{"addresses": [ip("10.0.0.2"), ip("10.0.0.1")], "ports": https(443)}]),
                vec!["10.0.0.1", "10.0.0.2"],
                json!([{"addresses": [ip("10.0.0.2"), ip("10.0.0.1")], "ports": https(443)}]),
            ),
            (
                "one is gone, and the last one's port counts",
                json!([{"addresses": [ip("10.0.0.2"), ip("10.0.0.1")], "ports": https(443)}]),
                vec!["10.0.0.1"],
                json!([{"addresses": [ip("10.0.0.1")], "ports": https(6443)}]),
            ),
            (
                "what cannot be right is made anew",
                json!([{"addresses": [ip("10.0.0.2")], "ports": https(443)}, {"addresses": [ip("10.0.0.1")]}]),
                vec!["10.0.0.1", "10.0.0.3"],
                json!([{"addresses": [ip("10.0.0.1"), ip("10.0.0.3")], "ports": https(6443)}]),
            ),
        ];
        for (case, before, addresses, wanted) in cases {
            let before = of(json!({"metadata": {}, "subsets": before}));
            let addresses: Vec<String> = addresses.into_iter().map(str::to_owned).collect();
            let made = endpoints(&before, &addresses, "10.0.0.1", 6443);
            assert_eq!(made, of(json!({"metadata": label, "subsets": wanted})), "{case}");
        }
        let none = endpoints(&of(json!({"subsets": [{"addresses": [ip("10.0.0.1")]}]})), &[], "10.0.0.1", 6443);
        assert_eq!(none, of(json!({"metadata": label})));
    }

    #[test]
    fn the_slice_says_the_same() {
        let made =
            slice(&of(json!({"subsets": [{"addresses": [{"ip": "fd00::1"}, {"ip": "10.0.0.1"}], "ports": []}]})));
        assert_eq!(
            (made.str_at(&["addressType"]), made.get("endpoints")),
            ("IPv4", Some(&of(json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}]))))
        );
        let made = slice(&of(json!({"subsets": [{"addresses": [{"ip": "fd00::1"}]}]})));
        assert_eq!(made.str_at(&["addressType"]), "IPv6");
        let made = slice(&of(json!({})));
        assert_eq!((made.str_at(&["addressType"]), made.get("endpoints")), ("IPv4", Some(&of(json!([])))));
    }

    #[test]
    fn leases_are_read_as_upstream_writes_them() {
        let entry = |value: &[u8]| Entry {
            key: "k".into(),
            value: value.to_vec().into(),
            created: Revision(1),
            modified: Revision(1),
        };
        let theirs = stored_tree(&lease("10.0.0.7", 3)).expect("a tree");
        let theirs = api::protobuf::encode(api::Model::builtin(), &theirs).expect("protobuf");
        let found = addresses(&[
            entry(&lease("10.0.0.9", 1)),
            entry(&theirs),
            entry(&lease("10.0.0.9", 1)),
            entry(b"{\"kind\":\"Endpoints\",\"apiVersion\":\"v1\",\"subsets\":[]}"),
            entry(b"what"),
        ]);
        assert_eq!(found, ["10.0.0.7", "10.0.0.9"]);
    }
}
