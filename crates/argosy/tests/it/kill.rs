//! Nothing acknowledged is ever lost: the whole process is killed at random points under concurrent writes, and started again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use client::Client;
use http::Method;
use rand::Rng;
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;

const KILLS: usize = 200;
const WRITERS: usize = 12;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// What a writer knows of one object: its value and the revision that the server gave it.
#[derive(Clone, Debug, PartialEq)]
struct Acknowledged {
    value: u64,
    revision: u64,
}

/// A request that was sent and not answered: it may have been carried out, or not.
#[derive(Clone, Debug)]
struct Doubt {
    name: String,
    /// The value that it would have left; none where it deletes.
    value: Option<u64>,
}

#[derive(Debug, Default)]
struct Ledger {
    objects: BTreeMap<String, Acknowledged>,
    doubt: Option<Doubt>,
    newest: u64,
    acknowledged: u64,
}

/// Values are never used twice, so that an older state can be told from a newer.
static NEXT: AtomicU64 = AtomicU64::new(1);

fn revision(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str().expect("a revision");
    text.parse().expect("a revision is a number")
}

/// Creates, replaces, patches and deletes its own objects, one after the other, until told to stop or unanswered.
async fn write(writer: usize, client: Client, mut ledger: Ledger, stop: Arc<AtomicBool>) -> Ledger {
    while !stop.load(Ordering::Relaxed) {
        let name = format!("w{writer}-{}", rand::rng().random_range(0..20));
        let value = NEXT.fetch_add(1, Ordering::Relaxed);
        let known = ledger.objects.get(&name).cloned();
        let path = format!("{MAPS}/{name}");
        let mut object = json!({"metadata": {"name": name}, "data": {"value": value.to_string()}});
        let deletes = known.is_some() && rand::rng().random_ratio(1, 5);
        let (method, path, kind) = match &known {
            None => (Method::POST, MAPS.to_owned(), "application/json"),
            Some(_) if deletes => (Method::DELETE, path, "application/json"),
            Some(_) if rand::rng().random_bool(0.5) => (Method::PATCH, path, "application/merge-patch+json"),
            Some(known) => {
                object["metadata"]["resourceVersion"] = json!(known.revision.to_string());
                (Method::PUT, path, "application/json")
            }
        };
        let body = if deletes { Bytes::new() } else { Bytes::from(object.to_string()) };
        ledger.doubt = Some(Doubt { name: name.clone(), value: (!deletes).then_some(value) });
        let answer = match client.raw(method.clone(), &path, Some(kind), body).await {
            Ok(answer) => answer,
            Err(client::Error::Status(status)) => panic!("{method} {path} was refused: {status:?}; known: {known:?}"),
            // The connection ended: nobody knows.
            Err(_) => return ledger,
        };
        ledger.doubt = None;
        ledger.acknowledged += 1;
        if deletes {
            ledger.objects.remove(&name);
            continue;
        }
        let revision = revision(&serde_json::from_slice(&answer).expect("JSON"));
        assert!(revision > ledger.newest, "{method} {path} got revision {revision} after {}", ledger.newest);
        ledger.newest = revision;
        ledger.objects.insert(name, Acknowledged { value, revision });
    }
    ledger
}

/// Compares what is there with what was acknowledged, and settles what was in doubt.
fn check(list: &Value, ledgers: &mut [Ledger]) {
    let newest = revision(list);
    let mut found: BTreeMap<String, Acknowledged> = BTreeMap::new();
    let mut revisions = std::collections::HashSet::new();
    for item in list["items"].as_array().expect("items") {
        let name = item["metadata"]["name"].as_str().expect("a name").to_owned();
        let revision = revision(item);
        assert!(revision <= newest && revisions.insert(revision), "{name}: revision {revision} of {newest}");
        if name.starts_with('w') {
            let value = item["data"]["value"].as_str().and_then(|value| value.parse().ok()).expect("a value");
            found.insert(name, Acknowledged { value, revision });
        }
    }
    for ledger in ledgers {
        assert!(newest >= ledger.newest, "the list is of revision {newest}, {} was acknowledged", ledger.newest);
        if let Some(doubt) = ledger.doubt.take() {
            let there = found.get(&doubt.name).cloned();
            if there.as_ref().map(|there| there.value) == doubt.value {
                match there {
                    Some(there) => ledger.objects.insert(doubt.name, there),
                    None => ledger.objects.remove(&doubt.name),
                };
            }
        }
        for (name, known) in &ledger.objects {
            assert_eq!(found.remove(name).as_ref(), Some(known), "{name} was acknowledged");
        }
    }
    assert!(found.is_empty(), "nobody wrote {found:?}, or somebody deleted it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let mut server = ControlPlane::new(0);
    let mut ledgers: Vec<Ledger> = (0..WRITERS).map(|_| Ledger::default()).collect();
    for round in 0..=KILLS {
        let client = server.start().await;
        let list = client.raw(Method::GET, MAPS, None, Bytes::new()).await.expect("a list");
        check(&serde_json::from_slice(&list).expect("JSON"), &mut ledgers);
        if round == KILLS {
            break;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = std::mem::take(&mut ledgers)
            .into_iter()
            .enumerate()
            .map(|(number, ledger)| tokio::spawn(write(number, client.clone(), ledger, stop.clone())))
            .collect();
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(1..400))).await;
        server.kill();
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            ledgers.push(writer.await.expect("a writer"));
        }
        // Some are killed again before they have come up.
        if round % 8 == 7 {
            server.spawn();
            tokio::time::sleep(Duration::from_millis(rand::rng().random_range(1..300))).await;
            server.kill();
        }
    }
    let acknowledged: u64 = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
    println!("{KILLS} kills, {acknowledged} acknowledged writes, none lost");
    assert!(acknowledged > 20 * KILLS as u64, "{acknowledged} writes are too few to show anything");
}
