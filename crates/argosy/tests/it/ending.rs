//! SIGTERM under load: the process ends by itself and soon, whoever got an answer got a whole one, and what was acknowledged
//! is there afterwards.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use client::Client;
use http::Method;
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;

const WRITERS: usize = 8;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Creates and lists until nobody answers any more; gives the names that were acknowledged.
async fn work(writer: usize, client: Client, ending: Arc<AtomicBool>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        let name = format!("w{writer}-{n}");
        let body = json!({"metadata": {"name": name}, "data": {"fill": "x".repeat(2000)}}).to_string();
        for (method, body) in [(Method::POST, Bytes::from(body)), (Method::GET, Bytes::new())] {
            let is_write = method == Method::POST;
            match client.raw(method, MAPS, Some("application/json"), body).await {
                Ok(answer) => {
                    let _: Value = serde_json::from_slice(&answer).expect("a whole answer");
                    if is_write {
                        acknowledged.push(name.clone());
                    }
                }
                Err(client::Error::Status(status)) => panic!("refused: {status:?}"),
                Err(error) => {
                    assert!(ending.load(Ordering::SeqCst), "no answer before the end: {error}");
                    return acknowledged;
                }
            }
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_told_to_end_finishes_what_it_has_begun() {
    let mut server = ControlPlane::new(7);
    let mut acknowledged: Vec<String> = Vec::new();
    for _ in 0..3 {
        let client = server.start().await;
        let list = client.raw(Method::GET, MAPS, None, Bytes::new()).await.expect("a list");
        let list: Value = serde_json::from_slice(&list).expect("JSON");
        let there: Vec<&str> = list["items"]
            .as_array()
            .expect("items")
            .iter()
            .filter_map(|item| item["metadata"]["name"].as_str())
            .collect();
        for name in &acknowledged {
            assert!(there.contains(&name.as_str()), "{name} was acknowledged");
        }
        for name in std::mem::take(&mut acknowledged) {
            client.raw(Method::DELETE, &format!("{MAPS}/{name}"), None, Bytes::new()).await.expect("deleted");
        }
        let ending = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> =
            (0..WRITERS).map(|number| tokio::spawn(work(number, client.clone(), ending.clone()))).collect();
        tokio::time::sleep(Duration::from_millis(700)).await;
        ending.store(true, Ordering::SeqCst);
        let begin = Instant::now();
        let told = Command::new("kill").args(["-TERM", &server.pid().to_string()]).status().expect("kill runs");
        assert!(told.success());
        let status = server.wait().await;
        assert!(status.success(), "{status}\n{}", server.words());
        assert!(begin.elapsed() < Duration::from_secs(8), "took {:?}\n{}", begin.elapsed(), server.words());
        for writer in writers {
            acknowledged.extend(writer.await.expect("a writer"));
        }
        assert!(acknowledged.len() > WRITERS, "{} writes", acknowledged.len());
    }
}
