//! Checks of lists.

use std::sync::Arc;

use super::{Engine, value};
use crate::{Entry, Error, ListOptions, Revision, Store};

fn under(prefix: &str) -> ListOptions {
    ListOptions { prefix: prefix.to_owned(), ..ListOptions::default() }
}

fn keys(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| &*entry.key).collect()
}

/// What a prefix and a key to continue behind select, in byte order.
pub async fn prefix_edges(engine: &impl Engine) {
    let store = engine.open().await;
    for key in ["/ab", "/a/", "/a/b", "/a", "/a/b/c", "/a0", "/b", "/a/é", "/a/\u{10ffff}", "/a/B", "/a/b-c"] {
        store.create(key, value(key), None).await.unwrap();
    }
    let in_a: &[&str] = &["/a/", "/a/B", "/a/b", "/a/b-c", "/a/b/c", "/a/é", "/a/\u{10ffff}"];
    for (prefix, after, limit, expected, remaining) in [
        ("/a/", None, 0, in_a, 0),
        ("/a/", None, 3, &in_a[..3], 4),
        ("/a/", Some("/a/b"), 2, &in_a[3..5], 2),
        ("/a/", Some("/a/b/"), 2, &in_a[4..6], 1),
        ("/a/", Some("/"), 1, &in_a[..1], 6),
        ("/a/", Some("/a/\u{10ffff}"), 5, &[], 0),
        ("/a/", Some("/z"), 0, &[], 0),
        ("/a/b", None, 0, &["/a/b", "/a/b-c", "/a/b/c"], 0),
        ("/ab", None, 0, &["/ab"], 0),
        ("", None, 1, &["/a"], 10),
        ("/c", None, 0, &[], 0),
    ] {
        let options = ListOptions { after: after.map(str::to_owned), limit, ..under(prefix) };
        let page = store.list(options).await.unwrap();
        assert_eq!((keys(&page.entries), page.remaining), (expected.to_vec(), remaining), "{prefix} {after:?} {limit}");
        assert_eq!(page.revision, store.revision().await.unwrap());
    }
    store.close().await.unwrap();
}

/// A list at an older revision shows the state of then: values, deleted keys, and none of what came later.
pub async fn at_a_revision(engine: &impl Engine) {
    let store = engine.open().await;
    let mut states: Vec<(Revision, Vec<Entry>)> = Vec::new();
    for step in 0..40_u32 {
        let key = format!("/k/{}", step * 7 % 10);
        match store.get(&key).await.unwrap() {
            None => store.create(&key, value(step), None).await.unwrap(),
            Some(entry) if step % 3 == 0 => store.delete(&key, entry.modified).await.unwrap(),
            Some(entry) => store.update(&key, value(step), entry.modified, None).await.unwrap(),
        };
        let page = store.list(under("/k/")).await.unwrap();
        states.push((page.revision, page.entries));
    }
    for (revision, entries) in &states {
        let page = store.list(ListOptions { at: Some(*revision), ..under("/k/") }).await.unwrap();
        assert_eq!((&page.entries, page.revision), (entries, *revision));
        let mut paged = Vec::new();
        loop {
            let after = paged.last().map(|entry: &Entry| entry.key.to_string());
            let page = store.list(ListOptions { at: Some(*revision), after, limit: 2, ..under("/k/") }).await.unwrap();
            paged.extend(page.entries);
            assert_eq!(page.remaining as usize, entries.len() - paged.len());
            if page.remaining == 0 {
                break;
            }
        }
        assert_eq!(&paged, entries);
    }
    let newest = store.revision().await.unwrap();
    match store.list(ListOptions { at: Some(Revision(newest.0 + 1)), ..under("/k/") }).await {
        Err(Error::Future { newest: told, .. }) => assert_eq!(told, newest),
        other => panic!("{other:?}"),
    }
    store.close().await.unwrap();
}

/// Pages of one list show one state, whatever is written meanwhile.
pub async fn pages_stay_on_their_revision(engine: &impl Engine) {
    let store = engine.open().await;
    for n in 0..100 {
        store.create(&format!("/p/{n:03}"), value(n), None).await.unwrap();
    }
    let before = store.list(under("/p/")).await.unwrap().entries;
    let writing = tokio::spawn(disturb(Arc::clone(&store)));
    let (mut paged, mut at, mut remaining) = (Vec::new(), None, 1);
    while remaining > 0 {
        let after = paged.last().map(|entry: &Entry| entry.key.to_string());
        let page = store.list(ListOptions { after, limit: 7, at, ..under("/p/") }).await.unwrap();
        if at.is_none() {
            // The writer may have got in before the first page: then that state counts.
            let all = store.list(ListOptions { at: Some(page.revision), ..under("/p/") }).await.unwrap();
            assert!(all.revision > Revision(100) && !before.is_empty());
            paged.clear();
            at = Some(page.revision);
        }
        assert_eq!(Some(page.revision), at);
        paged.extend(page.entries);
        remaining = page.remaining;
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
    let again = store.list(ListOptions { at, ..under("/p/") }).await.unwrap();
    assert_eq!(paged, again.entries);
    store.close().await.unwrap();
}

async fn disturb(store: Arc<dyn Store>) {
    for n in 0..100 {
        let entry = store.get(&format!("/p/{n:03}")).await.unwrap().unwrap();
        match n % 3 {
            0 => store.delete(&entry.key, entry.modified).await.unwrap(),
            1 => store.update(&entry.key, value("later"), entry.modified, None).await.unwrap(),
            _ => store.create(&format!("/p/{n:03}-new"), value("new"), None).await.unwrap(),
        };
    }
}
