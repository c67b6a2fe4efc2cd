//! Clients that mean harm or do not care: silent, slow, half-open, deaf, and thousands of idle ones. The server tells them
//! so in time and goes on serving others.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use client::{Api, Client, ListParams, kinds::core::v1::ConfigMap};
use futures_util::{StreamExt, future::join_all};
use http::Method;
use net::https::HttpsClient;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::control_plane::ControlPlane;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// What a healthy server needs at most for a small answer on a loaded machine.
const SOON: Duration = Duration::from_secs(5);

/// Resident memory in MiB.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a size");
    line.split_whitespace().nth(1).and_then(|size| size.parse::<u64>().ok()).expect("a number") >> 10
}

async fn serves(client: &Client, while_what: &str) {
    let begin = Instant::now();
    let answer = timeout(SOON, client.raw(Method::GET, MAPS, None, Bytes::new())).await;
    answer.unwrap_or_else(|_| panic!("no answer in time {while_what}")).expect("an answer");
    println!("{while_what}: answered in {:?}", begin.elapsed());
}

/// A raw connection as the administrator.
fn dialler(server: &ControlPlane) -> HttpsClient {
    let kubeconfig = client::kubeconfig::load(server.kubeconfig()).expect("a kubeconfig");
    HttpsClient::new(kubeconfig.https_options().expect("options")).expect("a client")
}

async fn create(client: &Client, name: &str, data: &str) {
    let object = json!({"metadata": {"name": name}, "data": {"value": data}}).to_string();
    client.raw(Method::POST, MAPS, Some("application/json"), object.into()).await.expect("created");
}

/// Connections that say nothing, stop in the middle of a handshake, of a head, of a body.
async fn half_open(server: &ControlPlane, client: &Client) {
    let mut silent = Vec::new();
    for number in 0..300 {
        let mut tcp = TcpStream::connect(("127.0.0.1", server.port)).await.expect("connected");
        if number % 2 == 0 {
            tcp.write_all(b"\x16\x03\x01\x02\x00\x01").await.expect("written");
        }
        silent.push(tcp);
    }
    serves(client, "with 300 connections without a handshake").await;
    let dialler = dialler(server);
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut tls = dialler.dial().await.expect("connected");
        tls.write_all(b"GET /version HTTP/1.1\r\nHost: a\r\nX-Slow: ").await.expect("written");
        slow.push(tls);
        let mut tls = dialler.dial().await.expect("connected");
        let head = format!(
            "POST {MAPS} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
        );
        tls.write_all(head.as_bytes()).await.expect("written");
        slow.push(tls);
    }
    serves(client, "with 100 requests that never end").await;
    // Handshakes are given up after 10 s, bodies after 60, heads after 90.
    let closed =
        timeout(Duration::from_secs(30), join_all(silent.iter_mut().map(|tcp| async { tcp.read(&mut [0; 64]).await })));
    closed.await.expect("connections without a handshake are closed");
    let ends = slow.into_iter().map(|mut tls| async move {
        let mut answer = Vec::new();
        // How it ends does not matter, that it ends does.
        let _ = tls.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    });
    let answers = timeout(Duration::from_secs(170), join_all(ends)).await.expect("slow requests are ended");
    let timed_out =
        answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 504") && answer.contains("\"Timeout\""));
    assert_eq!(
        timed_out.count(),
        50,
        "a body that does not come is answered: {:?}",
        answers.iter().find(|answer| !answer.is_empty())
    );
}

