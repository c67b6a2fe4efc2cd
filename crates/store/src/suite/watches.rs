//! Checks of watches.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt, stream};
use tokio::task::JoinSet;

use super::{Engine, assert_ordered, events_to, next, value};
use crate::{Change, Error, Event, ListOptions, Revision, Store, WatchItem};

/// A watch from any revision delivers exactly what came after it, under its prefix.
pub async fn watch_from_any_revision(engine: &impl Engine) {
    let store = engine.open().await;
    let start = store.revision().await.unwrap();
    let mut expected = Vec::new();
    for n in 0..20 {
        let key = format!("/{}/{n}", if n % 2 == 0 { "even" } else { "odd" });
        let created = store.create(&key, value(n), None).await.unwrap();
        expected.push(event(created, &key, Change::Put { value: value(n), created }));
        let updated = store.update(&key, value("x"), created, None).await.unwrap();
        expected.push(event(updated, &key, Change::Put { value: value("x"), created }));
        if n % 4 < 2 {
            let deleted = store.delete(&key, updated).await.unwrap();
            expected.push(event(deleted, &key, Change::Delete));
        }
    }
    let newest = store.revision().await.unwrap();
    let starts = (start.0..=newest.0).map(Revision);
    let watches = starts.flat_map(|after| ["", "/even/", "/od"].map(|prefix| (after, prefix)));
    // Many at once: an engine may take its time to begin one.
    let checks = stream::iter(watches).for_each_concurrent(16, |(after, prefix)| {
        let (store, expected) = (&store, &expected);
        async move {
            let mut watch = store.watch(prefix, after).await.unwrap();
            let events = events_to(&mut watch, newest).await;
            let wanted: Vec<_> =
                expected.iter().filter(|event| event.revision > after && event.key.starts_with(prefix)).collect();
            assert_eq!(events.iter().collect::<Vec<_>>(), wanted, "{prefix} after {after}");
        }
    });
    checks.await;
    store.close().await.unwrap();
}

fn event(revision: Revision, key: &str, change: Change) -> Event {
    Event { revision, key: key.into(), change }
}

/// Watches that begin while many write see every later write once, in order, and agree with the final list.
pub async fn watch_under_writes(engine: &impl Engine) {
    let store = engine.open().await;
    let start = store.revision().await.unwrap();
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for n in 0..40 {
                let key = format!("/w/{writer}/{}", n % 5);
                match store.get(&key).await.unwrap() {
                    None => store.create(&key, value(n), None).await.unwrap(),
                    Some(entry) if n % 7 == 0 => store.delete(&key, entry.modified).await.unwrap(),
                    Some(entry) => store.update(&key, value(n), entry.modified, None).await.unwrap(),
                };
            }
        });
    }
    let mut watchers = JoinSet::new();
    for _ in 0..6 {
        let page = store.list(ListOptions { prefix: "/w/".to_owned(), ..ListOptions::default() }).await.unwrap();
        let watch = store.watch("/w/", page.revision).await.unwrap();
        let end = Revision(start.0 + 8 * 40);
        watchers.spawn(async move {
            let mut watch = watch;
            (page, events_to(&mut watch, end).await)
        });
    }
    while let Some(result) = writers.join_next().await {
        result.unwrap();
    }
    let last = store.list(ListOptions { prefix: "/w/".to_owned(), ..ListOptions::default() }).await.unwrap();
    assert_eq!(last.revision.0, start.0 + 8 * 40, "each write succeeded, as no two share a key");
    while let Some(result) = watchers.join_next().await {
        let (page, events) = result.unwrap();
        assert_ordered(&events);
        assert_eq!(events.len() as u64, last.revision.0 - page.revision.0, "no gap and no repeat");
        let mut state: BTreeMap<_, _> =
            page.entries.into_iter().map(|entry| (entry.key, (entry.value, entry.modified))).collect();
        for event in events {
            match event.change {
                Change::Put { value, .. } => state.insert(event.key, (value, event.revision)),
                Change::Delete => state.remove(&event.key),
            };
        }
        let wanted: BTreeMap<_, _> =
            last.entries.iter().map(|entry| (Arc::clone(&entry.key), (entry.value.clone(), entry.modified))).collect();
        assert_eq!(state, wanted);
    }
    store.close().await.unwrap();
}

/// A watch tells how far it is, also where nothing under its prefix happens; it ends with an error.
pub async fn progress(engine: &impl Engine) {
    let store = engine.open().await;
    let start = store.revision().await.unwrap();
    let mut watch = store.watch("/quiet/", start).await.unwrap();
    let first = store.create("/loud/1", value(1), None).await.unwrap();
    let second = store.create("/loud/2", value(1), None).await.unwrap();
    assert!(events_to(&mut watch, second).await.is_empty());
    let third = store.create("/quiet/1", value(1), None).await.unwrap();
    let events = events_to(&mut watch, third).await;
    assert_eq!(events, [event(third, "/quiet/1", Change::Put { value: value(1), created: third })]);
    let fourth = store.create("/loud/4", value(1), None).await.unwrap();
    loop {
        match next(&mut watch).await.unwrap() {
            WatchItem::Progress(revision) if revision == fourth => break,
            WatchItem::Progress(revision) => assert!(revision < fourth && revision >= first),
            WatchItem::Events(events) => panic!("{events:?}"),
        }
    }
    match store.watch("/", Revision(fourth.0 + 1)).await {
        Err(Error::Future { newest, .. }) => assert_eq!(newest, fourth),
        other => panic!("{:?}", other.map(|_| "a watch")),
    }
    store.close().await.unwrap();
    loop {
        match next(&mut watch).await {
            Ok(WatchItem::Progress(_)) => {}
            Ok(WatchItem::Events(events)) => panic!("{events:?}"),
            Err(error) => break assert!(matches!(error, Error::Closed), "{error}"),
        }
    }
    let _: Arc<dyn Store> = store;
}
