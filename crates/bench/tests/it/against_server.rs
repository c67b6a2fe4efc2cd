//! What the report counts is what the server has done.

use std::time::Duration;

use bench::{Error, Report, bare};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;

use crate::harness::{Harness, NAMESPACE};

fn row<'a>(report: &'a Report, operation: &str) -> &'a bench::Row {
    let found = report.results.iter().find(|row| row.operation == operation);
    found.unwrap_or_else(|| panic!("{operation} is not in {:?}", report.table()))
}

async fn is_gone(harness: &Harness) -> bool {
    let path = format!("/api/v1/namespaces/{NAMESPACE}");
    matches!(harness.client.raw(Method::GET, &path, None, Bytes::new()).await, Err(error) if error.is_not_found())
}

/// Each operation, so often; two rounds, and what the server counted of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_agree_with_the_servers_own() {
    let harness = Harness::start().await;
    for protocol in ["http1", "http2 --streams 2"] {
        let before = [("GET", 200), ("POST", 201), ("PUT", 200), ("PATCH", 200), ("APPLY", 200), ("DELETE", 200)];
        let mut counts = Vec::new();
        for (verb, code) in before {
            counts.push(harness.counted(verb, code).await);
        }
        let flags = "get list create update patch apply delete --count 200 --rounds 2 --connections 4 --deletes 50 \
                     --objects 20 --protocol";
        let plan = harness.plan(&format!("{flags} {protocol}"));
        let report = bench::run(plan, &CancellationToken::new()).await.expect("measured");
        assert!(report.results.iter().all(|row| row.failures.is_empty()), "{}", report.table());
        let successes =
            |operation: &str| row(&report, operation).rounds.iter().map(|round| round.successes).sum::<u64>();
        assert_eq!(successes("get 1Ki"), 400);
        assert_eq!(successes("delete 1Ki"), 100);
        // 1,000 objects twice, as the list between needs 20 of its own, and twice 50 for the deletes.
        let made = 1000 + 20 + 1000 + 2 * 50;
        let wanted = [400, 400 + made, 400, 400, 400, 100];
        for (((verb, code), before), wanted) in before.into_iter().zip(counts).zip(wanted) {
            assert_eq!(harness.counted(verb, code).await - before, wanted, "{verb} {protocol}");
        }
        let list = row(&report, "list 20 x 1Ki");
        let bytes_each = list.median.mib_per_s * 1048576.0 / list.median.throughput;
        assert!((20.0 * 1024.0..20.0 * 2048.0).contains(&bytes_each), "{bytes_each} bytes for a list");
        let get = row(&report, "get 1Ki");
        assert!(
            get.median.p50_ms > 0.0 && get.median.p50_ms <= get.median.p99_ms && get.median.p99_ms <= get.median.max_ms
        );
        assert!(get.median.server_cpu_ms.is_some() && get.median.resident_mib.is_some_and(|mib| mib > 1.0));
        assert!(is_gone(&harness).await, "the namespace is removed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watcher_gets_every_write() {
    let harness = Harness::start().await;
    for protocol in ["http1", "http2"] {
        let flags = "watch --watchers 7 --writers 2 --duration 0.5 --warm-up 0.1 --rounds 1 --sizes 1Ki --protocol";
        let plan = harness.plan(&format!("{flags} {protocol}"));
        let report = bench::run(plan, &CancellationToken::new()).await.expect("measured");
        let deliveries = row(&report, "watch 7, 1Ki: deliveries");
        let writes = row(&report, "watch 7, 1Ki: writes");
        assert!(deliveries.failures.is_empty() && writes.failures.is_empty(), "{}", report.table());
        let (deliveries, writes) = (deliveries.median.successes, writes.median.successes);
        // Those under way at the end are cut off.
        assert!(writes > 2 && deliveries.abs_diff(7 * writes) <= 14, "{deliveries} deliveries of {writes} writes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_loop_sends_what_is_due_and_a_mix_is_what_it_says() {
    let harness = Harness::start().await;
    let plan = harness.plan("mixed --rate 400 --duration 1 --warm-up 0.25 --rounds 1 --connections 8");
    let report = bench::run(plan, &CancellationToken::new()).await.expect("measured");
    let mixed = row(&report, "mixed 1Ki");
    assert!(mixed.failures.is_empty(), "{}", report.table());
    // What is due at the very beginning of the second counts or does not, by rounding.
    assert!((400..=401).contains(&mixed.median.successes), "{}", mixed.median.successes);
    let gets = harness.counted("GET", 200).await;
    assert!((370..=380).contains(&gets), "{gets} of 500 are 75%");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletecollection_is_one_request_that_leaves_nothing() {
    let harness = Harness::start().await;
    let plan = harness.plan("deletecollection --objects 300 --rounds 2");
    let report = bench::run(plan, &CancellationToken::new()).await.expect("measured");
    let row = row(&report, "deletecollection 300 x 1Ki");
    assert!(row.failures.is_empty(), "{}", report.table());
    assert_eq!(row.rounds.iter().map(|round| round.successes).collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cancelled_is_removed_too() {
    let harness = Harness::start().await;
    let cancel = CancellationToken::new();
    let later = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        later.cancel();
    });
    let ended = bench::run(harness.plan("get --duration 600"), &cancel).await;
    assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
    assert!(is_gone(&harness).await, "the namespace is removed");
}

/// Answers that are no success are counted by status and are no part of the latencies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_requests_are_failures() {
    let harness = Harness::start().await;
    let plan = harness.plan("list --list-query limit=nonsense --count 30 --rounds 1 --connections 2 --objects 1");
    let report = bench::run(plan, &CancellationToken::new()).await.expect("measured");
    let list = row(&report, "list 1 x 1Ki");
    assert_eq!((list.median.successes, list.failures.get("400")), (0, Some(&30)), "{}", report.table());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bare_server_gives_the_answer_it_was_given_and_shows_it() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let answer = r#"{"data":{"seq":"00000000"}}"#;
    let script = serde_json::json!({
        "certificate": made.cert.pem(), "key": made.signing_key.serialize_pem(), "status": 201, "bytes": answer.len(),
    });
    let (mut to_server, input) = tokio::io::duplex(64 << 10);
    let (told, port) = tokio::sync::oneshot::channel();
    let serving = tokio::spawn(bare::serve(input, |port| told.send(port).expect("somebody listens")));
    tokio::io::AsyncWriteExt::write_all(&mut to_server, format!("{script}\n{answer}").as_bytes())
        .await
        .expect("written");
    let port = port.await.expect("a port");
    let trust = net::tls::Trust::Bundle(net::tls::Pem::inline(made.cert.pem()));
    let tls = net::tls::ClientTls { trust, identity: None, server_name: None };
    let options = net::https::HttpsOptions::new("127.0.0.1", port, tls);
    let https = net::https::HttpsClient::new(options).expect("a client");
    let request = http::Request::get("/any?watch=true").body(net::full("")).expect("a request");
    let mut watch = https.send(request).await.expect("an answer");
    for sent in ["no object", r#"{"data":{"seq":"00000042"}}"#] {
        let request = http::Request::post("/any").body(net::full(sent)).expect("a request");
        let response = https.send(request).await.expect("an answer");
        assert_eq!(response.status(), 201);
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(&body[..], answer.as_bytes());
    }
    let request = http::Request::get("/any?watch=true").body(net::full("")).expect("a request");
    let mut late = https.send(request).await.expect("an answer");
    let wanted = r#"{"type":"MODIFIED","object":{"data":{"seq":"00000042"}}}"#.to_owned() + "\n";
    for watch in [&mut watch, &mut late] {
        let event = watch.body_mut().frame().await.expect("an event").expect("a frame").into_data().expect("data");
        assert_eq!(&event[..], wanted.as_bytes());
    }
    drop((to_server, https, watch, late));
    tokio::time::timeout(Duration::from_secs(10), serving).await.expect("it ends").expect("no panic").expect("served");
}