/// Bytes that are no TLS, no HTTP, no end.
async fn nonsense(server: &ControlPlane, client: &Client) {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096], b"\x16\x03\x01\xff\xff", &[0xff; 70_000]] {
        let mut tcp = TcpStream::connect(("127.0.0.1", server.port)).await.expect("connected");
        // The server may end it before all is written.
        let _ = tcp.write_all(bytes).await;
        let _ = timeout(SOON, tcp.read(&mut [0; 64])).await;
    }
    let dialler = dialler(server);
    let endless = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(200_000));
    for text in [
        "\0\0\0\0\r\n\r\n",
        "GET /%zz%ff%00/../.. HTTP/1.1\r\nHost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense",
        &endless,
    ] {
        let mut tls = dialler.dial().await.expect("connected");
        let _ = tls.write_all(text.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = timeout(SOON, tls.read_to_end(&mut answer)).await;
        assert!(!String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 5"), "{}", String::from_utf8_lossy(&answer));
    }
    serves(client, "after nonsense").await;
}

/// Thousands of watches, idle but for one event that each must get; their price in memory.
async fn idle_watches(server: &ControlPlane, client: &Client) {
    const WATCHES: usize = 3000;
    let before = memory(server.pid());
    let maps: Api<ConfigMap> = client.namespaced("default");
    let version = maps.list(&ListParams::default()).await.expect("a list").resource_version;
    let everything = ListParams::default();
    let opened = join_all((0..WATCHES).map(|_| maps.watch(&everything, &version, 600))).await;
    let mut watches: Vec<_> = opened.into_iter().map(|watch| watch.expect("a watch").boxed()).collect();
    serves(client, "with 3,000 idle watches").await;
    let after = memory(server.pid());
    println!("{WATCHES} watches: {before} MiB before, {after} MiB with them");
    assert!(after < before + 200, "{before} MiB grew to {after} MiB");
    let begin = Instant::now();
    create(client, "seen-by-all", "once").await;
    let seen = join_all(watches.iter_mut().map(|watch| async { timeout(Duration::from_secs(30), watch.next()).await }));
    for event in seen.await {
        event.expect("an event in time").expect("an event").expect("no error");
    }
    println!("an event reached {WATCHES} watches within {:?}", begin.elapsed());
}

/// A watch whose client never reads must cost neither memory without end nor others their events.
async fn deaf_watch(server: &ControlPlane, client: &Client) {
    let before = memory(server.pid());
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut tls = dialler(server).dial().await.expect("connected");
        tls.write_all(format!("GET {MAPS}?watch=1 HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.expect("written");
        deaf.push(tls);
    }
    let data = "x".repeat(500_000);
    for round in 0..200 {
        let object = json!({"data": {"value": data, "round": round.to_string()}}).to_string();
        let path = format!("{MAPS}/seen-by-all");
        client.raw(Method::PATCH, &path, Some("application/merge-patch+json"), object.into()).await.expect("patched");
    }
    serves(client, "with 20 watches that nobody reads and 100 MB of changes").await;
    let after = memory(server.pid());
    println!("deaf watches: {before} MiB before, {after} MiB after");
    assert!(after < before + 300, "{before} MiB grew to {after} MiB");
}

/// An answer's code and Status to one request with these credentials.
async fn ask(server: &ControlPlane, authorization: Option<&str>, identity: Option<net::tls::Identity>) -> (u16, Value) {
    let kubeconfig = client::kubeconfig::load(server.kubeconfig()).expect("a kubeconfig");
    let mut options = kubeconfig.https_options().expect("options");
    options.tls.identity = identity;
    let https = HttpsClient::new(options).expect("a client");
    let mut request = http::Request::get(MAPS);
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let response = https.send(request.body(net::empty()).expect("a request")).await.expect("an answer");
    let code = response.status().as_u16();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.expect("a body").to_bytes();
    (code, serde_json::from_slice(&body).expect("a Status"))
}

/// A certificate of somebody else's authority, for the name that may do everything here.
fn foreign(folder: &Path) -> net::tls::Identity {
    let run = |arguments: &str| {
        let output = std::process::Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
        assert!(output.expect("openssl runs").status.success(), "openssl {arguments}");
    };
    run(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout foreign.key -out foreign.crt -days 2 -subj /O=system:masters/CN=admin",
    );
    net::tls::Identity::files(folder.join("foreign.crt"), folder.join("foreign.key"))
}

/// Tokens and certificates that are worth nothing.
async fn wrong_credentials(server: &ControlPlane, client: &Client) {
    let token = json!({"spec": {"expirationSeconds": 600}}).to_string();
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let answer = client.raw(Method::POST, path, Some("application/json"), token.into()).await.expect("a token");
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    let good = answer["status"]["token"].as_str().expect("a token");
    let (head, rest) = good.split_once('.').expect("a JWT");
    let (claims, signature) = rest.split_once('.').expect("a JWT");
    let unsigned = "eyJhbGciOiJub25lIn0";
    let bearers = [
        "Bearer nonsense".to_owned(),
        "Bearer a.b.c".to_owned(),
        format!("Bearer {head}.{claims}."),
        format!("Bearer {unsigned}.{claims}."),
        format!("Bearer {unsigned}.{claims}.{signature}"),
        format!("Bearer {head}.{claims}.{}", signature.chars().rev().collect::<String>()),
        format!("Bearer {}", "a".repeat(30_000)),
        "Basic YWRtaW46YWRtaW4=".to_owned(),
        "Bearer".to_owned(),
    ];
    for bearer in &bearers {
        let (code, status) = ask(server, Some(bearer), None).await;
        assert_eq!((code, &status["reason"]), (401, &json!("Unauthorized")), "{bearer}: {status}");
    }
    let (code, status) = ask(server, Some(&format!("Bearer {good}")), None).await;
    assert_eq!((code, &status["reason"]), (403, &json!("Forbidden")), "a good token is somebody: {status}");
    let (code, status) = ask(server, None, None).await;
    assert_eq!((code, &status["reason"]), (403, &json!("Forbidden")), "nobody is refused: {status}");
    let (code, status) = ask(server, None, Some(foreign(server.folder.path()))).await;
    assert_eq!((code, &status["reason"]), (401, &json!("Unauthorized")), "a stranger's certificate: {status}");
    client
        .raw(Method::DELETE, "/api/v1/namespaces/default/serviceaccounts/default", None, Bytes::new())
        .await
        .expect("deleted");
    let (code, status) = ask(server, Some(&format!("Bearer {good}")), None).await;
    assert_eq!((code, &status["reason"]), (401, &json!("Unauthorized")), "a token outlives its account: {status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_clients_harm_themselves_alone() {
    let mut server = ControlPlane::new(1);
    let client = server.start().await;
    crate::control_plane::until_default_account(&client).await;
    wrong_credentials(&server, &client).await;
    nonsense(&server, &client).await;
    idle_watches(&server, &client).await;
    deaf_watch(&server, &client).await;
    half_open(&server, &client).await;
    let log = std::fs::read_to_string(server.log()).expect("a log");
    assert!(!log.contains("panicked"), "{log}");
}
