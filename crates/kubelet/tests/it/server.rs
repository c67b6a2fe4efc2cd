//! The kubelet's API over a real connection: who gets in, what is answered, and streams passed through to the runtime.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use client::kinds::core::v1::Pod;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use kubelet::{
    access::{AccessError, ContainerHandle, PodAccess, Streams},
    cgroups::{Cgroups, Hierarchy},
    cri::{RuntimeError, v1},
    server::{
        KubeletServer, NodeFacts,
        auth::{Attributes, Authority, Reviewer, User, attributes},
    },
    stats::{StatsCollector, StatsConfig},
};
use net::server::{ServeOptions, serve_plain};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::stub_runtime::StubRuntime;

/// Token `admin` may do all, `scraper` only `nodes/metrics`; counts what it is asked.
#[derive(Clone, Default)]
struct Table {
    reviews: Arc<AtomicU32>,
}

#[async_trait]
impl Reviewer for Table {
    async fn review_token(&self, token: &str) -> client::Result<Option<User>> {
        self.reviews.fetch_add(1, Ordering::SeqCst);
        let known = ["admin", "scraper"].contains(&token);
        Ok(known.then(|| User { name: token.into(), ..User::default() }))
    }

    async fn review_access(&self, user: &User, node: &str, attributes: &Attributes) -> client::Result<bool> {
        self.reviews.fetch_add(1, Ordering::SeqCst);
        assert_eq!(node, "n1");
        assert!(user.groups.iter().any(|group| group == "system:authenticated"));
        Ok(user.name == "admin" || attributes.subresource == "metrics")
    }
}

struct Access {
    pod: Arc<Pod>,
    log: PathBuf,
    streaming: String,
}

#[async_trait]
impl PodAccess for Access {
    fn pods(&self) -> Vec<Arc<Pod>> {
        vec![self.pod.clone()]
    }

    fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Result<Arc<Pod>, AccessError> {
        let found = (namespace, name) == ("ns", "web") && uid.is_none_or(|uid| uid == "u1");
        let missing = || AccessError::PodNotFound { namespace: namespace.into(), name: name.into() };
        found.then(|| self.pod.clone()).ok_or_else(missing)
    }

    fn container(&self, _: &Pod, container: &str, previous: bool) -> Result<ContainerHandle, AccessError> {
        if previous {
            return Err(AccessError::NoPreviousContainer { pod: "web".into(), container: container.into() });
        }
        Ok(ContainerHandle { id: "id1".into(), log_path: self.log.clone(), running: true, attempt: 0 })
    }

    async fn exec(&self, container: &str, command: Vec<String>, streams: Streams) -> Result<String, AccessError> {
        assert_eq!((container, streams.stdin, streams.stderr), ("id1", true, false));
        Ok(format!("http://{}/exec/{}", self.streaming, command.join("-")))
    }

    async fn attach(&self, _: &str, _: Streams) -> Result<String, AccessError> {
        Err(AccessError::Runtime(RuntimeError::Unavailable { message: "gone".into() }))
    }

    async fn port_forward(&self, _: &Pod, ports: Vec<i32>) -> Result<String, AccessError> {
        Ok(format!("http://{}/ports/{}", self.streaming, ports.len()))
    }

    async fn run(&self, _: &str, command: Vec<String>) -> Result<(i32, Vec<u8>), AccessError> {
        Ok((i32::from(command[0] == "false"), b"ran".to_vec()))
    }
}

struct Facts;

#[async_trait]
impl NodeFacts for Facts {
    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn configuration(&self) -> serde_json::Value {
        serde_json::json!({"clusterDomain": "cluster.local"})
    }

    async fn running_pods(&self) -> Result<Vec<Pod>, RuntimeError> {
        Ok(Vec::new())
    }
}

