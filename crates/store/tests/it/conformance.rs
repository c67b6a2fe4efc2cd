//! The suite every engine must pass, random runs against the reference model, and what only the embedded engine promises.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use proptest::prelude::*;
use store::{
    Error, ListOptions, Revision, Store, WatchItem,
    embedded::{Embedded, EmbeddedOptions, HistoryLimits, Restored, check, restore},
    suite::{Engine, Operation, run_model},
};

use crate::support::{EmbeddedEngine, open, runtime};

store::conformance_tests!(EmbeddedEngine::new);

pub fn operation() -> impl Strategy<Value = Operation> {
    let ttl = || prop::option::weighted(0.3, 1_u8..20);
    prop_oneof![
        4 => (any::<u8>(), 0..9000_u16, ttl()).prop_map(|(key, size, ttl)| Operation::Create { key, size, ttl }),
        6 => (any::<u8>(), 0..9000_u16, ttl(), prop::bool::weighted(0.2))
            .prop_map(|(key, size, ttl, stale)| Operation::Update { key, size, ttl, stale }),
        3 => (any::<u8>(), prop::bool::weighted(0.2)).prop_map(|(key, stale)| Operation::Delete { key, stale }),
        1 => any::<u8>().prop_map(|key| Operation::Get { key }),
        2 => (any::<u8>(), 0..4_u8, 0..30_u8).prop_map(|(prefix, limit, back)| Operation::List { prefix, limit, back }),
        2 => (any::<u8>(), 0..30_u8).prop_map(|(prefix, back)| Operation::Watch { prefix, back }),
        1 => (0..20_u8).prop_map(|back| Operation::Compact { back }),
        1 => (0..15_u8).prop_map(|seconds| Operation::Advance { seconds }),
        1 => Just(Operation::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_runs_match_the_model(operations in prop::collection::vec(operation(), 1..60)) {
        runtime().block_on(run_model(&EmbeddedEngine::new(), &operations));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_opening_is_refused_until_the_first_is_gone() {
    let engine = EmbeddedEngine::new();
    let first = engine.open().await;
    assert!(matches!(Embedded::open(engine.options()), Err(Error::InUse { .. })));
    assert!(matches!(check(&engine.options().path.join("store.redb")), Err(Error::InUse { .. })));
    first.close().await.unwrap();
    drop(Embedded::open(engine.options()).unwrap());
    drop(Embedded::open(engine.options()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reaper_acts_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let created = store.create("/a", Bytes::new(), Some(Duration::from_millis(50))).await.unwrap();
    let mut watch = store.watch("/", created).await.unwrap();
    let deleted = async {
        loop {
            if let WatchItem::Events(events) = watch.next().await.unwrap().unwrap() {
                return events;
            }
        }
    };
    let events = tokio::time::timeout(Duration::from_secs(10), deleted).await.expect("the row goes in time");
    assert_eq!(events[0].revision, Revision(created.0 + 1));
    assert_eq!(store.get("/a").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_behind_the_bounds_of_history_is_told() {
    let engine = EmbeddedEngine::new();
    let history = HistoryLimits { events: 10, ..HistoryLimits::default() };
    let store = Embedded::open(EmbeddedOptions { history, ..engine.options() }).unwrap();
    let mut watch = store.watch("/", Revision(1)).await.unwrap();
    for n in 0..11 {
        store.create(&format!("/{n}"), Bytes::new(), None).await.unwrap();
    }
    assert!(matches!(watch.next().await, Some(Err(Error::Lagged))));
    assert!(watch.next().await.is_none());
    assert!(matches!(store.watch("/", Revision(1)).await, Err(Error::Compacted { oldest: Revision(2), .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_under_writes_is_a_store_of_one_revision() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&directory.path().join("live")).unwrap());
    for n in 0..500 {
        store
            .create(&format!("/k/{n:04}"), Bytes::from(vec![7; 20_000]), Some(Duration::from_secs(9999)))
            .await
            .unwrap();
    }
    let writing = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for n in 500..700 {
                store.create(&format!("/k/{n:04}"), Bytes::from(vec![7; 2000]), None).await.unwrap();
            }
        })
    };
    let restored = directory.path().join("restored");
    std::fs::create_dir(&restored).unwrap();
    let to = restored.join("store.redb");
    let report = store.snapshot(&to).await.unwrap();
    assert!(store.snapshot(&to).await.is_err(), "an existing file is not overwritten");
    writing.await.unwrap();
    assert_eq!(check(&to).unwrap(), report);
    assert_eq!(report.rows, report.revision.0 - 1);
    assert_eq!(report.expiring, 500);
    let copy = open(&restored).unwrap();
    let at = ListOptions { prefix: "/".into(), at: Some(report.revision), ..ListOptions::default() };
    assert_eq!(copy.list(at.clone()).await.unwrap(), store.list(at).await.unwrap());
    store.close().await.unwrap();

    // A snapshot is another store: it may take the place of a newer file without being taken for a loss.
    copy.close().await.unwrap();
    let live = directory.path().join("live");
    let Restored { report: of_snapshot, kept } = restore(&to, &live, 7).unwrap();
    assert_eq!(of_snapshot, report);
    assert_eq!(check(&kept.unwrap()).unwrap().rows, 700);
    let back = open(&live).unwrap();
    assert!(matches!(restore(&to, &live, 8), Err(Error::InUse { .. })), "a store in use stays where it is");
    assert_eq!(back.revision().await.unwrap(), report.revision);
}
