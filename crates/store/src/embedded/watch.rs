//! Watches: each keeps a place in the shared history, so that a slow watcher costs no memory and none is ever missed out.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::sync::watch::Receiver;

use super::shared::{Shared, Signal};
use crate::{Error, Result, Revision, WatchItem, WatchStream};

/// Most writes looked at under one hold of the history's lock, and most events in one item.
const LOOK_AHEAD: usize = 512;

pub(super) fn watch(shared: &Arc<Shared>, prefix: &str, after: Revision) -> Result<WatchStream> {
    if shared.is_closed() {
        return Err(Error::Closed);
    }
    shared.history.lock().check(after)?;
    let watcher = Watcher {
        signal: shared.signal.subscribe(),
        shared: Arc::clone(shared),
        prefix: prefix.to_owned(),
        seen: after.0,
        told: None,
    };
    Ok(stream::unfold(Some(watcher), |watcher| async {
        let mut watcher = watcher?;
        let item = watcher.next().await;
        let next = item.is_ok().then_some(watcher);
        Some((item, next))
    })
    .boxed())
}

struct Watcher {
    shared: Arc<Shared>,
    signal: Receiver<Signal>,
    prefix: String,
    /// Everything up to this revision has been looked at.
    seen: u64,
    /// What the consumer knows to have been looked at.
    told: Option<u64>,
}

impl Watcher {
    async fn next(&mut self) -> Result<WatchItem> {
        loop {
            let signal = *self.signal.borrow_and_update();
            while self.seen != signal.revision {
                let (events, seen) = self.shared.history.lock().events(&self.prefix, self.seen, LOOK_AHEAD)?;
                if seen == self.seen {
                    break;
                }
                self.seen = seen;
                if let Some(last) = events.last() {
                    self.told = Some(last.revision.0);
                    return Ok(WatchItem::Events(events));
                }
            }
            if self.told != Some(self.seen) {
                self.told = Some(self.seen);
                return Ok(WatchItem::Progress(Revision(self.seen)));
            }
            if signal.closed || self.signal.changed().await.is_err() {
                return Err(Error::Closed);
            }
        }
    }
}