fn container_stats() -> v1::ContainerStats {
    let value = |value| Some(v1::UInt64Value { value });
    let labels = [("io.kubernetes.pod.uid", "u1"), ("io.kubernetes.container.name", "c")];
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: "id1".into(),
            labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            ..Default::default()
        }),
        cpu: Some(v1::CpuUsage { usage_core_nano_seconds: value(2_500_000_000), ..Default::default() }),
        memory: Some(v1::MemoryUsage { working_set_bytes: value(4096), ..Default::default() }),
        ..Default::default()
    }
}

struct Kubelet {
    address: String,
    reviews: Arc<AtomicU32>,
    dir: tempfile::TempDir,
    _cancel: tokio_util::sync::DropGuard,
}

/// A runtime's streaming server: upgrades, then sends everything back; the path it was asked for comes first.
async fn streaming_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let address = listener.local_addr().expect("address").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|mut request: Request<Incoming>| async move {
                assert!(!request.headers().contains_key(header::AUTHORIZATION), "credentials stay with the kubelet");
                let path = request.uri().path().to_owned();
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let mut io = TokioIo::new(upgrade.await.expect("upgrade"));
                    io.write_all(path.as_bytes()).await.expect("write");
                    let mut buffer = [0; 1024];
                    while let Ok(read @ 1..) = io.read(&mut buffer).await {
                        io.write_all(&buffer[..read]).await.expect("echo");
                    }
                });
                Response::builder()
                    .status(StatusCode::SWITCHING_PROTOCOLS)
                    .header(header::CONNECTION, "Upgrade")
                    .header(header::UPGRADE, "SPDY/3.1")
                    .header("X-Stream-Protocol-Version", "v4.channel.k8s.io")
                    .body(Full::new(Bytes::new()))
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection.with_upgrades());
        }
    });
    address
}

