//! What a client keeps between requests, and what it reads again.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::header;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use net::{
    https::{HttpsClient, Token},
    server::ServeOptions,
    tls::{Identity, install_provider},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::TcpListener;

use crate::{
    pki::{Authority, identity},
    setup::{client, get, handler, options, serve, start, start_with, text},
};

#[tokio::test]
async fn requests_at_once_share_an_http2_connection() {
    let authority = Authority::new("cluster");
    let handle = handler(|request| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        text(format!("{:?} {}", request.version(), request.extensions().get::<SocketAddr>().unwrap()))
    });
    let server = start(&authority, handle).await;
    let client = client(server.address, &authority, None);
    let connections = |answers: Vec<Result<(http::StatusCode, String), _>>| -> BTreeSet<String> {
        answers.into_iter().map(|answer: Result<_, net::https::SendError>| answer.unwrap().1).collect()
    };
    let few = connections(join_all((0..50).map(|_| get(&client, "/"))).await);
    assert_eq!(few.len(), 1, "{few:?}");
    assert!(few.first().unwrap().starts_with("HTTP/2"));
    // Past a hundred at once there is another connection, and not one per request.
    let many = connections(join_all((0..250).map(|_| get(&client, "/"))).await);
    assert!((2..=3).contains(&many.len()), "{many:?}");
}

#[tokio::test]
async fn an_http2_connection_ends_by_chance_and_its_requests_do_not() {
    let authority = Authority::new("cluster");
    let handle = handler(|request| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        text(request.extensions().get::<SocketAddr>().unwrap().to_string())
    });
    for (goaway_chance, spread) in [(0.0, false), (1.0, true)] {
        let options = ServeOptions { goaway_chance, ..ServeOptions::default() };
        let server = start_with(&authority, handle.clone(), options).await;
        let client = client(server.address, &authority, None);
        let mut connections = BTreeSet::new();
        for _ in 0..10 {
            connections.insert(get(&client, "/").await.unwrap().1);
            // The client learns of it a moment later.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(connections.len() > 5, spread, "{connections:?}");
    }
}

#[tokio::test]
async fn http1_connections_are_used_again_and_replaced_when_closed() {
    let authority = Authority::new("cluster");
    let (certificate, key) = authority.server();
    let mut config = tokio_rustls::rustls::ServerConfig::builder_with_provider(install_provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, peer) = listener.accept().await.unwrap();
            let stream = acceptor.accept(tcp).await.unwrap();
            tokio::spawn(async move {
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| async move {
                    let mut response = text(format!("{:?} {peer}", request.version()));
                    if request.uri().path() == "/chunked" {
                        // A stream has no length that could be told first.
                        let stream = BodyStream::new(response.into_body());
                        response = http::Response::new(StreamBody::new(stream).boxed_unsync());
                    }
                    if request.uri().path() == "/last" {
                        response.headers_mut().insert(header::CONNECTION, "close".parse().unwrap());
                    }
                    Ok::<_, std::convert::Infallible>(response)
                });
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
            });
        }
    });
    let client = client(address, &authority, None);
    let mut seen = Vec::new();
    for path in ["/", "/chunked", "/last", "/"] {
        seen.push(get(&client, path).await.unwrap().1);
        // The connection returns on a task of its own.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(seen[0].starts_with("HTTP/1.1"));
    assert!(seen[0] == seen[1] && seen[1] == seen[2] && seen[2] != seen[3], "{seen:?}");
}

#[tokio::test]
async fn a_server_that_comes_back_is_reached_again() {
    let authority = Authority::new("cluster");
    let handle = handler(|_| async { text("ok") });
    let first = start(&authority, handle.clone()).await;
    let client = client(first.address, &authority, None);
    get(&client, "/").await.unwrap();
    first.cancel.cancel();
    first.task.await.unwrap();
    let error = get(&client, "/").await.unwrap_err();
    assert!(error.to_string().starts_with(&first.address.to_string()), "{error}");
    let tls = first.tls;
    let listener = TcpListener::bind(first.address).await.unwrap();
    tokio::spawn(net::server::serve_tls(listener, tls, handle, ServeOptions::default(), Default::default()));
    assert_eq!(get(&client, "/").await.unwrap().1, "ok");
}

