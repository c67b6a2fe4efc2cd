//! The whole scheduler against an API server of a few lines: what it asks, what it writes, and how soon.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use client::{Client, transport::Local};
use futures_util::{FutureExt, StreamExt, stream};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use net::{Body, BoxError};
use scheduler::run::{Scheduler, SchedulerConfig};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Lists hold what is here at the start, watches give what is sent; writes are kept with their time.
#[derive(Default)]
struct Api {
    lists: HashMap<&'static str, Vec<Value>>,
    watches: HashMap<String, mpsc::UnboundedSender<Value>>,
    written: Vec<(Instant, String, Value)>,
}

type Shared = Arc<Mutex<Api>>;

fn answer(api: &Shared, request: &Request<Bytes>) -> Response<Body> {
    let mut api = api.lock().expect("no test panics with the lock");
    let path = request.uri().path().to_owned();
    if request.method() != Method::GET {
        let body = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        api.written.push((Instant::now(), format!("{} {path}", request.method()), body.clone()));
        return Response::new(net::full(body.to_string()));
    }
    if request.uri().query().unwrap_or_default().contains("watch=1") {
        let (send, events) = mpsc::unbounded_channel::<Value>();
        api.watches.insert(path, send);
        let frames = stream::unfold(events, |mut events| async {
            let event = events.recv().await?;
            Some((Ok::<_, BoxError>(Frame::data(Bytes::from(format!("{event}\n")))), events))
        });
        return Response::new(StreamBody::new(frames.boxed()).boxed_unsync());
    }
    let items = api.lists.get(path.as_str()).cloned().unwrap_or_default();
    Response::new(net::full(json!({ "metadata": { "resourceVersion": "1" }, "items": items }).to_string()))
}

fn client(api: &Shared) -> Client {
    let api = api.clone();
    let handler = move |request: Request<Bytes>| {
        let api = api.clone();
        async move { answer(&api, &request) }.boxed()
    };
    Client::new(Arc::new(Local::new(Arc::new(handler))), "kube-scheduler/test")
}

fn node(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "resourceVersion": "1", "uid": name },
        "status": { "allocatable": { "cpu": "1", "memory": "1Gi", "pods": "10" } },
    })
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": "2" },
        "spec": { "schedulerName": "default-scheduler", "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] },
    })
}

/// Sends a new pod down the watch once it is there; the time just before it was sent.
async fn create(api: &Shared, pod: Value) -> Instant {
    loop {
        let watch = api.lock().expect("no test panics with the lock").watches.get("/api/v1/pods").cloned();
        if let Some(watch) = watch {
            let before = Instant::now();
            watch.send(json!({ "type": "ADDED", "object": pod })).expect("the watch is open");
            return before;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The first write of this kind.
async fn written(api: &Shared, what: &str) -> (Instant, Value) {
    for _ in 0..10_000 {
        let found = {
            let api = api.lock().expect("no test panics with the lock");
            api.written.iter().find(|(_, request, _)| request == what).map(|(at, _, body)| (*at, body.clone()))
        };
        if let Some(found) = found {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{what} was never written: {:#?}", api.lock().expect("no test panics with the lock").written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_pod_is_bound_within_milliseconds_and_one_that_does_not_fit_is_told_why() {
    let api = Shared::default();
    api.lock().expect("a new lock").lists.insert("/api/v1/nodes", vec![node("a")]);
    let cancel = CancellationToken::new();
    let running = tokio::spawn(Scheduler::run(SchedulerConfig::default(), client(&api), cancel.clone()));

    let sent = create(&api, pod("fits", "500m")).await;
    let (bound, body) = written(&api, "POST /api/v1/namespaces/default/pods/fits/binding").await;
    assert_eq!(body["target"]["name"], "a");
    assert_eq!(body["metadata"]["uid"], "uid-fits");
    // Far above what it takes, for machines that are busy with other tests; polling of any kind would show.
    assert!(bound - sent < Duration::from_millis(250), "{:?}", bound - sent);

    create(&api, pod("waits", "700m")).await;
    let (_, patch) = written(&api, "PATCH /api/v1/namespaces/default/pods/waits/status").await;
    let condition = &patch["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["reason"]), (&json!("PodScheduled"), &json!("Unschedulable")));
    let message = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    assert_eq!(condition["message"], message);

    let (_, event) = written(&api, "POST /api/v1/namespaces/default/events").await;
    assert_eq!(event["message"], "Successfully assigned default/fits to a");

    cancel.cancel();
    tokio::time::timeout(Duration::from_secs(5), running)
        .await
        .expect("it ends when it is told to")
        .expect("it does not panic");
}