async fn kubelet() -> Kubelet {
    let dir = tempfile::tempdir().expect("directory");
    let log = dir.path().join("0.log");
    fs::write(&log, "2026-01-02T03:04:05Z stdout F hello\n2026-01-02T03:04:06Z stderr F oops\n").expect("log");
    let pod = r#"{"metadata":{"name":"web","namespace":"ns","uid":"u1"},"spec":{"containers":[{"name":"c"}]}}"#;
    let pod = Arc::new(serde_json::from_str(pod).expect("pod"));
    let access = Arc::new(Access { pod, log, streaming: streaming_server().await });
    let now: Timestamp = "2026-01-02T03:05:00Z".parse().expect("time");
    let table = Table::default();
    let stats = StatsCollector::new(StatsConfig {
        node_name: "n1".into(),
        cgroups: Cgroups::new(Hierarchy::detect().expect("cgroups"), "argosy-test-none").expect("root"),
        runtime: Arc::new(StubRuntime { stats: vec![container_stats()], ..StubRuntime::default() }),
        access: access.clone(),
        layout: volumes::Layout::new(dir.path()),
        boot_time: now,
        now: Arc::new(move || now),
    });
    let server = KubeletServer {
        authority: Authority::new(table.clone(), "n1"),
        access,
        facts: Arc::new(Facts),
        stats: Arc::new(stats),
        node_log_dir: dir.path().to_owned(),
        now: Arc::new(move || now),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let address = listener.local_addr().expect("address").to_string();
    let cancel = CancellationToken::new();
    tokio::spawn(serve_plain(listener, server.handler(), ServeOptions::default(), cancel.clone()));
    Kubelet { address, reviews: table.reviews, dir, _cancel: cancel.drop_guard() }
}

impl Kubelet {
    async fn send(&self, request: Request<Empty<Bytes>>) -> Response<Incoming> {
        let stream = TcpStream::connect(&self.address).await.expect("connect");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("handshake");
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.expect("answer")
    }

    fn request(&self, method: Method, path: &str, token: &str) -> http::request::Builder {
        let request = Request::builder().method(method).uri(path).header(header::HOST, "kubelet");
        if token.is_empty() { request } else { request.header(header::AUTHORIZATION, format!("Bearer {token}")) }
    }

    async fn ask(&self, method: Method, path: &str, token: &str) -> (u16, String) {
        let request = self.request(method, path, token).body(Empty::new()).expect("request");
        let response = self.send(request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }
}

#[tokio::test]
async fn answers_by_path_and_user() {
    let kubelet = kubelet().await;
    let forbidden = "Forbidden (user=scraper, verb=get, resource=nodes, subresource(s)=[pods proxy])\n";
    for (method, path, token, status, body) in [
        (Method::GET, "/healthz", "", 401, "Unauthorized"),
        (Method::GET, "/healthz", "wrong", 401, "Unauthorized"),
        (Method::GET, "/no/such/path", "", 401, "Unauthorized"),
        (Method::GET, "/pods", "scraper", 403, forbidden),
        (Method::GET, "/healthz", "admin", 200, "ok"),
        (Method::GET, "/no/such/path", "admin", 404, "404 page not found\n"),
        (
            Method::GET,
            "/runningpods/",
            "admin",
            200,
            r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[]}"#,
        ),
        (Method::GET, "/configz", "admin", 200, r#"{"kubeletconfig":{"clusterDomain":"cluster.local"}}"#),
        (Method::GET, "/logs/messages", "admin", 404, "404 page not found\n"),
        (Method::GET, "/containerLogs/ns/web/c", "admin", 200, "hello\noops\n"),
        (Method::GET, "/containerLogs/ns/web/c?tailLines=1", "admin", 200, "oops\n"),
        (Method::GET, "/containerLogs/ns/web/c?tailLines=-1", "admin", 422, r#"{"message": "Invalid request."}"#),
        (Method::GET, "/containerLogs/ns/none/c", "admin", 404, "pod \"none\" does not exist"),
        (Method::GET, "/containerLogs/ns/web/x", "admin", 404, "container \"x\" not found in pod \"web\""),
        (
            Method::GET,
            "/containerLogs/ns/web/c?previous=true",
            "admin",
            400,
            "previous terminated container \"c\" in pod \"web\" not found",
        ),
        (Method::POST, "/run/ns/web/c?cmd=true", "admin", 200, "ran"),
        (Method::POST, "/run/ns/web/c?cmd=false", "admin", 500, "command terminated with exit code 1"),
        (Method::POST, "/exec/ns/web/c", "admin", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        (Method::POST, "/exec/ns/web/u2/c?output=1", "admin", 404, "pod ns/web does not exist"),
        (Method::POST, "/attach/ns/web/c?output=1", "admin", 500, "rpc error: code = Unavailable desc = gone"),
    ] {
        let (got, text) = kubelet.ask(method.clone(), path, token).await;
        assert_eq!((got, text.as_str()), (status, body), "{method} {path} as {token:?}");
    }
    let (status, pods) = kubelet.ask(Method::GET, "/pods", "admin").await;
    let pods: serde_json::Value = serde_json::from_str(&pods).expect("a PodList");
    assert_eq!((status, &pods["items"][0]["metadata"]["name"]), (200, &"web".into()));
}

#[tokio::test]
async fn answers_are_kept_for_a_while() {
    let kubelet = kubelet().await;
    for _ in 0..3 {
        assert_eq!(kubelet.ask(Method::GET, "/healthz", "admin").await.0, 200);
        assert_eq!(kubelet.ask(Method::GET, "/healthz", "nobody").await.0, 401);
    }
    // One token review and one access review for admin, one token review for nobody.
    assert_eq!(kubelet.reviews.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn metrics_and_summary() {
    let kubelet = kubelet().await;
    let (status, text) = kubelet.ask(Method::GET, "/metrics/resource", "scraper").await;
    assert_eq!(status, 200);
    let time = "2026-01-02T03:05:00Z".parse::<Timestamp>().expect("time").as_millisecond();
    for line in [
        format!("container_cpu_usage_seconds_total{{container=\"c\",namespace=\"ns\",pod=\"web\"}} 2.5 {time}"),
        format!("container_memory_working_set_bytes{{container=\"c\",namespace=\"ns\",pod=\"web\"}} 4096 {time}"),
        "# TYPE container_cpu_usage_seconds_total counter".to_owned(),
        "resource_scrape_error 0".to_owned(),
    ] {
        assert!(text.lines().any(|present| present == line), "{line}\nnot in\n{text}");
    }
    let (status, text) = kubelet.ask(Method::GET, "/metrics/cadvisor", "scraper").await;
    assert_eq!(status, 200);
    assert!(text.contains("container_memory_working_set_bytes{container=\"c\",namespace=\"ns\",pod=\"web\"} 4096\n"));
    assert_eq!(kubelet.ask(Method::GET, "/stats/summary", "scraper").await.0, 403);
    let (_, text) = kubelet.ask(Method::GET, "/stats/summary", "admin").await;
    let summary: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let pod = &summary["pods"][0];
    assert_eq!(pod["podRef"], serde_json::json!({"name": "web", "namespace": "ns", "uid": "u1"}));
    assert_eq!(pod["containers"][0]["memory"]["workingSetBytes"], 4096);
    assert!(pod["containers"][0]["logs"]["usedBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{pod}");
    assert_eq!(summary["node"]["nodeName"], "n1");
    assert_eq!(summary["node"]["runtime"]["imageFs"]["usedBytes"], 42);
    assert!(summary["node"]["fs"]["capacityBytes"].as_u64().is_some_and(|bytes| bytes > 0));
    assert!(kubelet.dir.path().exists());
}

#[tokio::test]
async fn streams_pass_through_unread() {
    let kubelet = kubelet().await;
    for (path, first) in [
        ("/exec/ns/web/c?command=sh&command=x&input=1&output=1&error=1&tty=1", "/exec/sh-x"),
        ("/portForward/ns/web", "/ports/0"),
    ] {
        let request = kubelet
            .request(Method::POST, path, "admin")
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "SPDY/3.1")
            .body(Empty::new())
            .expect("request");
        let mut response = kubelet.send(request).await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS, "{path}");
        assert_eq!(response.headers()["X-Stream-Protocol-Version"], "v4.channel.k8s.io");
        let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.expect("upgrade"));
        let mut greeting = vec![0; first.len()];
        io.read_exact(&mut greeting).await.expect("greeting");
        assert_eq!(String::from_utf8_lossy(&greeting), first);
        let bytes: Vec<u8> = (0..=255).collect();
        io.write_all(&bytes).await.expect("write");
        let mut echoed = vec![0; 256];
        io.read_exact(&mut echoed).await.expect("echo");
        assert_eq!(echoed, bytes);
    }
    let plain = kubelet.ask(Method::POST, "/exec/ns/web/c?command=sh&input=1", "admin").await;
    assert_eq!(plain.0, 400, "{plain:?}");
}

#[test]
fn paths_as_subresources_of_the_node() {
    for (method, path, expect) in [
        (Method::GET, "/pods", "get pods,proxy"),
        (Method::GET, "/pods/", "get pods,proxy"),
        (Method::GET, "/runningpods/", "get pods,proxy"),
        (Method::GET, "/healthz/syncloop", "get healthz,proxy"),
        (Method::GET, "/configz", "get configz,proxy"),
        (Method::GET, "/stats/summary", "get stats"),
        (Method::GET, "/metrics/cadvisor", "get metrics"),
        (Method::GET, "/logs/x", "get log"),
        (Method::POST, "/checkpoint/ns/p/c", "create checkpoint"),
        (Method::GET, "/containerLogs/ns/p/c", "get proxy"),
        (Method::POST, "/exec/ns/p/c", "create proxy"),
        (Method::GET, "/podsandmore", "get proxy"),
        (Method::HEAD, "/pods", " pods,proxy"),
        (Method::DELETE, "/x", "delete proxy"),
    ] {
        let list = attributes(&method, path);
        let names: Vec<&str> = list.iter().map(|attributes| attributes.subresource).collect();
        assert_eq!(format!("{} {}", list[0].verb, names.join(",")), expect, "{method} {path}");
    }
}
