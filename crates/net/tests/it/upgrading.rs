//! Upgrades through a proxy, from end to end.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use net::{
    PeerCertificate,
    https::HttpsClient,
    server::Handler,
    tls::{ClientTls, ReloadingClientConfig, Trust, client_config, dial_tls},
    upgrade, ws,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::{
    pki::{Authority, identity},
    setup::{SOON, client, handler, read_head, start, text},
};

/// Switches to a protocol that sends back what it gets, and `bye` at the end; `/refuse` answers 403.
fn upstream() -> Handler {
    handler(|mut request| async move {
        if request.uri().path() == "/refuse" {
            let mut response = text("not you");
            *response.status_mut() = StatusCode::FORBIDDEN;
            return response;
        }
        let seen = format!(
            "{} {} {} {:?} {:?}",
            request.method(),
            request.uri(),
            request.extensions().get::<PeerCertificate>().map_or("anonymous", |peer| &peer.common_name),
            request.headers().get(header::AUTHORIZATION),
            request.headers().get("x-stream-protocol-version"),
        );
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgraded.await.unwrap());
            let mut buffer = [0; 1024];
            loop {
                match stream.read(&mut buffer).await.unwrap() {
                    0 => break,
                    count => stream.write_all(&buffer[..count]).await.unwrap(),
                }
            }
            stream.write_all(b"bye").await.unwrap();
            stream.shutdown().await.unwrap();
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "SPDY/3.1")
            .header("x-seen", seen)
            .body(net::empty())
            .unwrap()
    })
}

/// Passes upgrades on to `/node` + path of `upstream`, as the user `apiserver`.
fn proxy(upstream: SocketAddr, tls: std::sync::Arc<ReloadingClientConfig>) -> Handler {
    handler(move |request| {
        let tls = tls.clone();
        async move {
            let path = match request.uri().path() {
                "/refuse" => "/refuse".to_owned(),
                path => format!("/node{path}?stdin=1"),
            };
            let uri = format!("https://{upstream}{path}").parse().unwrap();
            let headers = HeaderMap::from_iter([(header::USER_AGENT, HeaderValue::from_static("apiserver"))]);
            let dial = async move { dial_tls("127.0.0.1", upstream.port(), &tls).await };
            upgrade::proxy(request, dial, uri, headers).await
        }
    })
}

async fn proxied(authority: &Authority) -> (crate::setup::Server, crate::setup::Server, HttpsClient) {
    let upstream = start(authority, upstream()).await;
    let apiserver = Some(identity(authority.client("apiserver", &[])));
    let trust = Trust::Bundle(authority.bundle());
    let tls = client_config(ClientTls { trust, identity: apiserver, server_name: None }).unwrap();
    let front = start(authority, proxy(upstream.address, tls)).await;
    let user = client(front.address, authority, None);
    (upstream, front, user)
}

#[tokio::test]
async fn an_upgrade_is_passed_on_and_bytes_flow_until_both_sides_end() {
    let authority = Authority::new("cluster");
    let (_upstream, _front, user) = proxied(&authority).await;
    let mut stream = user.dial().await.unwrap();
    let request = "POST /exec HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: SPDY/3.1\r\n\
                   Authorization: Bearer secret\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await.to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("upgrade: spdy/3.1\r\n"), "{head}");
    let seen = "x-seen: post /node/exec?stdin=1 apiserver none some(\"v4.channel.k8s.io\")\r\n";
    assert!(head.contains(seen), "{head}");

    let sent: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = sent.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&sending).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    timeout(SOON, read.read_to_end(&mut received)).await.expect("the end was not passed on").unwrap();
    writer.await.unwrap();
    assert_eq!(received.len(), sent.len() + 3);
    assert!(received.starts_with(&sent) && received.ends_with(b"bye"));
}

