//! What flows through the server to backends: proxies to pods over TLS, and logs through WebSockets.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use apiserver::{Config, KubeletAccess};
use futures_util::FutureExt;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use net::{
    Body,
    https::{HttpsClient, HttpsOptions},
    server::{Handler, ServeOptions, serve_tls},
    tls::{ClientTls, Identity, Pem, ServerTls, Trust, client_config, server_config},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::harness::{self, Harness};

const SOON: Duration = Duration::from_secs(10);
const PODS: &str = "/api/v1/namespaces/default/pods";

/// A server with a certificate that nobody trusts.
async fn serve(handler: Handler) -> SocketAddr {
    let key = rcgen::generate_simple_self_signed(["somebody".to_owned()]).expect("certificate");
    let identity = Identity {
        certificate: Pem::Inline(key.cert.pem().into_bytes().into()),
        key: Pem::Inline(key.signing_key.serialize_pem().into_bytes().into()),
    };
    let tls = server_config(ServerTls { identity, client_cas: Vec::new() }).expect("configuration");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let address = listener.local_addr().expect("address");
    tokio::spawn(serve_tls(listener, tls, handler, ServeOptions::default(), CancellationToken::new()));
    address
}

fn any_certificate() -> ClientTls {
    ClientTls { trust: Trust::AnyCertificate, identity: None, server_name: None }
}

/// What a pod and a kubelet answer here: their path, or bytes after an upgrade.
async fn backend(mut request: Request<Incoming>) -> Response<Body> {
    if net::upgrade::requested(request.headers()).is_none() {
        let path = request.uri().to_string();
        let host = request.headers()[header::HOST].to_str().expect("text");
        return match &*path {
            "/moved" => {
                Response::builder().status(StatusCode::FOUND).header(header::LOCATION, "/there").body(net::empty())
            }
            "/page" => Response::builder()
                .header(header::CONTENT_TYPE, "text/html; charset=utf-8")
                .body(net::full(format!("<a href='/x'>/x</a> {host} {:?}", request.headers()["x-forwarded-uri"]))),
            missing if missing.contains("/missing") => {
                Response::builder().status(StatusCode::NOT_FOUND).body(net::full(path))
            }
            _ => Response::builder().body(net::full(path)),
        }
        .expect("answer");
    }
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = hyper_util::rt::TokioIo::new(upgraded.await.expect("upgraded"));
        stream.write_all(b"spoken").await.expect("written");
    });
    let answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).header(header::CONNECTION, "Upgrade");
    answer.header(header::UPGRADE, "test").body(net::empty()).expect("answer")
}

/// A server with pod `p` on a node, both of them behind `backend`, and its front on a port.
async fn start() -> (Arc<Harness>, u16, HttpsClient) {
    let port = serve(Arc::new(|request| backend(request).boxed())).await.port();
    let kubelet = KubeletAccess { tls: client_config(any_certificate()).expect("configuration") };
    let server = Arc::new(Harness::with(Config { kubelet: Some(kubelet), ..harness::config() }).await);
    let node = json!({"metadata": {"name": "n"}, "status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    server.post("/api/v1/nodes", &node.to_string()).await;
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    server.post(PODS, &pod.to_string()).await;
    let (code, pod) = server.patch(&format!("{PODS}/p/status"), "merge", r#"{"status":{"podIP":"127.0.0.1"}}"#).await;
    assert_eq!(code, StatusCode::OK, "{pod}");
    let handled = server.clone();
    let front = serve(Arc::new(move |request: Request<Incoming>| {
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(handled.admin.clone());
        handled.server.handle(Request::from_parts(parts, body.map_err(Into::into).boxed_unsync()))
    }))
    .await;
    let client = HttpsClient::new(HttpsOptions::new(front.ip().to_string(), front.port(), any_certificate()));
    (server, port, client.expect("client"))
}

async fn get(client: &HttpsClient, path: &str) -> (StatusCode, String) {
    let answer = client.send(Request::get(path).body(net::empty()).expect("request")).await.expect("answer");
    let code = answer.status();
    let body = answer.into_body().collect().await.expect("body").to_bytes();
    (code, String::from_utf8_lossy(&body).into_owned())
}

/// Sends `lines` as an upgrade, and reads `count` bytes behind the answer's head.
async fn upgrade(client: &HttpsClient, path: &str, lines: &str, count: usize) -> (String, Vec<u8>) {
    let mut stream = client.dial().await.expect("connection");
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n{lines}\r\n");
    stream.write_all(head.as_bytes()).await.expect("written");
    let read = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("head"));
        }
        let mut rest = vec![0; count];
        stream.read_exact(&mut rest).await.expect("rest");
        (String::from_utf8_lossy(&head).to_lowercase(), rest)
    };
    timeout(SOON, read).await.expect("in time")
}

