//! What the cluster's names are.

use std::{net::SocketAddr, time::Duration};

use dns::{Dns, DnsConfig};
use hickory_proto::{
    op::ResponseCode,
    rr::{RData, RecordType},
};
use serde_json::{Value, json};
use testkit::Api;
use tokio_util::sync::CancellationToken;

use crate::queries::{ask, data, question, tcp, udp, with_edns};

pub fn service(namespace: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "spec": spec,
        "metadata": {"namespace": namespace, "name": name, "uid": name}})
}

pub fn slice(namespace: &str, service: &str, endpoints: Value) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": namespace, "name": format!("{service}-1"), "uid": format!("{service}-1"),
            "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "db", "port": 5432, "protocol": "TCP"}], "endpoints": endpoints})
}

/// An address on which nobody listens.
pub fn free() -> SocketAddr {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A server that ends with the guard.
pub async fn start(api: &Api, upstreams: Vec<SocketAddr>) -> (SocketAddr, tokio_util::sync::DropGuard) {
    let address = free();
    let cancel = CancellationToken::new();
    let config = DnsConfig {
        listen: vec![address],
        upstreams,
        upstream_timeout: Duration::from_secs(1),
        health: None,
        ready: None,
        metrics: None,
        ..DnsConfig::default()
    };
    tokio::spawn(Dns::run(config, api.client(), cancel.clone()));
    until(|| async move {
        let bytes = question("svc.cluster.local.", RecordType::A).to_vec().unwrap();
        crate::queries::raw_udp(address, &bytes).await.is_some_and(|bytes| bytes[3] & 15 == 0)
    })
    .await;
    (address, cancel.drop_guard())
}

pub async fn until<F: Future<Output = bool>>(so: impl Fn() -> F) {
    for _ in 0..500 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited in vain");
}

pub fn cluster() -> Api {
    let api = Api::default();
    api.put("namespaces", json!({"metadata": {"name": "ns", "uid": "ns"}}));
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "q", "port": 81, "protocol": "UDP"}]);
    api.put(
        "services",
        service("ns", "web", json!({"clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"], "ports": ports})),
    );
    let dual = json!({"clusterIP": "10.96.0.21", "clusterIPs": ["10.96.0.21", "fd00::21"], "ports": [{"port": 1}]});
    api.put("services", service("ns", "dual", dual));
    let headless = json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "db", "port": 5432}]});
    api.put("services", service("ns", "db", headless.clone()));
    api.put("services", service("ns", "empty", headless.clone()));
    let mut all = headless;
    all["publishNotReadyAddresses"] = true.into();
    api.put("services", service("ns", "eager", all));
    let endpoints = json!([
        {"addresses": ["10.244.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
        {"addresses": ["10.244.0.6"], "conditions": {}},
        {"addresses": ["10.244.0.7"], "hostname": "db-2", "conditions": {"ready": false}},
    ]);
    api.put("endpointslices", slice("ns", "db", endpoints.clone()));
    api.put("endpointslices", slice("ns", "eager", endpoints));
    api.put(
        "services",
        service("ns", "inner", json!({"type": "ExternalName", "externalName": "web.ns.svc.cluster.local"})),
    );
    api.put(
        "services",
        service("ns", "round", json!({"type": "ExternalName", "externalName": "round.ns.svc.cluster.local"})),
    );
    api
}

#[tokio::test]
async fn names_of_the_cluster() {
    use RecordType as T;
    use ResponseCode::{NXDomain, NoError, Refused};
    let api = cluster();
    let (server, _guard) = start(&api, Vec::new()).await;
    let cases: &[(&str, T, ResponseCode, &[&str])] = &[
        ("web.ns.svc.cluster.local.", T::A, NoError, &["A 10.96.0.20"]),
        ("WEB.ns.SVC.cluster.LOCAL.", T::A, NoError, &["A 10.96.0.20"]),
        ("web.ns.svc.cluster.local.", T::AAAA, NoError, &[]),
        ("dual.ns.svc.cluster.local.", T::AAAA, NoError, &["AAAA fd00::21"]),
        ("nothing.ns.svc.cluster.local.", T::A, NXDomain, &[]),
        ("web.other.svc.cluster.local.", T::A, NXDomain, &[]),
        ("ns.svc.cluster.local.", T::A, NoError, &[]),
        ("svc.cluster.local.", T::A, NoError, &[]),
        ("_tcp.web.ns.svc.cluster.local.", T::A, NoError, &[]),
        ("_http._tcp.web.ns.svc.cluster.local.", T::SRV, NoError, &["SRV 0 100 80 web.ns.svc.cluster.local."]),
        ("_q._udp.web.ns.svc.cluster.local.", T::SRV, NoError, &["SRV 0 100 81 web.ns.svc.cluster.local."]),
        ("_http._udp.web.ns.svc.cluster.local.", T::SRV, NXDomain, &[]),
        ("db.ns.svc.cluster.local.", T::A, NoError, &["A 10.244.0.5", "A 10.244.0.6"]),
        ("db-0.db.ns.svc.cluster.local.", T::A, NoError, &["A 10.244.0.5"]),
        ("10-244-0-6.db.ns.svc.cluster.local.", T::A, NoError, &["A 10.244.0.6"]),
        ("db-2.db.ns.svc.cluster.local.", T::A, NXDomain, &[]),
        ("db-2.eager.ns.svc.cluster.local.", T::A, NoError, &["A 10.244.0.7"]),
        (
            "_db._tcp.db.ns.svc.cluster.local.",
            T::SRV,
            NoError,
            &["SRV 0 50 5432 10-244-0-6.db.ns.svc.cluster.local.", "SRV 0 50 5432 db-0.db.ns.svc.cluster.local."],
        ),
        ("empty.ns.svc.cluster.local.", T::A, NoError, &[]),
        ("inner.ns.svc.cluster.local.", T::A, NoError, &["A 10.96.0.20", "CNAME web.ns.svc.cluster.local."]),
        ("inner.ns.svc.cluster.local.", T::CNAME, NoError, &["CNAME web.ns.svc.cluster.local."]),
        ("10-1-2-3.ns.pod.cluster.local.", T::A, NoError, &["A 10.1.2.3"]),
        ("10-1-2-3.ns.pod.cluster.local.", T::AAAA, NoError, &[]),
        ("10-1-2-3.other.pod.cluster.local.", T::A, NXDomain, &[]),
        ("10-1-2-300.ns.pod.cluster.local.", T::A, NXDomain, &[]),
        ("dns-version.cluster.local.", T::TXT, NoError, &["TXT 1.1.0"]),
        ("cluster.local.", T::NS, NoError, &["NS ns.dns.cluster.local."]),
        ("cluster.local.", T::A, NoError, &[]),
        ("20.0.96.10.in-addr.arpa.", T::PTR, NoError, &["PTR web.ns.svc.cluster.local."]),
        (
            "5.0.244.10.in-addr.arpa.",
            T::PTR,
            NoError,
            &["PTR db-0.db.ns.svc.cluster.local.", "PTR db-0.eager.ns.svc.cluster.local."],
        ),
        // Search paths make such names of names outside: the client must go on to the next.
        ("example.com.ns.svc.cluster.local.", T::A, NXDomain, &[]),
        ("cluster.local.", T::AXFR, Refused, &[]),
    ];
    for (name, kind, code, answers) in cases {
        let got = ask(server, name, *kind).await;
        assert_eq!(got, (*code, answers.iter().map(|answer| answer.to_string()).collect()), "{name} {kind}");
    }
    let looped = ask(server, "round.ns.svc.cluster.local.", T::A).await;
    assert!(looped.0 == NoError && looped.1.len() <= 8, "{looped:?}");
}

#[tokio::test]
async fn answers_are_complete() {
    let api = cluster();
    let (server, _guard) = start(&api, Vec::new()).await;
    // An absence says how long it may be remembered.
    for name in ["nothing.ns.svc.cluster.local.", "web.ns.svc.cluster.local."] {
        let answer = udp(server, &question(name, RecordType::AAAA)).await;
        let [soa] = answer.authorities.as_slice() else { panic!("{answer:?}") };
        assert!(matches!(&soa.data, RData::SOA(soa) if soa.minimum == 30), "{soa}");
        assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
    }
    let answer = udp(server, &question("_db._tcp.db.ns.svc.cluster.local.", RecordType::SRV)).await;
    assert_eq!(data(&answer.additionals), ["A 10.244.0.5", "A 10.244.0.6"]);
    assert!(answer.answers.iter().all(|record| record.ttl == 30));
    // The first address changes from question to question.
    let mut first = std::collections::BTreeSet::new();
    for id in 0..2 {
        let mut message = question("db.ns.svc.cluster.local.", RecordType::A);
        message.metadata.id = id;
        first.insert(udp(server, &message).await.answers[0].data.to_string());
    }
    assert_eq!(first.len(), 2);
    let answer = udp(server, &with_edns(question("web.ns.svc.cluster.local.", RecordType::A), 4096)).await;
    assert_eq!(answer.edns.unwrap().max_payload(), 1232);
}

#[tokio::test]
async fn what_does_not_fit_is_truncated_and_asked_over_tcp() {
    let api = cluster();
    let many: Vec<Value> = (0..200).map(|number| json!({"addresses": [format!("10.244.7.{number}")]})).collect();
    api.put("endpointslices", slice("ns", "empty", many.into()));
    let (server, _guard) = start(&api, Vec::new()).await;
    let big = question("empty.ns.svc.cluster.local.", RecordType::A);
    for request in [big.clone(), with_edns(big.clone(), 1232)] {
        let answer = udp(server, &request).await;
        assert!(answer.metadata.truncation && answer.answers.is_empty(), "{answer:?}");
    }
    let answer = udp(server, &with_edns(question("db.ns.svc.cluster.local.", RecordType::A), 512)).await;
    assert!(!answer.metadata.truncation);
    // Many questions at once on one connection.
    let mut small = question("web.ns.svc.cluster.local.", RecordType::A);
    small.metadata.id = big.metadata.id.wrapping_add(1);
    let answers = tcp(server, &[big.clone(), small.clone()]).await;
    let of = |id: u16| answers.iter().find(|answer| answer.metadata.id == id).unwrap();
    assert_eq!(of(big.metadata.id).answers.len(), 200);
    assert_eq!(data(&of(small.metadata.id).answers), ["A 10.96.0.20"]);
}

#[tokio::test]
async fn records_follow_the_api() {
    let api = cluster();
    let (server, _guard) = start(&api, Vec::new()).await;
    let is = |name: &'static str, code: ResponseCode, count: usize| {
        move || async move {
            let (got, answers) = ask(server, name, RecordType::A).await;
            got == code && answers.len() == count
        }
    };
    api.put("services", service("ns", "new", json!({"clusterIP": "10.96.0.30"})));
    until(is("new.ns.svc.cluster.local.", ResponseCode::NoError, 1)).await;
    api.put("endpointslices", slice("ns", "db", json!([{"addresses": ["10.244.0.9"]}])));
    until(is("db.ns.svc.cluster.local.", ResponseCode::NoError, 1)).await;
    until(is("10-244-0-6.db.ns.svc.cluster.local.", ResponseCode::NXDomain, 0)).await;
    api.delete("services", "db");
    until(is("db.ns.svc.cluster.local.", ResponseCode::NXDomain, 0)).await;
    api.put("namespaces", json!({"metadata": {"name": "later", "uid": "later"}}));
    until(is("later.svc.cluster.local.", ResponseCode::NoError, 0)).await;
    api.delete("namespaces", "later");
    until(is("later.svc.cluster.local.", ResponseCode::NXDomain, 0)).await;
}

