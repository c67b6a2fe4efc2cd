//! Many clients at the same objects through different API servers, and whether what they were told can have happened in one
//! order that agrees with the clock: linearizability. Every state of an object has a revision of its own, which is that
//! order; so it is enough to compare revisions with when operations began and ended.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use client::Client;
use http::Method;
use rand::Rng;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, task::JoinHandle};

const MAPS: &str = "/api/v1/namespaces/kube-public/configmaps";
const PATIENCE: Duration = Duration::from_secs(2);
/// After so many operations the clients go on to another object, which they race to create.
const OPERATIONS_EACH: u64 = 400;
/// So many clients contend for an object.
const CLIENTS_EACH: u64 = 2;

/// Something that a client was told. What was not answered is not here: it may have happened at any time, or not.
#[derive(Clone, Debug)]
pub struct Operation {
    object: u64,
    /// Of a write: the revision that it replaced, 0 for a creation.
    replaced: Option<u64>,
    /// The state that was read or written; 0 for none.
    revision: u64,
    begun_ns: u64,
    ended_ns: u64,
}

struct Shared {
    begin: Instant,
    stop: AtomicBool,
    count: AtomicU64,
    /// Objects that are written at the same time.
    at_once: u64,
}

pub struct Contest {
    runtime: Runtime,
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Vec<Operation>>>,
}

impl Contest {
    /// A client for each kubeconfig. Each pauses between two operations, to leave something of the machine to others.
    pub fn start(kubeconfigs: &[PathBuf], pause: Duration) -> Contest {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("threads");
        let at_once = (kubeconfigs.len() as u64 / CLIENTS_EACH).max(1);
        let (begin, stop, count) = (Instant::now(), AtomicBool::new(false), AtomicU64::new(0));
        let shared = Arc::new(Shared { begin, stop, count, at_once });
        let clients = kubeconfigs.iter().map(|file| {
            let client =
                Contestant { shared: shared.clone(), file: file.clone(), client: open(file), told: Vec::new() };
            runtime.spawn(client.run(pause))
        });
        let clients = clients.collect();
        Contest { runtime, shared, clients }
    }

    pub fn operations(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// Everything that anybody was told.
    pub fn stop(self) -> Vec<Operation> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.runtime.block_on(async {
            let mut all = Vec::new();
            for client in self.clients {
                all.extend(client.await.expect("a client ends without a complaint"));
            }
            all
        })
    }
}

fn open(kubeconfig: &PathBuf) -> Client {
    let kubeconfig = client::kubeconfig::load(kubeconfig).expect("a kubeconfig");
    Client::from_kubeconfig(&kubeconfig, "argosy-test").expect("a client")
}

struct Contestant {
    shared: Arc<Shared>,
    file: PathBuf,
    client: Client,
    told: Vec<Operation>,
}

impl Contestant {
    async fn run(mut self, pause: Duration) -> Vec<Operation> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let turn = self.shared.count.load(Ordering::Relaxed) / OPERATIONS_EACH;
            let object = turn + rand::rng().random_range(0..self.shared.at_once);
            let path = format!("{MAPS}/k{object}");
            let found = self.ask(object, None, Method::GET, &path, Bytes::new()).await;
            if let Some(revision) = found.filter(|_| rand::rng().random_bool(0.5)) {
                let mut map = json!({"metadata": {"name": format!("k{object}")}});
                let (method, path) = match revision {
                    0 => (Method::POST, MAPS),
                    _ => (Method::PUT, path.as_str()),
                };
                if revision > 0 {
                    map["metadata"]["resourceVersion"] = json!(revision.to_string());
                }
                // A write that changes nothing is no write.
                map["data"]["value"] = json!(rand::rng().random::<u64>().to_string());
                self.ask(object, Some(revision), method, path, map.to_string().into()).await;
            }
            tokio::time::sleep(pause).await;
        }
        self.told
    }

    /// The revision that it was told; `None` where it was told nothing, or that somebody else was first.
    async fn ask(
        &mut self,
        object: u64,
        replaced: Option<u64>,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Option<u64> {
        let now = |shared: &Shared| u64::try_from(shared.begin.elapsed().as_nanos()).expect("a short test");
        let begun_ns = now(&self.shared);
        let asked = self.client.raw(method, path, Some("application/json"), body);
        let revision = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => {
                let object: Value = serde_json::from_slice(&answer).expect("JSON");
                let revision = object["metadata"]["resourceVersion"].as_str().expect("a revision");
                revision.parse().expect("a number")
            }
            Ok(Err(error)) if replaced.is_none() && error.is_not_found() => 0,
            Ok(Err(error)) if error.is_conflict() || error.is_already_exists() => return None,
            _ => {
                self.client = open(&self.file);
                return None;
            }
        };
        self.shared.count.fetch_add(1, Ordering::Relaxed);
        self.told.push(Operation { object, replaced, revision, begun_ns, ended_ns: now(&self.shared) });
        Some(revision)
    }
}