#[tokio::test]
async fn a_new_server_certificate_is_served_without_a_restart() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let directory = tempfile::tempdir().unwrap();
    let files = Identity::files(directory.path().join("tls.crt"), directory.path().join("tls.key"));
    let write = |(certificate, key): (String, String)| {
        std::fs::write(directory.path().join("tls.crt"), certificate).unwrap();
        std::fs::write(directory.path().join("tls.key"), key).unwrap();
    };
    write(old.server());
    let server = serve(files, Vec::new(), handler(|_| async { text("ok") }), ServeOptions::default()).await;
    assert!(get(&client(server.address, &old, None), "/").await.is_ok());

    std::fs::write(directory.path().join("tls.crt"), "half a file").unwrap();
    server.tls.reload();
    assert!(get(&client(server.address, &old, None), "/").await.is_ok(), "a bad file ended the service");

    write(new.server());
    server.tls.reload();
    assert!(get(&client(server.address, &new, None), "/").await.is_ok());
    assert!(get(&client(server.address, &old, None), "/").await.is_err());
}

/// Time is stopped but for the ten seconds between two looks at the file.
#[tokio::test]
async fn a_token_file_is_read_again() {
    let authority = Authority::new("cluster");
    let handle = handler(|request| async move {
        let value = request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
        text(value.unwrap_or_default())
    });
    let server = start(&authority, handle).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let mut options = options(server.address, &authority, Some(identity(authority.client("user", &[]))));
    options.token = Some(Token::File(file.clone()));
    let client = HttpsClient::new(options).unwrap();
    assert_eq!(get(&client, "/").await.unwrap().1, "Bearer first");
    std::fs::write(&file, "the second\n").unwrap();
    assert_eq!(get(&client, "/").await.unwrap().1, "Bearer first");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    assert_eq!(get(&client, "/").await.unwrap().1, "Bearer the second");
}

/// A server that restarts while a watch keeps its last connection open: requests go to the new one meanwhile.
#[tokio::test]
async fn a_connection_that_takes_no_more_requests_is_left_to_those_it_has() {
    let authority = Authority::new("cluster");
    let release = Arc::new(tokio::sync::Notify::new());
    let released = release.clone();
    let handle = handler(move |request| {
        let released = released.clone();
        async move {
            if request.uri().path() == "/watch" {
                released.notified().await;
            }
            text("ok")
        }
    });
    let old = start(&authority, handle.clone()).await;
    let client = client(old.address, &authority, None);
    let watching = tokio::spawn({
        let client = client.clone();
        async move { get(&client, "/watch").await }
    });
    get(&client, "/").await.unwrap();
    old.cancel.cancel();
    let listener = loop {
        // The old listener is closed a moment after it is told to.
        match TcpListener::bind(old.address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    tokio::spawn(net::server::serve_tls(listener, old.tls, handle, ServeOptions::default(), Default::default()));
    for _ in 0..3 {
        assert_eq!(get(&client, "/").await.unwrap().1, "ok");
    }
    assert!(!watching.is_finished());
    release.notify_one();
    assert_eq!(watching.await.unwrap().unwrap().1, "ok");
}

#[tokio::test]
async fn a_new_client_certificate_is_shown_without_a_restart() {
    let authority = Authority::new("cluster");
    let handle = handler(|request| async move {
        text(request.extensions().get::<net::PeerCertificate>().unwrap().common_name.clone())
    });
    let server = start(&authority, handle).await;
    let directory = tempfile::tempdir().unwrap();
    let files = Identity::files(directory.path().join("tls.crt"), directory.path().join("tls.key"));
    let write = |(certificate, key): (String, String)| {
        std::fs::write(directory.path().join("tls.crt"), certificate).unwrap();
        std::fs::write(directory.path().join("tls.key"), key).unwrap();
    };
    write(authority.client("first", &[]));
    let client = HttpsClient::new(options(server.address, &authority, Some(files))).unwrap();
    assert_eq!(get(&client, "/").await.unwrap().1, "first");
    write(authority.client("second one", &[]));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    assert_eq!(get(&client, "/").await.unwrap().1, "second one");
}
