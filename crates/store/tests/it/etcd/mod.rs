//! The etcd engine against real etcd processes: the suite, one member and three, and everything that can happen to them.

mod access;
mod admin;
mod cluster;
mod conformance;
mod faults;
mod limits;

use std::time::Duration;

use futures_util::StreamExt;
use store::{WatchItem, WatchStream};

/// The next item of a watch; a watch that hangs must fail, not hang the run.
async fn next(watch: &mut WatchStream) -> store::Result<WatchItem> {
    let item = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
    item.expect("a watch delivers").expect("a watch ends with an error")
}
