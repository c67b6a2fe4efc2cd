//! The conformance suite every engine must pass, and a reference model to compare it with. For tests: it asserts.
//!
//! A crate that has an engine implements [`Engine`], and writes `store::conformance_tests!(factory)` in its tests, where
//! `factory: fn() -> impl Engine`.

mod lists;
mod model;
mod time;
mod watches;
mod writes;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;

pub use lists::{at_a_revision, pages_stay_on_their_revision, prefix_edges};
pub use model::{Operation, run as run_model};
pub use time::{compaction, expiry, reopening};
pub use watches::{progress, watch_from_any_revision, watch_under_writes};
pub use writes::{compare_and_swap, concurrent_increments, create_races, revision_order, value_sizes};

use crate::{Event, Revision, Store, WatchItem, WatchStream};

/// One store that can be opened again and again.
#[async_trait]
pub trait Engine: Send + Sync {
    /// The store: empty the first time, later with all that was written. The handle before was closed.
    async fn open(&self) -> Arc<dyn Store>;

    /// Lets this much time pass for time to live, and returns once what is due is gone.
    async fn advance(&self, store: &Arc<dyn Store>, by: Duration);
}

/// Makes a test of every check of the suite.
#[macro_export]
macro_rules! conformance_tests {
    ($factory:expr) => {
        $crate::conformance_tests!($factory =>
            revision_order, compare_and_swap, create_races, concurrent_increments, value_sizes,
            prefix_edges, at_a_revision, pages_stay_on_their_revision,
            watch_from_any_revision, watch_under_writes, progress,
            compaction, expiry, reopening);
    };
    ($factory:expr => $($check:ident),+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $check() {
            $crate::suite::$check(&$factory()).await;
        }
    )+};
}

pub(crate) fn value(text: impl ToString) -> Bytes {
    Bytes::from(text.to_string())
}

/// Far above what any step takes; a watch that hangs must fail, not hang the run.
const PATIENCE: Duration = Duration::from_secs(20);

/// The next item, or a panic where none comes.
pub(crate) async fn next(watch: &mut WatchStream) -> crate::Result<WatchItem> {
    match tokio::time::timeout(PATIENCE, watch.next()).await {
        Ok(Some(item)) => item,
        Ok(None) => panic!("a watch ended without an error"),
        Err(_) => panic!("a watch delivered nothing for {PATIENCE:?}"),
    }
}

/// Events up to `revision`, known to be complete by a later event or a progress item.
pub(crate) async fn events_to(watch: &mut WatchStream, revision: Revision) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        match next(watch).await.expect("the watch goes on") {
            WatchItem::Events(events) => {
                assert!(!events.is_empty(), "an empty item");
                all.extend(events);
            }
            WatchItem::Progress(progress) if progress >= revision => return all,
            WatchItem::Progress(_) => {}
        }
        if all.last().is_some_and(|event: &Event| event.revision >= revision) {
            return all;
        }
    }
}

pub(crate) fn assert_ordered(events: &[Event]) {
    for pair in events.windows(2) {
        assert!(pair[0].revision < pair[1].revision, "out of order: {pair:?}");
    }
}
