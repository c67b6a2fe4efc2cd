//! The etcd engine against real etcd processes: the suite, one member and three, and everything that can happen to them.

mod access;
mod admin;
mod cluster;
mod conformance;
mod faults;
mod limits;
mod members;

use std::time::Duration;

use futures_util::StreamExt;
use store::{Event, Revision, Store, WatchItem, WatchStream};

/// The next item of a watch; a watch that hangs must fail, not hang the run.
async fn next(watch: &mut WatchStream) -> store::Result<WatchItem> {
    let item = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
    item.expect("a watch delivers").expect("a watch ends with an error")
}

/// The next events of a watch.
async fn events(watch: &mut WatchStream) -> Vec<Event> {
    loop {
        if let WatchItem::Events(events) = next(watch).await.unwrap() {
            return events;
        }
    }
}

/// A watch that has begun: it has delivered what was written at `newest`.
async fn begun(store: &impl Store, prefix: &str, newest: Revision) -> WatchStream {
    let mut watch = store.watch(prefix, Revision(newest.0 - 1)).await.unwrap();
    let first = events(&mut watch).await;
    assert_eq!(first.iter().map(|event| event.revision).collect::<Vec<_>>(), [newest]);
    watch
}
