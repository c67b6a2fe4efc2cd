//! Checks of single writes and of writers that compete.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{Engine, value};
use crate::{Error, Revision, VALUE_BYTES_MAX};

/// Each write gets the next revision, and reads show it.
pub async fn revision_order(engine: &impl Engine) {
    let store = engine.open().await;
    let start = store.revision().await.unwrap();
    assert!(start >= Revision(1));
    let created = store.create("/a", value("1"), None).await.unwrap();
    assert_eq!(created.0, start.0 + 1, "the first write of an empty store has revision 2, as in etcd");
    let other = store.create("/b", value("1"), None).await.unwrap();
    let updated = store.update("/a", value("2"), created, None).await.unwrap();
    assert_eq!([other.0, updated.0], [created.0 + 1, created.0 + 2]);
    assert_eq!(store.revision().await.unwrap(), updated);
    let entry = store.get("/a").await.unwrap().unwrap();
    assert_eq!((&*entry.key, &entry.value[..], entry.created, entry.modified), ("/a", &b"2"[..], created, updated));
    let deleted = store.delete("/a", updated).await.unwrap();
    assert_eq!(deleted.0, updated.0 + 1);
    assert_eq!(store.get("/a").await.unwrap(), None);
    let again = store.create("/a", value("3"), None).await.unwrap();
    assert_eq!(store.get("/a").await.unwrap().unwrap().created, again, "a new life has a new creation revision");
    store.close().await.unwrap();
    assert!(matches!(store.get("/a").await, Err(Error::Closed)));
    assert!(matches!(store.create("/c", value("1"), None).await, Err(Error::Closed)));
}

/// A write with a wrong expectation changes nothing and says what is there.
pub async fn compare_and_swap(engine: &impl Engine) {
    let store = engine.open().await;
    let first = store.create("/a", value("1"), None).await.unwrap();
    let second = store.update("/a", value("2"), first, None).await.unwrap();
    let before = store.revision().await.unwrap();
    match store.create("/a", value("x"), None).await {
        Err(Error::Exists { key }) => assert_eq!(key, "/a"),
        other => panic!("{other:?}"),
    }
    for (result, exists) in [
        (store.update("/a", value("x"), first, None).await, true),
        (store.update("/a", value("x"), Revision(second.0 + 100), None).await, true),
        (store.delete("/a", first).await, true),
        (store.update("/none", value("x"), first, None).await, false),
        (store.delete("/none", first).await, false),
    ] {
        match result {
            Err(Error::Conflict { current, .. }) => {
                assert_eq!(current.map(|entry| (entry.modified, entry.value)), exists.then(|| (second, value("2"))));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(store.revision().await.unwrap(), before, "a refused write takes no revision");
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, value("2"));
    store.close().await.unwrap();
}

/// Of many that create one key at once, one succeeds.
pub async fn create_races(engine: &impl Engine) {
    let store = engine.open().await;
    for round in 0..10 {
        let mut racers = JoinSet::new();
        for racer in 0..16 {
            let store = Arc::clone(&store);
            racers.spawn(async move { (racer, store.create(&format!("/race/{round}"), value(racer), None).await) });
        }
        let mut winner = None;
        while let Some(result) = racers.join_next().await {
            match result.unwrap() {
                (racer, Ok(revision)) => {
                    assert!(winner.replace((racer, revision)).is_none(), "two have won")
                }
                (_, Err(Error::Exists { .. })) => {}
                (_, Err(error)) => panic!("{error}"),
            }
        }
        let (racer, revision) = winner.expect("one wins");
        let entry = store.get(&format!("/race/{round}")).await.unwrap().unwrap();
        assert_eq!((entry.value, entry.modified), (value(racer), revision));
    }
    store.close().await.unwrap();
}

/// Increments through compare-and-swap lose nothing, and no two writes share a revision.
pub async fn concurrent_increments(engine: &impl Engine) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 25;
    let store = engine.open().await;
    let start = store.create("/counter", value(0), None).await.unwrap();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let mut revisions = Vec::new();
            while revisions.len() < EACH as usize {
                let entry = store.get("/counter").await.unwrap().unwrap();
                let count: u64 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
                match store.update("/counter", value(count + 1), entry.modified, None).await {
                    Ok(revision) => revisions.push(revision),
                    Err(Error::Conflict { current, .. }) => {
                        assert!(current.unwrap().modified > entry.modified)
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            revisions
        });
    }
    let mut revisions = Vec::new();
    while let Some(own) = writers.join_next().await {
        let own = own.unwrap();
        assert!(own.is_sorted(), "a writer sees its own writes in order");
        revisions.extend(own);
    }
    revisions.sort();
    let expected: Vec<_> = (1..=WRITERS * EACH).map(|n| Revision(start.0 + n)).collect();
    assert_eq!(revisions, expected);
    assert_eq!(store.get("/counter").await.unwrap().unwrap().value, value(WRITERS * EACH));
    store.close().await.unwrap();
}

/// Values up to the limit come back whole, larger ones are refused, also when many are written at once.
pub async fn value_sizes(engine: &impl Engine) {
    let store = engine.open().await;
    for size in [0, 1, 4095, 4096, 65_537, VALUE_BYTES_MAX] {
        let key = format!("/size/{size}");
        let written: Bytes = (0..size).map(|at| (at % 251) as u8).collect();
        let revision = store.create(&key, written.clone(), None).await.unwrap();
        assert!(store.get(&key).await.unwrap().unwrap().value == written, "{size} bytes");
        store.update(&key, written, revision, None).await.unwrap();
    }
    let before = store.revision().await.unwrap();
    match store.create("/size/over", Bytes::from(vec![0; VALUE_BYTES_MAX + 1]), None).await {
        Err(Error::TooLarge { bytes, limit, .. }) => {
            assert_eq!((bytes, limit), (VALUE_BYTES_MAX + 1, VALUE_BYTES_MAX))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.revision().await.unwrap(), before);
    let mut writers = JoinSet::new();
    for writer in 0..24 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            store.create(&format!("/many/{writer}"), Bytes::from(vec![writer; VALUE_BYTES_MAX]), None).await.unwrap();
        });
    }
    while let Some(result) = writers.join_next().await {
        result.unwrap();
    }
    for writer in 0..24 {
        let entry = store.get(&format!("/many/{writer}")).await.unwrap().unwrap();
        assert!(entry.value.len() == VALUE_BYTES_MAX && entry.value.iter().all(|byte| *byte == writer));
    }
    store.close().await.unwrap();
}
