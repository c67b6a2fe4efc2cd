//! Kills a writing process at random points, again and again: nothing acknowledged is ever lost.
//!
//! The writing process is this test binary, started anew with only [`writing_process`] selected and a directory in its
//! environment. It prints each write after its acknowledgement.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use store::{Entry, ListOptions, Revision, Store, embedded::Embedded};

use crate::support::{open, runtime};

/// Kills that came while writes were being acknowledged; those that came while the store opened are on top.
const KILLS_UNDER_WRITES: u32 = 200;
const KILLS_MAX: u32 = 600;
const WRITERS: u32 = 8;
const DIRECTORY: &str = "STORE_CRASH_DIRECTORY";
const ROUND: &str = "STORE_CRASH_ROUND";

/// One acknowledged write: key, revision, and whether it was a delete.
type Acknowledged = (String, Revision, bool);

/// Creates keys of its own, counts up one of its own, deletes every fifth key, until `limit` or killed.
async fn write(store: Arc<Embedded>, round: u32, writer: u32, limit: u32, acknowledge: impl Fn(&str, Revision, bool)) {
    let counter = format!("/counter/{writer}");
    for n in 0..limit {
        let key = format!("/round/{round:04}/{writer}/{n:06}");
        let value = Bytes::from(format!("{key} {}", "x".repeat((n as usize * 97) % 2000)));
        let created = store.create(&key, value, None).await.unwrap();
        acknowledge(&key, created, false);
        let present = store.get(&counter).await.unwrap();
        let count = present.as_ref().map_or(0, |entry| String::from_utf8_lossy(&entry.value).parse::<u64>().unwrap());
        let next = Bytes::from((count + 1).to_string());
        let counted = match present {
            None => store.create(&counter, next, None).await.unwrap(),
            Some(entry) => store.update(&counter, next, entry.modified, None).await.unwrap(),
        };
        acknowledge(&counter, counted, false);
        if n % 5 == 4 {
            acknowledge(&key, store.delete(&key, created).await.unwrap(), true);
        }
    }
}

async fn write_all(
    directory: &Path,
    round: u32,
    limit: u32,
    acknowledge: impl Fn(&str, Revision, bool) + Clone + Send + Sync + 'static,
) {
    let store = Arc::new(open(directory).unwrap());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let acknowledge = acknowledge.clone();
        let store = Arc::clone(&store);
        writers.spawn(write(store, round, writer, limit, acknowledge));
    }
    while let Some(result) = writers.join_next().await {
        result.unwrap();
    }
    store.close().await.unwrap();
}

fn parse(line: &str) -> Option<Acknowledged> {
    let mut words = line.strip_prefix("acknowledged ")?.split(' ');
    let (key, revision, kind) = (words.next()?, words.next()?, words.next()?);
    // The mark at the end tells a whole line from one that was cut off.
    (words.next()? == ".").then_some((key.to_owned(), Revision(revision.parse().ok()?), kind == "delete"))
}

/// What the parent below starts; by itself, it shows that a run which is not killed loses nothing either.
#[test]
fn writing_process() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let round = std::env::var(ROUND).unwrap().parse().unwrap();
        let print = |key: &str, revision: Revision, delete: bool| {
            let line = format!("acknowledged {key} {revision} {} .\n", if delete { "delete" } else { "put" });
            std::io::stderr().write_all(line.as_bytes()).unwrap();
        };
        return runtime().block_on(write_all(Path::new(&directory), round, u32::MAX, print));
    }
    let directory = tempfile::tempdir().unwrap();
    let acknowledged = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let note = Arc::clone(&acknowledged);
    runtime().block_on(write_all(directory.path(), 0, 20, move |key, revision, delete| {
        note.lock().push((key.to_owned(), revision, delete));
    }));
    let acknowledged = std::mem::take(&mut *acknowledged.lock());
    assert_eq!(acknowledged.len() as u32, WRITERS * (20 * 2 + 4));
    let mut history = History::default();
    history.add(acknowledged);
    history.check(directory.path(), "/round/0000/");
}

#[derive(Default)]
struct History {
    /// The newest acknowledged write of each key.
    newest: HashMap<String, (Revision, bool)>,
    revisions: HashSet<Revision>,
    last: Revision,
}

