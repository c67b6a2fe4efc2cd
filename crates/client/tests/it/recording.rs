//! Events as the API server gets them.

use std::sync::Arc;

use client::{
    Client, EventRecorder, EventType, ManualClock,
    kinds::core::v1::{Node, Pod},
    reference,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::fake::{client, json_response, until};

type Requests = Arc<Mutex<Vec<(String, Value)>>>;

/// Writes requests down; events are there until `gone` of them were written.
fn server(gone_after: usize) -> (Client, Requests) {
    let requests = Requests::default();
    let log = requests.clone();
    let client = client(move |request| {
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        let mut log = log.lock();
        log.push((format!("{} {}", request.method(), request.uri()), body.clone()));
        match request.method().as_str() {
            "PATCH" if log.len() > gone_after => {
                json_response(404, &json!({"reason": "NotFound", "kind": "Status", "apiVersion": "v1"}))
            }
            _ => json_response(200, &json!({"metadata": {}, "involvedObject": {}})),
        }
    });
    (client, requests)
}

fn pod() -> Pod {
    serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "web", "uid": "u", "resourceVersion": "7"}}))
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn equal_events_are_one_with_a_count_also_when_the_first_has_expired() {
    let (client, requests) = server(2);
    let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
    let recorder = EventRecorder::with_clock(client, "kubelet", "node-1", clock.clone());
    let record = || recorder.event(reference(&pod()), EventType::Warning, "BackOff", "again".into());
    record();
    until(|| requests.lock().len() == 1).await;
    for seconds in 1..=2 {
        clock.advance(std::time::Duration::from_secs(1));
        record();
        until(|| requests.lock().len() > seconds).await;
    }
    until(|| requests.lock().len() == 4).await;
    let requests = requests.lock();
    let name = "web.1886caf21c963200";
    let lines: Vec<&str> = requests.iter().map(|(line, _)| line.as_str()).collect();
    let (create, patch) = ("POST /api/v1/namespaces/ns/events", format!("PATCH /api/v1/namespaces/ns/events/{name}"));
    assert_eq!(lines, [create, &patch, &patch, create]);
    assert_eq!(
        requests[0].1,
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": "ns"},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "ns", "name": "web", "uid": "u", "resourceVersion": "7"},
            "type": "Warning", "reason": "BackOff", "message": "again", "count": 1,
            "firstTimestamp": "2026-01-02T03:04:05Z", "lastTimestamp": "2026-01-02T03:04:05Z",
            "source": {"component": "kubelet", "host": "node-1"},
            "reportingComponent": "kubelet", "reportingInstance": "node-1",
        })
    );
    assert_eq!(requests[1].1, json!({"count": 2, "lastTimestamp": "2026-01-02T03:04:06Z", "message": "again"}));
    assert_eq!((&requests[3].1["count"], &requests[3].1["metadata"]["name"]), (&json!(3), &json!(name)));
}

#[tokio::test(start_paused = true)]
async fn events_about_objects_of_the_cluster_are_in_the_default_namespace() {
    let (client, requests) = server(usize::MAX);
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "node-1"}})).unwrap();
    let recorder = EventRecorder::new(client, "node-controller", "");
    recorder.event(reference(&node), EventType::Normal, "RegisteredNode", "registered".into());
    until(|| !requests.lock().is_empty()).await;
    let requests = requests.lock();
    assert_eq!(requests[0].0, "POST /api/v1/namespaces/default/events");
    assert_eq!(requests[0].1["source"], json!({"component": "node-controller"}));
    let name = requests[0].1["metadata"]["name"].as_str().unwrap();
    let suffix = name.strip_prefix("node-1.").unwrap();
    assert!(suffix.len() == 16 && u64::from_str_radix(suffix, 16).is_ok(), "{name}");
}

#[test]
fn outside_of_a_runtime_nothing_is_written_and_nothing_breaks() {
    let (client, requests) = server(usize::MAX);
    let recorder = EventRecorder::new(client, "test", "");
    for _ in 0..2000 {
        recorder.event(reference(&pod()), EventType::Normal, "Started", "started".into());
    }
    assert!(requests.lock().is_empty());
}
