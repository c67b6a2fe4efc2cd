//! Members that are killed, frozen and started again under writers, readers and watchers; and history that is compacted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::StreamExt;
use store::{
    Change, Entry, Error, Event, ListOptions, Revision, Store, WatchItem,
    etcd::{Etcd, EtcdOptions, Timeouts},
};
use tokio::{sync::watch, task::JoinSet};

use super::{begun, cluster::Cluster, events, next};

const PATIENCE: Duration = Duration::from_secs(30);
const WRITERS: usize = 3;

/// What one writer did: acknowledged revisions with their values, and values of which it does not know.
#[derive(Default)]
struct Journal {
    acknowledged: Vec<(Revision, Bytes)>,
    unknown: Vec<Bytes>,
}

/// Writes to a key of its own by compare-and-swap until told to stop. Every value is written at most once.
async fn writer(store: Arc<Etcd>, key: String, stop: Arc<AtomicBool>, acknowledged: watch::Sender<u64>) -> Journal {
    let mut journal = Journal::default();
    let mut present: Option<Entry> = None;
    for n in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let value = Bytes::from(format!("{n}"));
        let result = match &present {
            None => store.create(&key, value.clone(), None).await,
            Some(entry) => store.update(&key, value.clone(), entry.modified, None).await,
        };
        match result {
            Ok(revision) => {
                let created = present.map_or(revision, |entry| entry.created);
                present = Some(Entry { key: key.as_str().into(), value: value.clone(), created, modified: revision });
                journal.acknowledged.push((revision, value));
                acknowledged.send_modify(|count| *count += 1);
            }
            Err(Error::Unknown { .. }) => {
                journal.unknown.push(value);
                present = settle(&store, &key).await;
            }
            // Nothing was written. What an earlier write of unknown outcome did may show only now.
            Err(Error::Unavailable { .. } | Error::Conflict { .. } | Error::Exists { .. }) => {
                present = settle(&store, &key).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    journal
}

/// What is there, as soon as a quorum says so.
async fn settle(store: &Etcd, key: &str) -> Option<Entry> {
    loop {
        match store.get(key).await {
            Ok(entry) => return entry,
            Err(Error::Unavailable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Everything up to `end`, checked for order as it comes.
async fn watcher(store: Arc<Etcd>, after: Revision, mut end: watch::Receiver<Option<Revision>>) -> Vec<Event> {
    let mut stream = store.watch("/f/", after).await.unwrap();
    let (mut all, mut seen) = (Vec::<Event>::new(), after);
    loop {
        if end.borrow_and_update().is_some_and(|end| seen >= end) {
            return all;
        }
        let item = tokio::select! {
            item = stream.next() => item.unwrap().unwrap(),
            _ = end.changed() => continue,
        };
        match item {
            WatchItem::Events(events) => {
                for event in &events {
                    assert!(event.revision > seen, "{event:?} after {seen}");
                    seen = event.revision;
                }
                all.extend(events);
            }
            WatchItem::Progress(revision) => {
                assert!(revision >= seen);
                seen = revision;
            }
        }
    }
}

/// Reads show no older state than a read before.
async fn reader(store: Arc<Etcd>, stop: Arc<AtomicBool>, reads: Arc<AtomicU64>) {
    let mut newest = Revision(0);
    while !stop.load(Ordering::Relaxed) {
        match store.list(ListOptions { prefix: "/f/".into(), ..ListOptions::default() }).await {
            Ok(page) => {
                assert!(page.revision >= newest, "a read went back from {newest} to {}", page.revision);
                newest = page.revision;
                reads.fetch_add(1, Ordering::Relaxed);
            }
            Err(Error::Unavailable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Writers, readers and watchers at work, each with a connection to the cluster of its own.
struct Load {
    stop: Arc<AtomicBool>,
    end: watch::Sender<Option<Revision>>,
    acknowledged: watch::Sender<u64>,
    writers: JoinSet<(String, Journal)>,
    watchers: JoinSet<Vec<Event>>,
    readers: JoinSet<()>,
    reads: Arc<AtomicU64>,
}

impl Load {
    async fn start(cluster: &Cluster) -> Load {
        let start = cluster_store(cluster).await.revision().await.unwrap();
        let mut load = Load {
            stop: Arc::default(),
            end: watch::channel(None).0,
            acknowledged: watch::channel(0).0,
            writers: JoinSet::new(),
            watchers: JoinSet::new(),
            readers: JoinSet::new(),
            reads: Arc::default(),
        };
        for n in 0..WRITERS {
            let (key, store) = (format!("/f/{n}"), cluster_store(cluster).await);
            let (stop, acknowledged) = (Arc::clone(&load.stop), load.acknowledged.clone());
            load.writers.spawn(async move { (key.clone(), writer(store, key, stop, acknowledged).await) });
        }
        for _ in 0..2 {
            load.watchers.spawn(watcher(cluster_store(cluster).await, start, load.end.subscribe()));
            load.readers.spawn(reader(cluster_store(cluster).await, Arc::clone(&load.stop), Arc::clone(&load.reads)));
        }
        load
    }

    /// Waits until this many more writes were acknowledged; answers how long that took.
    async fn progress(&self, writes: u64) -> Duration {
        let begun = Instant::now();
        let mut acknowledged = self.acknowledged.subscribe();
        let wanted = *acknowledged.borrow() + writes;
        let waiting = acknowledged.wait_for(|count| *count >= wanted);
        tokio::time::timeout(PATIENCE, waiting).await.expect("writes go on").unwrap();
        begun.elapsed()
    }

    /// Stops, and checks that what was acknowledged, watched and is there now agree.
    async fn finish(mut self, cluster: &Cluster) {
        self.stop.store(true, Ordering::Relaxed);
        let mut journals = BTreeMap::new();
        while let Some(done) = self.writers.join_next().await {
            let (key, journal) = done.unwrap();
            journals.insert(key, journal);
        }
        let store = cluster_store(cluster).await;
        let page = store.list(ListOptions { prefix: "/f/".into(), ..ListOptions::default() }).await.unwrap();
        self.end.send_replace(Some(page.revision));
        while let Some(done) =
            tokio::time::timeout(PATIENCE, self.watchers.join_next()).await.expect("watchers catch up")
        {
            check(&journals, &done.unwrap(), &page.entries);
        }
        while let Some(done) = self.readers.join_next().await {
            done.unwrap();
        }
        assert!(self.reads.load(Ordering::Relaxed) > 0);
    }
}

fn check(journals: &BTreeMap<String, Journal>, events: &[Event], entries: &[Entry]) {
    for (key, journal) in journals {
        let watched: Vec<_> = events.iter().filter(|event| *event.key == **key).map(put).collect();
        for write in &journal.acknowledged {
            assert!(watched.contains(write), "{key}: {write:?} was acknowledged and not watched");
        }
        for (revision, value) in &watched {
            let acknowledged = journal.acknowledged.contains(&(*revision, value.clone()));
            assert!(acknowledged || journal.unknown.contains(value), "{key}: {value:?} was said not to be written");
        }
        let entry = entries.iter().find(|entry| *entry.key == **key).expect("it was written");
        assert_eq!(watched.last(), Some(&(entry.modified, entry.value.clone())), "{key}");
    }
    assert_eq!(events.len(), events.iter().filter(|event| journals.contains_key(&*event.key)).count());
}

fn put(event: &Event) -> (Revision, Bytes) {
    match &event.change {
        Change::Put { value, .. } => (event.revision, value.clone()),
        Change::Delete => panic!("nobody deletes: {event:?}"),
    }
}

async fn cluster_store(cluster: &Cluster) -> Arc<Etcd> {
    store_on(cluster, cluster.urls()).await
}

async fn store_on(cluster: &Cluster, endpoints: Vec<String>) -> Arc<Etcd> {
    let options = EtcdOptions { replaces: String::new(), endpoints, ..cluster.options() };
    let timeouts = Timeouts {
        connect: Duration::from_secs(1),
        read: Duration::from_secs(2),
        request: Duration::from_secs(2),
        ..options.timeouts
    };
    Arc::new(Etcd::connect(EtcdOptions { timeouts, ..options }).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_member_is_killed_in_turn_and_nothing_acknowledged_is_lost() {
    let cluster = Cluster::three();
    let load = Load::start(&cluster).await;
    load.progress(50).await;
    for n in [0, 1, 2] {
        cluster.kill(n);
        let took = load.progress(10).await;
        assert!(took < Duration::from_secs(5), "writes were answered again after {took:?}");
        cluster.start(n);
        load.progress(50).await;
    }
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let took = load.progress(10).await;
    assert!(took < Duration::from_secs(5), "writes were answered again after {took:?}");
    cluster.start(leader);
    load.progress(20).await;
    load.finish(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_answers_nothing_is_left() {
    let cluster = Cluster::three();
    let load = Load::start(&cluster).await;
    load.progress(20).await;
    let leader = cluster.leader().await;
    cluster.freeze(leader);
    let took = load.progress(30).await;
    assert!(took < Duration::from_secs(8), "writes were answered again after {took:?}");
    cluster.thaw(leader);
    load.progress(20).await;
    load.finish(&cluster).await;
}

/// A watch on a member that is cut off would hear nothing for as long as pings take; requests notice earlier.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_leaves_a_member_that_lets_requests_run_out_of_time() {
    let cluster = Cluster::three();
    let store = cluster_store(&cluster).await;
    let created = store.create("/f/a", Bytes::new(), None).await.unwrap();
    let mut watch = begun(&*store, "/f/", created).await;
    // The member asked first has both the watch and the writes.
    cluster.freeze(0);
    let begun = Instant::now();
    let mut entry = settle(&store, "/f/a").await.unwrap();
    entry.modified = store.update("/f/a", Bytes::from_static(b"1"), entry.modified, None).await.unwrap();
    assert_eq!(events(&mut watch).await[0].revision, entry.modified);
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    cluster.thaw(0);
}

/// A watch stays where it went when the first member failed, and requests go back to that: nothing else asks the watch's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_leaves_a_member_that_nothing_else_asks() {
    let cluster = Cluster::three();
    // The leader stays as it is.
    let last = cluster.leader().await;
    let (first, second) = ((last + 1) % 3, (last + 2) % 3);
    let urls = cluster.urls();
    let store = store_on(&cluster, [first, second, last].map(|n| urls[n].clone()).into()).await;
    let created = store.create("/f/a", Bytes::new(), None).await.unwrap();
    cluster.kill(first);
    settle(&store, "/f/a").await.unwrap();
    let mut watch = begun(&*store, "/f/", created).await;
    cluster.start(first);
    cluster.leader().await;
    // By now the first member is asked again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let entry = settle(&store, "/f/a").await.unwrap();
    cluster.freeze(second);
    let begun = Instant::now();
    let written = store.update("/f/a", Bytes::from_static(b"1"), entry.modified, None).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "the watch's member was asked: {:?}", begun.elapsed());
    assert_eq!(events(&mut watch).await[0].revision, written);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    cluster.thaw(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_killed_at_once_and_comes_back() {
    let cluster = Cluster::three();
    let load = Load::start(&cluster).await;
    load.progress(50).await;
    (0..3).for_each(|n| cluster.kill(n));
    (0..3).for_each(|n| cluster.start(n));
    load.progress(50).await;
    load.finish(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_writes_are_refused_within_a_bound_and_come_back_by_themselves() {
    let cluster = Cluster::three();
    let options = EtcdOptions { replaces: String::new(), ..cluster.options() };
    let patience = Duration::from_secs(1);
    let timeouts = Timeouts { connect: patience, read: patience, request: patience, patience, ..options.timeouts };
    cluster_store(&cluster).await;
    let store = Etcd::connect(EtcdOptions { timeouts, ..options }).await.unwrap();
    let mut last = store.create("/a", Bytes::from_static(b"0"), None).await.unwrap();
    let leader = cluster.leader().await;
    let others: Vec<_> = (0..3).filter(|n| *n != leader).collect();
    others.iter().for_each(|n| cluster.kill(*n));
    let (mut unknown, mut refused) = (0, 0);
    for n in 1..4 {
        let begun = Instant::now();
        match store.update("/a", Bytes::from(n.to_string()), last, None).await {
            Err(Error::Unknown { .. }) => unknown += 1,
            Err(Error::Unavailable { message }) => {
                assert!(cluster.urls().iter().any(|url| message.contains(url.as_str())), "{message}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
        let bound = timeouts.patience + timeouts.request + timeouts.connect + Duration::from_secs(1);
        assert!(begun.elapsed() < bound, "{:?}", begun.elapsed());
    }
    // The first write was with the leader when the others were gone; after that none is handed over.
    assert!(unknown <= 1 && refused >= 2, "{unknown} {refused}");
    assert!(matches!(store.get("/a").await, Err(Error::Unavailable { .. })), "a read asks a majority, too");
    others.iter().for_each(|n| cluster.start(*n));
    let back = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(Some(entry)) = store.get("/a").await {
                return entry;
            }
        }
    });
    let entry = back.await.expect("it comes back");
    assert!(entry.value == "0" || entry.value == "1", "what was refused was not written: {entry:?}");
    last = store.update("/a", Bytes::from_static(b"4"), entry.modified, None).await.unwrap();
    assert_eq!(store.get("/a").await.unwrap().unwrap().modified, last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_ends_only_watches_that_are_behind_it() {
    let cluster = Cluster::single();
    let store = cluster_store(&cluster).await;
    let mut last = store.create("/f/a", Bytes::new(), None).await.unwrap();
    let mut current = begun(&*store, "/f/", last).await;
    // They begin when they are first asked, which is after compaction.
    let mut behind = store.watch("/f/", Revision(1)).await.unwrap();
    let deleted = store.delete("/f/a", last).await.unwrap();
    let mut deletion_unseen = store.watch("/f/", last).await.unwrap();
    store.compact(deleted).await.unwrap();
    // etcd knows nothing of the deletion any more, and a watch from there has nothing to wait for.
    let mut silent = store.watch("/f/", deleted).await.unwrap();
    assert_eq!(next(&mut silent).await.unwrap(), WatchItem::Progress(deleted));
    last = store.create("/f/b", Bytes::new(), None).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(events(&mut current).await.into_iter().map(|event| event.revision));
    }
    assert_eq!(seen, [deleted, last], "who is up to date misses nothing");
    for (watch, from) in [(&mut behind, Revision(1)), (&mut deletion_unseen, Revision(deleted.0 - 1))] {
        assert_eq!(next(watch).await.unwrap(), WatchItem::Progress(from));
        match next(watch).await {
            Err(Error::Compacted { requested, oldest }) => assert_eq!((requested, oldest), (from, deleted)),
            other => panic!("{other:?}"),
        }
        assert!(watch.next().await.is_none());
    }
    match store.watch("/f/", Revision(1)).await {
        Err(Error::Compacted { oldest, .. }) => assert_eq!(oldest, deleted),
        other => panic!("{:?}", other.map(drop)),
    }
}

/// Two servers take turns: history goes, once per interval, and never what is younger than one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_at_a_time_compacts() {
    let cluster = Cluster::single();
    let interval = Duration::from_millis(200);
    let options = EtcdOptions { replaces: String::new(), compaction_interval: interval, ..cluster.options() };
    let first = Etcd::connect(options.clone()).await.unwrap();
    let second = Etcd::connect(options).await.unwrap();
    let created = first.create("/f/a", Bytes::new(), None).await.unwrap();
    let updated = first.update("/f/a", Bytes::from_static(b"1"), created, None).await.unwrap();
    let compacted = tokio::time::timeout(PATIENCE, async {
        loop {
            match second.list(ListOptions { at: Some(created), ..ListOptions::default() }).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(Error::Compacted { oldest, .. }) => return oldest,
                Err(error) => panic!("{error}"),
            }
        }
    });
    let oldest = compacted.await.expect("history is compacted");
    assert!(oldest >= updated);
    assert_eq!(first.get("/f/a").await.unwrap().unwrap().modified, updated);
    // Each turn takes a revision: no more than one server's turns may have gone by.
    let begun = (Instant::now(), first.revision().await.unwrap());
    let mut watch = first.watch("/f/", begun.1).await.unwrap();
    let turns = tokio::time::timeout(PATIENCE, async {
        loop {
            if let WatchItem::Progress(revision) = watch.next().await.unwrap().unwrap()
                && revision.0 >= begun.1.0 + 4
            {
                return begun.0.elapsed();
            }
        }
    });
    let took = turns.await.expect("turns go on");
    assert!(took >= interval * 3, "four turns in {took:?}");
}