#[tokio::test]
async fn health_and_readiness() {
    let tcp = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (health, ready, metrics) = (tcp(), tcp(), tcp());
    let config = DnsConfig {
        listen: vec![free()],
        health: Some(health),
        ready: Some(ready),
        metrics: Some(metrics),
        ..DnsConfig::default()
    };
    let cancel = CancellationToken::new();
    let server = config.listen[0];
    tokio::spawn(Dns::run(config, cluster().client(), cancel.clone()));
    let get = |address: SocketAddr, path: &'static str| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else { return String::new() };
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    until(|| async { get(ready, "/ready").await.starts_with("HTTP/1.1 200") }).await;
    assert!(get(health, "/health").await.starts_with("HTTP/1.1 200"));
    assert!(get(health, "/other").await.starts_with("HTTP/1.1 404"));
    ask(server, "nothing.ns.svc.cluster.local.", RecordType::A).await;
    let text = get(metrics, "/metrics").await;
    assert!(text.contains("coredns_dns_responses_total{rcode=\"NXDomain\"} 1"), "{text}");
    cancel.cancel();
}

#[test]
fn manifests_are_what_the_api_takes() {
    use client::{Kind, kinds::apps::v1::Deployment};
    let settings = dns::ManifestSettings {
        image: "argosy:test".into(),
        command: vec!["argosy".into(), "dns".into()],
        cluster_ip: "10.96.0.10".parse().unwrap(),
        replicas: 1,
    };
    let all = dns::manifests(&settings);
    let kinds: Vec<&str> = all.iter().filter_map(|object| object["kind"].as_str()).collect();
    assert_eq!(kinds, ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Deployment", "Service"]);
    let deployment = Deployment::decode(all[3].to_string().as_bytes()).unwrap();
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.containers[0].image.as_deref(), Some("argosy:test"));
    assert_eq!(pod.dns_policy.as_deref(), Some("Default"));
    assert_eq!(all[4]["spec"]["clusterIP"], "10.96.0.10");
    assert_eq!(all[4]["spec"]["selector"], all[3]["spec"]["template"]["metadata"]["labels"]);
}
