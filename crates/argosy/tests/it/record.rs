//! Writers that keep what was acknowledged, and watchers that keep what they were told: what both must agree on in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use client::{Client, Kind, ListParams, WatchEvent, kinds::core::v1::ConfigMap};
use futures_util::StreamExt;
use http::Method;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, task::JoinHandle};

const NAMESPACE: &str = "default";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Objects of each writer.
const OBJECTS: usize = 4;
/// A request or a watch without a word for this long is given up, and tried again on a connection of its own.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);
/// Upstream's servers ask for a second.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// One state of one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    pub revision: u64,
    pub name: String,
    pub value: u64,
}

struct Shared {
    begin: Instant,
    stop: AtomicBool,
    /// Milliseconds after `begin` at which the newest acknowledged write of each writer was begun.
    acknowledged_ms: Vec<AtomicU64>,
    /// What became of second tries, on a connection of their own, that failed as well, with whose they were.
    failed_twice: Mutex<Vec<(usize, String)>>,
}

pub struct Record {
    runtime: Runtime,
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<Vec<State>>>,
    watchers: Vec<JoinHandle<Vec<State>>>,
}

/// How long it took after a fault until writes were answered again.
#[derive(Clone, Copy, Debug)]
pub struct Again {
    pub first: Duration,
    pub all: Duration,
}

/// What was recorded.
pub struct Recorded {
    pub acknowledged: Vec<State>,
    pub watched: Vec<Vec<State>>,
}

fn open(kubeconfig: &PathBuf) -> Client {
    let kubeconfig = client::kubeconfig::load(kubeconfig).expect("a kubeconfig");
    Client::from_kubeconfig(&kubeconfig, "argosy-test").expect("a client")
}

fn state(object: &Value) -> State {
    let number = |text: &Value| text.as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
    State {
        revision: number(&object["metadata"]["resourceVersion"]),
        name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        value: number(&object["data"]["value"]),
    }
}

impl Record {
    /// A writer and a watcher for each kubeconfig that is given.
    pub fn start(writers: &[PathBuf], watchers: &[PathBuf]) -> Record {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("threads");
        let shared = Arc::new(Shared {
            begin: Instant::now(),
            stop: AtomicBool::new(false),
            acknowledged_ms: writers.iter().map(|_| AtomicU64::new(0)).collect(),
            failed_twice: Mutex::default(),
        });
        let writers = writers.iter().cloned().enumerate();
        let writers = writers.map(|(number, file)| runtime.spawn(write(shared.clone(), number, file))).collect();
        let watchers = watchers.iter().cloned().map(|file| runtime.spawn(watch(shared.clone(), file))).collect();
        Record { runtime, shared, writers, watchers }
    }

    /// Waits until each of the first `writers` has had a write acknowledged that it began after this call.
    pub fn until_writing(&self, writers: usize, limit: Duration) -> Again {
        let now = Instant::now();
        let from = u64::try_from((now - self.shared.begin).as_millis()).expect("a short test");
        let mut first = None;
        crate::harness::eventually("every writer writes again", limit, || {
            let writes = |newest: &&AtomicU64| newest.load(Ordering::Relaxed) > from;
            let count = self.shared.acknowledged_ms[..writers].iter().filter(writes).count();
            if count > 0 {
                first.get_or_insert(now.elapsed());
            }
            (count == writers).then_some(())
        });
        Again { first: first.unwrap_or_default(), all: now.elapsed() }
    }

    /// The requests of the first `writers` that failed and were tried again and failed again.
    pub fn failed_twice(&self, writers: usize) -> Vec<String> {
        let all = self.shared.failed_twice.lock().expect("whole");
        all.iter().filter(|(writer, _)| *writer < writers).map(|(_, what)| what.clone()).collect()
    }

    pub fn stop(self) -> Recorded {
        self.runtime.block_on(async {
            self.shared.stop.store(true, Ordering::Relaxed);
            let mut acknowledged = Vec::new();
            for writer in self.writers {
                acknowledged.extend(writer.await.expect("a writer ends without a complaint"));
            }
            let mut watched = Vec::new();
            for watcher in self.watchers {
                watched.push(watcher.await.expect("a watcher ends without a complaint"));
            }
            Recorded { acknowledged, watched }
        })
    }
}

/// Counts its objects up, each write on condition that nobody else wrote.
async fn write(shared: Arc<Shared>, number: usize, file: PathBuf) -> Vec<State> {
    let (mut client, mut acknowledged) = (open(&file), Vec::new());
    let mut known: BTreeMap<String, State> = BTreeMap::new();
    for turn in 0.. {
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("w{number}-{}", turn % OBJECTS);
        let before = known.get(&name).cloned();
        let value = before.as_ref().map_or(1, |state| state.value + 1);
        let mut object = json!({"metadata": {"name": name}, "data": {"value": value.to_string()}});
        let (method, path) = match &before {
            None => (Method::POST, MAPS.to_owned()),
            Some(before) => {
                object["metadata"]["resourceVersion"] = json!(before.revision.to_string());
                (Method::PUT, format!("{MAPS}/{name}"))
            }
        };
        let begun = shared.begin.elapsed().as_millis();
        let sent = client.raw(method, &path, Some("application/json"), Bytes::from(object.to_string()));
        let answer = tokio::time::timeout(PATIENCE, sent).await;
        if let Ok(Ok(answer)) = answer {
            let now = state(&serde_json::from_slice(&answer).expect("JSON"));
            let older = before.as_ref().is_none_or(|before| before.revision < now.revision);
            assert!(older && now.value == value, "{now:?} was acknowledged after {before:?}");
            shared.acknowledged_ms[number].store(u64::try_from(begun).expect("short"), Ordering::Relaxed);
            acknowledged.push(now.clone());
            known.insert(name, now);
            continue;
        }
        // Nobody knows whether it was carried out. What there is must be what was acknowledged, or this very write.
        client = open(&file);
        let why = format!("{:?} after {} ms", answer.map(drop), shared.begin.elapsed().as_millis() - begun);
        let found = read(&shared, (number, why), &mut client, &file, &name).await;
        match (&before, found) {
            (_, Err(())) => break,
            (None, Ok(None)) => {}
            (Some(before), Ok(None)) => panic!("{before:?} was acknowledged and is gone"),
            (before, Ok(Some(found))) => {
                let kept = before.as_ref().is_some_and(|before| *before == found);
                assert!(
                    kept || found.value == value,
                    "{before:?} was acknowledged, {value} was tried, found {found:?}"
                );
                known.insert(name, found);
            }
        }
    }
    acknowledged
}