#[tokio::test]
async fn a_refusal_comes_back_with_its_body_and_a_dead_upstream_is_a_bad_gateway() {
    let authority = Authority::new("cluster");
    let (upstream, _front, user) = proxied(&authority).await;
    let ask = |path: &'static str, user: HttpsClient| async move {
        let mut stream = user.dial().await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        let length =
            head.to_lowercase().split_once("content-length: ").unwrap().1.split_once('\r').unwrap().0.parse().unwrap();
        let mut body = vec![0; length];
        timeout(SOON, stream.read_exact(&mut body)).await.unwrap().unwrap();
        let answer = format!("{head}{}", String::from_utf8(body).unwrap());
        answer
    };
    let refused = ask("/refuse", user.clone()).await;
    assert!(refused.starts_with("HTTP/1.1 403 ") && refused.ends_with("not you"), "{refused}");
    upstream.cancel.cancel();
    upstream.task.await.unwrap();
    let dead = ask("/exec", user).await;
    assert!(dead.starts_with("HTTP/1.1 502 ") && dead.contains("cannot connect"), "{dead}");
}

#[tokio::test]
async fn an_upgrade_goes_to_a_unix_socket_and_ordinary_requests_do_not() {
    let authority = Authority::new("cluster");
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("streaming.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("GET /attach/token HTTP/1.1\r\n"), "{head}");
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nhi")
            .await
            .unwrap();
    });
    let handle = handler(move |request| {
        let dial = tokio::net::UnixStream::connect(socket.clone());
        upgrade::proxy(request, dial, "/attach/token".parse().unwrap(), HeaderMap::new())
    });
    let server = start(&authority, handle).await;
    let user = client(server.address, &authority, None);
    assert_eq!(crate::setup::get(&user, "/").await.unwrap().0, StatusCode::BAD_REQUEST);
    let mut stream = user.dial().await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n").await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    let mut rest = String::new();
    timeout(SOON, stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, "hi");
}

/// What `kubectl port-forward` does: a WebSocket whose binary messages are a byte stream.
#[tokio::test]
async fn bytes_are_tunnelled_through_a_websocket() {
    let authority = Authority::new("cluster");
    let handle = handler(|mut request| async move {
        match ws::accept(&mut request, &[ws::PORT_FORWARD_TUNNEL]) {
            Err(error) => {
                let mut response = text(error.to_string());
                *response.status_mut() = StatusCode::BAD_REQUEST;
                response
            }
            Ok(accepted) => {
                assert_eq!(accepted.protocol.as_deref(), Some(ws::PORT_FORWARD_TUNNEL));
                let (response, tunnel) = accepted.tunnel();
                tokio::spawn(async move {
                    let (mut read, mut write) = tokio::io::split(tunnel.await.unwrap());
                    tokio::io::copy(&mut read, &mut write).await.unwrap();
                    write.shutdown().await.unwrap();
                });
                response
            }
        }
    });
    let server = start(&authority, handle).await;
    let user = client(server.address, &authority, None);
    let ask = |protocols: &'static str| {
        let mut request = format!("wss://{}/portforward", server.address).into_client_request().unwrap();
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocols));
        request
    };
    assert!(client_async(ask("v4.channel.k8s.io"), user.dial().await.unwrap()).await.is_err());

    let request = ask("other, SPDY/3.1+portforward.k8s.io");
    let (socket, response) = client_async(request, user.dial().await.unwrap()).await.unwrap();
    assert_eq!(response.headers()[header::SEC_WEBSOCKET_PROTOCOL], ws::PORT_FORWARD_TUNNEL);
    let sent: Vec<u8> = (0..100_000u32).map(|n| (n * 7) as u8).collect();
    let (mut sink, mut stream) = socket.split();
    for part in sent.chunks(777) {
        sink.send(Message::binary(part.to_vec())).await.unwrap();
    }
    let mut received = Vec::new();
    while received.len() < sent.len() {
        match timeout(SOON, stream.next()).await.unwrap().unwrap().unwrap() {
            Message::Binary(bytes) => received.extend_from_slice(&bytes),
            other => panic!("{other:?}"),
        }
    }
    assert!(received == sent);
    sink.send(Message::Close(None)).await.unwrap();
    assert!(matches!(timeout(SOON, stream.next()).await.unwrap(), Some(Ok(Message::Close(_)))));
}
