//! The orderly end of a server that has connections: whoever has been taken gets a whole answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use net::{
    https::{HttpsClient, HttpsOptions},
    server::{Handler, ServeOptions, serve_tls},
    tls::{ClientTls, Identity, Pem, ServerTls, Trust, server_config},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::harness::Harness;

const SOON: Duration = Duration::from_secs(10);
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A server behind a listener; everybody is the administrator.
struct Listening {
    harness: Harness,
    serving: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    port: u16,
}

impl Listening {
    async fn start() -> Listening {
        let harness = Harness::start().await;
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let identity =
            Identity { certificate: Pem::inline(key.cert.pem()), key: Pem::inline(key.signing_key.serialize_pem()) };
        let tls = server_config(ServerTls { identity, client_cas: Vec::<Pem>::new() }).expect("TLS");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (server, admin) = (harness.server.clone(), harness.admin.clone());
        let handler: Handler = Arc::new(move |mut request| {
            request.extensions_mut().insert(admin.clone());
            // As a slow authorization or admission would take its time.
            let answer = server.handle(request.map(|body| body.map_err(Into::into).boxed_unsync()));
            async move {
                sleep(Duration::from_millis(5)).await;
                answer.await
            }
            .boxed()
        });
        let serving = CancellationToken::new();
        let options = ServeOptions { drain: SOON, ..ServeOptions::default() };
        let task = tokio::spawn(serve_tls(listener, tls, handler, options, serving.clone()));
        Listening { harness, serving, task, port }
    }

    fn tls() -> ClientTls {
        ClientTls { trust: Trust::AnyCertificate, identity: None, server_name: None }
    }

    fn client(&self) -> HttpsClient {
        HttpsClient::new(HttpsOptions::new("127.0.0.1", self.port, Listening::tls())).expect("a client")
    }

    /// What the binary does after SIGTERM.
    async fn end(&mut self) {
        self.harness.server.leave().await;
        self.serving.cancel();
        self.harness.server.end_watches();
        timeout(SOON, &mut self.task).await.expect("the end").expect("no panic");
        self.harness.stop().cancel();
    }
}

/// Writes and lists until the server refuses to take more; gives how many whole answers there were.
async fn work(client: HttpsClient, worker: usize, ending: Arc<AtomicBool>, under_way: Arc<AtomicUsize>) -> usize {
    let mut whole = 0;
    for n in 0.. {
        let body = json!({"metadata": {"name": format!("m-{worker}-{n}")}, "data": {"fill": "x".repeat(4000)}});
        let write =
            Request::post(MAPS).header(header::CONTENT_TYPE, "application/json").body(net::full(body.to_string()));
        for request in [write.expect("a request"), Request::get(MAPS).body(net::empty()).expect("a request")] {
            under_way.fetch_add(1, Ordering::SeqCst);
            let answer = client.send(request).await;
            // Nothing was answered: this one was not taken any more.
            let Ok(answer) = answer else {
                assert!(ending.load(Ordering::SeqCst), "refused before the end: {answer:?}");
                return whole;
            };
            let status = answer.status();
            let bytes = answer.into_body().collect().await.expect("an answer that began is whole").to_bytes();
            let _: Value = serde_json::from_slice(&bytes).expect("whole JSON");
            assert!(matches!(status, StatusCode::OK | StatusCode::CREATED), "{status}: {bytes:?}");
            whole += 1;
        }
    }
    whole
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_get_whole_answers() {
    let mut server = Listening::start().await;
    let ending = Arc::new(AtomicBool::new(false));
    let under_way = Arc::new(AtomicUsize::new(0));
    // Half of them share an HTTP/2 connection, the others have one each.
    let shared = server.client();
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let client = if worker % 2 == 0 { shared.clone() } else { server.client() };
            tokio::spawn(work(client, worker, ending.clone(), under_way.clone()))
        })
        .collect();
    let watching = server.client();
    let watch = watching.send(Request::get(format!("{MAPS}?watch=1")).body(net::empty()).expect("a request")).await;
    let mut watch = watch.expect("a watch").into_body();
    sleep(Duration::from_millis(500)).await;
    assert!(under_way.load(Ordering::SeqCst) > 16);
    ending.store(true, Ordering::SeqCst);
    server.end().await;
    let mut answers = 0;
    for worker in workers {
        answers += timeout(SOON, worker).await.expect("the worker's end").expect("no torn answer");
    }
    assert!(answers > 16, "{answers}");

    // The watch has an end, not a break, and every event is whole.
    let mut events = Vec::new();
    while let Some(frame) = timeout(SOON, watch.frame()).await.expect("the watch's end") {
        events.extend_from_slice(&frame.expect("an orderly end").into_data().unwrap_or_default());
    }
    assert!(events.ends_with(b"\n"));
    for line in events.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let _: Value = serde_json::from_slice(line).expect("a whole event");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_request_of_http_1_is_finished_and_its_watch_has_an_end() {
    let mut server = Listening::start().await;
    let client = || HttpsClient::new(HttpsOptions::new("127.0.0.1", server.port, Listening::tls())).expect("a client");
    let (slow, watching) = (client(), client());
    let mut slow = slow.dial().await.expect("a connection");
    let body = json!({"metadata": {"name": "slow"}}).to_string();
    let head = format!(
        "POST {MAPS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    slow.write_all(head.as_bytes()).await.expect("sent");
    let mut watch = watching.dial().await.expect("a connection");
    watch.write_all(format!("GET {MAPS}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("sent");
    sleep(Duration::from_millis(200)).await;
    let ((), told) = tokio::join!(server.end(), async {
        sleep(Duration::from_millis(300)).await;
        slow.write_all(body.as_bytes()).await.expect("sent");
        let mut told = String::new();
        timeout(SOON, slow.read_to_string(&mut told)).await.expect("an end").expect("an answer");
        told
    });
    assert!(told.starts_with("HTTP/1.1 201 Created\r\n") && told.contains("\"name\":\"slow\""), "{told}");
    let mut events = String::new();
    timeout(SOON, watch.read_to_string(&mut events)).await.expect("an end").expect("events");
    assert!(events.ends_with("\r\n0\r\n\r\n"), "not the last chunk: {events:?}");
}
