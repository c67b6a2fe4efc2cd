//! Checks of compaction, time to live, and closing and opening again.

use std::time::Duration;

use super::{Engine, events_to, value};
use crate::{Change, Error, ListOptions, Revision};

/// What was compacted is refused with the oldest revision that is left; the newest state stays.
pub async fn compaction(engine: &impl Engine) {
    let store = engine.open().await;
    let mut revisions = vec![store.create("/a", value(0), None).await.unwrap()];
    for n in 1..10 {
        let last = revisions[n - 1];
        revisions.push(store.update("/a", value(n), last, None).await.unwrap());
    }
    let cut = revisions[5];
    store.compact(cut).await.unwrap();
    store.compact(cut).await.unwrap();
    for (n, revision) in revisions.iter().enumerate() {
        let listed =
            store.list(ListOptions { prefix: "/".into(), at: Some(*revision), ..ListOptions::default() }).await;
        let watched = store.watch("/", *revision).await;
        if *revision < cut {
            assert!(
                matches!(listed, Err(Error::Compacted { requested, oldest }) if requested == *revision && oldest == cut)
            );
            assert!(
                matches!(watched, Err(Error::Compacted { requested, oldest }) if requested == *revision && oldest == cut)
            );
        } else {
            assert_eq!(listed.unwrap().entries[0].value, value(n));
            let events = events_to(&mut watched.unwrap(), revisions[9]).await;
            assert_eq!(events.len(), 9 - n);
        }
    }
    let newest = store.revision().await.unwrap();
    assert!(matches!(store.compact(Revision(newest.0 + 1)).await, Err(Error::Future { .. })));
    store.compact(newest).await.unwrap();
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, value(9));
    store.close().await.unwrap();
}

/// Time to live: rows go in time, as deletes with revisions; an update replaces the time; it runs while the store is closed.
pub async fn expiry(engine: &impl Engine) {
    let store = engine.open().await;
    let ttl = |seconds| Some(Duration::from_secs(seconds));
    let first = store.create("/ttl/short", value(1), ttl(10)).await.unwrap();
    let kept = store.create("/ttl/renewed", value(1), ttl(10)).await.unwrap();
    let freed = store.create("/ttl/freed", value(1), ttl(10)).await.unwrap();
    store.create("/ttl/late", value(1), ttl(1000)).await.unwrap();
    store.create("/ttl/none", value(1), None).await.unwrap();
    engine.advance(&store, Duration::from_secs(5)).await;
    assert_eq!(store.get("/ttl/short").await.unwrap().map(|entry| entry.modified), Some(first));
    store.update("/ttl/renewed", value(2), kept, ttl(100)).await.unwrap();
    let freed = store.update("/ttl/freed", value(2), freed, None).await.unwrap();
    let before = store.revision().await.unwrap();
    let mut watch = store.watch("/ttl/", before).await.unwrap();
    engine.advance(&store, Duration::from_secs(10)).await;
    let deleted = Revision(before.0 + 1);
    let events = events_to(&mut watch, deleted).await;
    assert_eq!(
        events.iter().map(|event| (&*event.key, &event.change)).collect::<Vec<_>>(),
        [("/ttl/short", &Change::Delete)]
    );
    assert_eq!(store.get("/ttl/short").await.unwrap(), None);
    assert!(matches!(
        store.update("/ttl/short", value(3), first, None).await,
        Err(Error::Conflict { current: None, .. })
    ));
    drop(watch);
    store.close().await.unwrap();
    drop(store);

    let store = engine.open().await;
    engine.advance(&store, Duration::from_secs(200)).await;
    let page = store.list(ListOptions { prefix: "/ttl/".into(), ..ListOptions::default() }).await.unwrap();
    let left: Vec<_> = page.entries.iter().map(|entry| &*entry.key).collect();
    assert_eq!(left, ["/ttl/freed", "/ttl/late", "/ttl/none"]);
    assert_eq!(store.revision().await.unwrap().0, deleted.0 + 1);
    store.delete("/ttl/freed", freed).await.unwrap();
    engine.advance(&store, Duration::from_secs(1000)).await;
    assert_eq!(store.get("/ttl/late").await.unwrap(), None);
    store.close().await.unwrap();
}

/// Everything is there after closing and opening, revisions go on, and an older watch is told so or served.
pub async fn reopening(engine: &impl Engine) {
    let store = engine.open().await;
    for n in 0..50 {
        store.create(&format!("/r/{n:02}"), value(n), None).await.unwrap();
    }
    let entry = store.get("/r/10").await.unwrap().unwrap();
    store.delete("/r/10", entry.modified).await.unwrap();
    let before = store.list(ListOptions { prefix: "/r/".into(), ..ListOptions::default() }).await.unwrap();
    store.close().await.unwrap();
    store.close().await.unwrap();
    drop(store);

    let store = engine.open().await;
    let after = store.list(ListOptions { prefix: "/r/".into(), ..ListOptions::default() }).await.unwrap();
    assert_eq!(after, before);
    let next = store.create("/r/10", value("new"), None).await.unwrap();
    assert_eq!(next.0, before.revision.0 + 1);
    let events = events_to(&mut store.watch("/r/", before.revision).await.unwrap(), next).await;
    assert_eq!(events.len(), 1);
    match store.watch("/r/", entry.modified).await {
        Err(Error::Compacted { .. }) => {}
        Ok(mut watch) => assert_eq!(events_to(&mut watch, next).await.len() as u64, next.0 - entry.modified.0),
        Err(error) => panic!("{error}"),
    }
    store.close().await.unwrap();
}