impl History {
    fn add(&mut self, acknowledged: Vec<Acknowledged>) {
        for (key, revision, delete) in acknowledged {
            assert!(self.revisions.insert(revision), "revision {revision} was given twice");
            self.last = self.last.max(revision);
            let newest = self.newest.entry(key).or_default();
            *newest = (*newest).max((revision, delete));
        }
    }

    /// Opens the store and compares what is under `prefix`, and the counters, with what was acknowledged.
    fn check(&self, directory: &Path, prefix: &str) -> Revision {
        let store = open(directory).expect("a killed process leaves a store that opens");
        let list = |prefix: &str| -> BTreeMap<String, Entry> {
            let options = ListOptions { prefix: prefix.to_owned(), ..ListOptions::default() };
            let page = runtime().block_on(store.list(options)).unwrap();
            page.entries.into_iter().map(|entry| (entry.key.to_string(), entry)).collect()
        };
        let mut state = list(prefix);
        state.extend(list("/counter/"));
        let revision = runtime().block_on(store.revision()).unwrap();
        assert!(revision >= self.last, "at {revision}, acknowledged up to {}", self.last);
        let mut seen = HashSet::new();
        for (key, entry) in &state {
            assert!(
                entry.modified <= revision && entry.created <= entry.modified && seen.insert(entry.modified),
                "{entry:?}"
            );
            assert!(key.starts_with("/counter/") || entry.value.starts_with(key.as_bytes()), "{entry:?}");
        }
        for (key, (newest, deleted)) in &self.newest {
            if !key.starts_with(prefix) && !key.starts_with("/counter/") {
                continue;
            }
            match state.get(key) {
                // Newer than acknowledged: the kill came between the commit and its acknowledgement.
                Some(entry) if !deleted => assert!(entry.modified >= *newest, "{key} is older than acknowledged"),
                Some(entry) => panic!("{entry:?} was deleted at {newest}"),
                None if *deleted => {}
                None => {
                    let n: u32 = key.rsplit('/').next().unwrap().parse().unwrap();
                    assert!(n % 5 == 4 && !key.starts_with("/counter/"), "{key} of {newest} is lost");
                }
            }
        }
        runtime().block_on(store.close()).unwrap();
        revision
    }
}

/// Starts the writing process, kills it after a random time, and answers what it acknowledged.
#[allow(clippy::disallowed_methods, reason = "a thread of its own, without a runtime")]
fn one_life(directory: &Path, round: u32, random: &mut StdRng) -> Vec<Acknowledged> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::writing_process", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .env(ROUND, round.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut lines = Vec::new();
        for line in BufReader::new(output).lines() {
            lines.push(line.unwrap());
        }
        lines
    });
    std::thread::sleep(Duration::from_millis(random.random_range(5..180)));
    child.kill().unwrap();
    child.wait().unwrap();
    let lines = reader.join().unwrap();
    let strange: Vec<_> =
        lines.iter().filter(|line| !"acknowledged ".starts_with(&line[..line.len().min(13)])).collect();
    assert!(strange.is_empty(), "the writing process failed by itself: {strange:#?}");
    lines.iter().filter_map(|line| parse(line)).collect()
}

#[test]
fn nothing_acknowledged_is_lost_by_kills() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(rand::random());
    let mut history = History::default();
    let (mut writes, mut busy, mut last) = (0, 0, Revision(0));
    let mut kills = 0;
    for round in 0..KILLS_MAX {
        if busy >= KILLS_UNDER_WRITES {
            break;
        }
        kills += 1;
        let acknowledged = one_life(directory.path(), round, &mut random);
        writes += acknowledged.len();
        busy += u32::from(!acknowledged.is_empty());
        for (_, revision, _) in &acknowledged {
            assert!(*revision > last, "revision {revision} was given again: the store was at {last} before this life");
        }
        history.add(acknowledged);
        let prefix = if round % 20 == 19 { "/".to_owned() } else { format!("/round/{round:04}/") };
        last = history.check(directory.path(), &prefix);
    }
    history.check(directory.path(), "/");
    println!("{kills} kills, {busy} of them under writes, {writes} acknowledged writes");
    assert!(busy >= KILLS_UNDER_WRITES, "only {busy} of {kills} lives came to write");
}