#[tokio::test]
async fn pods_and_services_are_reached_over_tls_that_nobody_vouches_for() {
    let (server, port, client) = start().await;
    let path = format!("{PODS}/https:p:{port}/proxy/some/where?x=1");
    assert_eq!(get(&client, &path).await, (StatusCode::OK, "/some/where?x=1".into()));
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "tls", "port": 443}]}});
    server.post("/api/v1/namespaces/default/services", &service.to_string()).await;
    // Endpoints may not be in the loopback range, where this test's are.
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "s", "namespace": "default",
        "uid": "1"}, "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "tls", "port": port}]}]});
    server.plant("/registry/services/endpoints/default/s", &endpoints).await;
    for name in ["https:s:tls", "https:s:443", "https:s:"] {
        let path = format!("/api/v1/namespaces/default/services/{name}/proxy/a");
        assert_eq!(get(&client, &path).await, (StatusCode::OK, "/a".into()), "{name}");
    }
    let path = format!("{PODS}/https:p:{port}/proxy/up");
    let (head, said) = upgrade(&client, &path, "Upgrade: test\r\n", 6).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert_eq!(said, b"spoken");
}

#[tokio::test]
async fn logs_come_through_websockets() {
    let (_server, _, client) = start().await;
    let path = format!("{PODS}/p/log?container=c");
    let log = "/containerLogs/default/p/c?";
    let (code, plain) = get(&client, &path).await;
    assert_eq!((code, &*plain), (StatusCode::OK, log));
    let socket = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, log);
    // An empty message, the log, and a close frame with the code of a normal end.
    for (offer, opcode, payload) in [
        ("", 0x82, log),
        ("Sec-WebSocket-Protocol: other, binary.k8s.io\r\n", 0x82, log),
        ("Sec-WebSocket-Protocol: base64.binary.k8s.io, binary.k8s.io\r\n", 0x81, &encoded),
        ("Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.dG9rZW4\r\n", 0x82, log),
    ] {
        let mut expected = vec![opcode, 0, opcode, payload.len() as u8];
        expected.extend_from_slice(payload.as_bytes());
        expected.extend_from_slice(&[0x88, 2, 0x03, 0xe8]);
        let (head, frames) = upgrade(&client, &path, &format!("{socket}{offer}"), expected.len()).await;
        assert!(head.starts_with("http/1.1 101 "), "{offer}: {head}");
        assert_eq!(frames, expected, "{offer}");
        let chosen = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
        let wanted =
            offer.contains("binary").then_some(if opcode == 0x81 { "base64.binary.k8s.io" } else { "binary.k8s.io" });
        assert_eq!(chosen, wanted, "{offer}");
    }
    // What is no log is answered as ever.
    let path = format!("{PODS}/p/log?container=missing");
    let (head, _) = upgrade(&client, &path, socket, 0).await;
    assert!(head.starts_with("http/1.1 400 "), "{head}");
    let (head, _) =
        upgrade(&client, &format!("{PODS}/p/log"), &format!("{socket}Sec-WebSocket-Protocol: other\r\n"), 0).await;
    assert!(head.starts_with("http/1.1 500 "), "{head}");
}

#[tokio::test]
async fn links_of_proxied_answers_lead_through_the_proxy() {
    let (_server, port, client) = start().await;
    let prefix = format!("{PODS}/https:p:{port}/proxy");
    let request = |path: &str| Request::get(format!("{prefix}/{path}")).body(net::empty()).expect("request");
    let moved = client.send(request("moved")).await.expect("answer");
    assert_eq!(moved.status(), StatusCode::FOUND);
    assert_eq!(moved.headers()[header::LOCATION], format!("{prefix}/there"));
    let (_, page) = get(&client, &format!("{prefix}/page")).await;
    let (link, rest) = page.split_once("</a> ").expect("a link");
    assert_eq!(link, format!("<a href='{prefix}/x'>/x"));
    let (host, uri) = rest.split_once(' ').expect("a host");
    assert_ne!(host, format!("127.0.0.1:{port}"), "the host that the client asked for is passed on");
    assert_eq!(uri, format!("\"{prefix}/page\""));
}