/// What contradicts an order of all operations, one line each.
pub fn violations(operations: &[Operation]) -> Vec<String> {
    let mut objects: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        objects.entry(operation.object).or_default().push(operation);
    }
    objects.into_values().flat_map(|operations| of_object(&operations)).collect()
}

fn of_object(operations: &[&Operation]) -> Vec<String> {
    let mut found = Vec::new();
    // Whoever begins after another has ended is told of the same state or a later one, and writes a later one.
    let mut by_begin = operations.to_vec();
    by_begin.sort_by_key(|operation| operation.begun_ns);
    let mut by_end = operations.to_vec();
    by_end.sort_by_key(|operation| operation.ended_ns);
    let (mut ended, mut newest): (usize, Option<&Operation>) = (0, None);
    for now in by_begin {
        while by_end[ended].ended_ns < now.begun_ns {
            newest = newest.filter(|newest| newest.revision >= by_end[ended].revision).or(Some(by_end[ended]));
            ended += 1;
        }
        let known = newest.map_or(0, |newest| newest.revision);
        let least = known + u64::from(now.replaced.is_some());
        if now.revision < least {
            found.push(format!("{now:?} was told after {newest:?} had ended"));
        }
    }
    let mut writes: Vec<&Operation> = operations.iter().copied().filter(|one| one.replaced.is_some()).collect();
    writes.sort_by_key(|write| write.revision);
    for pair in writes.windows(2) {
        // Nobody replaces what somebody else has replaced already. A write without an answer may lie in between.
        if pair[1].replaced.is_some_and(|replaced| replaced < pair[0].revision) {
            found.push(format!("{:?} and {:?} replaced the same state", pair[0], pair[1]));
        }
    }
    // Nobody is told of a write that had not begun.
    let begun: BTreeMap<u64, &Operation> = writes.iter().map(|write| (write.revision, *write)).collect();
    for read in operations.iter().filter(|one| one.replaced.is_none()) {
        if let Some(write) = begun.get(&read.revision).filter(|write| write.begun_ns > read.ended_ns) {
            found.push(format!("{read:?} was told of {write:?} before that began"));
        }
    }
    found
}

#[test]
fn the_checker_sees_what_cannot_have_happened() {
    let operation =
        |replaced, revision, begun_ns, ended_ns| Operation { object: 1, replaced, revision, begun_ns, ended_ns };
    let create = || operation(Some(0), 5, 0, 10);
    let cases: [(&str, Vec<Operation>, usize); 9] = [
        ("a read after a write", vec![create(), operation(None, 5, 11, 12)], 0),
        (
            "a read beside a write may see either",
            vec![create(), operation(None, 0, 5, 12), operation(None, 5, 5, 9)],
            0,
        ),
        ("a read that comes too late for the old state", vec![create(), operation(None, 0, 11, 12)], 1),
        ("two reads that go back", vec![create(), operation(None, 5, 1, 2), operation(None, 0, 3, 4)], 1),
        ("an update", vec![create(), operation(Some(5), 7, 11, 12)], 0),
        ("two updates of one state", vec![create(), operation(Some(5), 7, 11, 20), operation(Some(5), 8, 11, 20)], 1),
        ("two creations", vec![create(), operation(Some(0), 6, 5, 20)], 1),
        ("an update over one that nobody was told of", vec![create(), operation(Some(6), 7, 11, 12)], 0),
        ("a read of the future", vec![create(), operation(Some(5), 7, 30, 40), operation(None, 7, 20, 25)], 2),
    ];
    for (what, operations, wanted) in cases {
        let found = violations(&operations);
        assert_eq!(found.len(), wanted, "{what}: {found:?}");
    }
}