/// Asks until it is told; an error where the test ends before that. `why` is what the writer met before.
async fn read(
    shared: &Shared,
    (number, why): (usize, String),
    client: &mut Client,
    file: &PathBuf,
    name: &str,
) -> Result<Option<State>, ()> {
    let path = format!("{MAPS}/{name}");
    tokio::time::sleep(RETRY_AFTER).await;
    while !shared.stop.load(Ordering::Relaxed) {
        let begun = shared.begin.elapsed();
        match tokio::time::timeout(PATIENCE, client.raw(Method::GET, &path, None, Bytes::new())).await {
            Ok(Ok(answer)) => return Ok(Some(state(&serde_json::from_slice(&answer).expect("JSON")))),
            Ok(Err(error)) if error.is_not_found() => return Ok(None),
            failed => {
                let what = format!("{name}: {why}, then {:?} from {begun:?} on", failed.map(drop));
                shared.failed_twice.lock().expect("whole").push((number, what));
                *client = open(file);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(())
}

/// Where to watch from.
async fn revision(file: &PathBuf) -> String {
    let answer = open(file).raw(Method::GET, MAPS, None, Bytes::new()).await.expect("a list");
    let list: Value = serde_json::from_slice(&answer).expect("JSON");
    list["metadata"]["resourceVersion"].as_str().expect("a revision").to_owned()
}

/// Follows every change from the first on, through whatever ends its connection.
async fn watch(shared: Arc<Shared>, file: PathBuf) -> Vec<State> {
    let mut seen: Vec<State> = Vec::new();
    let mut after = revision(&file).await;
    while !shared.stop.load(Ordering::Relaxed) {
        let maps = open(&file).namespaced::<ConfigMap>(NAMESPACE);
        let opened = tokio::time::timeout(PATIENCE, maps.watch(&ListParams::default(), &after, 600)).await;
        let Ok(Ok(mut events)) = opened else {
            if let Ok(Err(error)) = &opened {
                assert!(!error.is_expired(), "the watch from {after} on is refused: {error}");
            }
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        while let Ok(Some(event)) = tokio::time::timeout(PATIENCE, events.next()).await {
            let object = match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => object,
                Ok(WatchEvent::Deleted(object)) => panic!("nobody deletes, and {} was", object.name()),
                Ok(WatchEvent::Bookmark { resource_version, .. }) => {
                    after = resource_version;
                    continue;
                }
                Err(error) => {
                    assert!(!error.is_expired(), "the watch from {after} on: {error}");
                    break;
                }
            };
            let now = state(&serde_json::to_value(&object).expect("JSON"));
            after = now.revision.to_string();
            if now.name.starts_with('w') {
                let last = seen.last().map_or(0, |last| last.revision);
                assert!(now.revision > last, "{now:?} came after revision {last}");
                seen.push(now);
            }
        }
    }
    seen
}

impl Recorded {
    /// Every acknowledged write is among what each watcher saw, and what is there in the end is the newest of each object.
    pub fn check(&self, found: &[Vec<State>]) {
        let newest = |states: &[State]| {
            let mut states = states.to_vec();
            states.sort();
            states.into_iter().map(|state| (state.name.clone(), state)).collect::<BTreeMap<String, State>>()
        };
        let acknowledged = newest(&self.acknowledged);
        for found in found {
            let found = newest(found);
            for (name, wanted) in &acknowledged {
                let found = found.get(name);
                assert!(found.is_some_and(|found| found.revision >= wanted.revision), "{wanted:?} is lost: {found:?}");
            }
        }
        for watched in &self.watched {
            let seen: BTreeSet<&State> = watched.iter().collect();
            // The watchers begin a moment after the writers, and end with them.
            let (begin, end) = (watched.first(), watched.last().map_or(0, |last| last.revision));
            let told = begin.map_or(0, |first| first.revision)..=end;
            let missed = self.acknowledged.iter().find(|state| told.contains(&state.revision) && !seen.contains(state));
            assert_eq!(missed, None, "a watcher missed a write");
            let mut values: BTreeMap<&str, u64> = BTreeMap::new();
            for state in watched {
                let last = values.insert(&state.name, state.value).unwrap_or(state.value - 1);
                assert_eq!(state.value, last + 1, "a watcher missed or repeated a state of {}", state.name);
            }
        }
    }
}

/// All objects as one API server shows them.
pub fn list(kubeconfig: &PathBuf) -> Vec<State> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a thread");
    let answer = runtime.block_on(open(kubeconfig).raw(Method::GET, MAPS, None, Bytes::new())).expect("a list");
    let list: Value = serde_json::from_slice(&answer).expect("JSON");
    let all = list["items"].as_array().expect("items").iter().map(state);
    all.filter(|state| state.name.starts_with('w')).collect()
}
