//! How a listener treats clients that are slow, gone or unlucky, and how it ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::StatusCode;
use net::server::{ServeOptions, serve_plain};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    pki::Authority,
    setup::{SOON, client, get, handler, start, start_with, text},
};

#[tokio::test]
async fn a_client_that_stalls_is_dropped() {
    let authority = Authority::new("cluster");
    let limit = Duration::from_millis(300);
    let options = ServeOptions { header_timeout: limit, handshake_timeout: limit, ..ServeOptions::default() };
    let server = start_with(&authority, handler(|_| async { text("served") }), options).await;

    let started = Instant::now();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let read = timeout(SOON, silent.read(&mut [0; 64])).await.expect("still open without a handshake");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert!(started.elapsed() >= limit);

    let mut loris = client(server.address, &authority, None).dial().await.unwrap();
    loris.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let mut answer = Vec::new();
    let ended = timeout(SOON, loris.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "still open without a whole head");
    assert!(!String::from_utf8_lossy(&answer).contains("served"));
}

#[tokio::test]
async fn more_connections_than_allowed_wait() {
    let authority = Authority::new("cluster");
    let options = ServeOptions { max_connections: 1, ..ServeOptions::default() };
    let server = start_with(&authority, handler(|_| async { text("served") }), options).await;
    let first = client(server.address, &authority, None).dial().await.unwrap();
    let second = client(server.address, &authority, None);
    let waiting = tokio::spawn(async move { second.dial().await.map(drop) });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    drop(first);
    timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_panic_costs_one_request_and_not_its_connection() {
    let authority = Authority::new("cluster");
    let handle = handler(|request| async move {
        assert_ne!(request.uri().path(), "/panic", "asked to");
        text(request.extensions().get::<SocketAddr>().unwrap().to_string())
    });
    let server = start(&authority, handle).await;
    let client = client(server.address, &authority, None);
    let (_, before) = get(&client, "/").await.unwrap();
    let (code, _) = get(&client, "/panic").await.unwrap();
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    let (_, after) = get(&client, "/").await.unwrap();
    assert_eq!(before, after);
}

#[tokio::test]
async fn the_end_waits_for_requests_but_not_for_ever() {
    let authority = Authority::new("cluster");
    for (hangs, drain) in [(false, SOON), (true, Duration::from_millis(200))] {
        let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let signals = (entered.clone(), leave.clone());
        let handle = handler(move |_| {
            let (entered, leave) = signals.clone();
            async move {
                entered.notify_one();
                leave.notified().await;
                text("done")
            }
        });
        let server = start_with(&authority, handle, ServeOptions { drain, ..ServeOptions::default() }).await;
        let client = client(server.address, &authority, None);
        let request = tokio::spawn(async move { get(&client, "/").await });
        entered.notified().await;
        server.cancel.cancel();
        if !hangs {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(!server.task.is_finished());
            assert!(TcpStream::connect(server.address).await.is_err(), "still listening");
            leave.notify_one();
        }
        timeout(SOON, server.task).await.expect("serving did not end").unwrap();
        let answer = request.await.unwrap();
        assert_eq!(answer.is_err(), hangs, "{answer:?}");
    }
}

#[tokio::test]
async fn plain_listeners_speak_http1() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handle = handler(|_| async { text("ok") });
    tokio::spawn(serve_plain(listener, handle, ServeOptions::default(), CancellationToken::new()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
}

#[tokio::test]
async fn an_answer_is_whole_though_its_client_still_sends() {
    const BYTES: usize = 1 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handle = handler(|_| async { text("x".repeat(BYTES)) });
    tokio::spawn(serve_plain(listener, handle, ServeOptions::default(), CancellationToken::new()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        stream.write_all(b"more than it is told").await.unwrap();
    }
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.expect("an end").expect("no reset");
    assert!(answer.len() > BYTES, "{}", answer.len());
}
