//! Bytes under keys with revisions: one trait, two engines (embedded, etcd), one test suite for both.
//!
//! A store knows nothing of kinds, JSON or HTTP. It promises:
//! - one total order of [`Revision`]s, one per committed write, without holes visible to a watcher;
//! - an atomic [`create`](Store::create) and compare-and-swap [`update`](Store::update) and
//!   [`delete`](Store::delete) on an entry's modification revision;
//! - a write is durable before it is acknowledged;
//! - an ordered [`watch`](Store::watch) from any retained revision, without gap or repeat, and
//!   [`Error::Compacted`] below that;
//! - lists at one revision with continuation;
//! - time-to-live, and a bounded size per value.
//!
//! No error is ever folded into "not found": absence is `Ok(None)`, everything else is an [`Error`].

pub mod copy;
pub mod embedded;
pub mod encryption;
mod error;
pub mod etcd;
#[doc(hidden)]
pub mod suite;

pub use error::Error;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Largest value a store takes, in bytes. etcd's default request limit is 1.5 MiB; the embedded engine keeps the same
/// bound, so that a cluster can always be moved to etcd.
pub const VALUE_BYTES_MAX: usize = 1_572_864;

/// A point in the store's one total order of writes. The first write of an empty store gets revision 2, as in etcd
/// (revision 1 is the empty store).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One key's newest (or listed) state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Arc<str>,
    pub value: Bytes,
    /// Revision of the write that created the key.
    pub created: Revision,
    /// Revision of the last write: what compare-and-swap compares.
    pub modified: Revision,
}

/// What to list: all keys that start with `prefix`, in byte order of keys.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub prefix: String,
    /// Continue behind this key (exclusive).
    pub after: Option<String>,
    /// At most this many entries; 0 is no limit.
    pub limit: usize,
    /// The state as of this revision; `None` is the newest. [`Error::Compacted`] where it is no longer retained.
    pub at: Option<Revision>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage {
    pub entries: Vec<Entry>,
    /// The revision the page shows; pass it as [`ListOptions::at`] to continue on the same state.
    pub revision: Revision,
    /// Matching entries behind the last one returned.
    pub remaining: u64,
}

/// One committed write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub revision: Revision,
    pub key: Arc<str>,
    pub change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key was created (`created == revision`) or updated.
    Put { value: Bytes, created: Revision },
    /// The key was deleted or its time to live ran out.
    Delete,
}

/// What a watch delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    /// Committed writes in revision order; never empty. Those of one revision (etcd deletes all keys of a lease in one) are
    /// never in two items, so that a watch can always begin again behind the last one.
    Events(Vec<Event>),
    /// Every matching write up to and including this revision has been delivered.
    Progress(Revision),
}

/// Ends with an error (never silently): after [`Error::Compacted`] or [`Error::Lagged`] list again and watch from there.
pub type WatchStream = BoxStream<'static, Result<WatchItem>>;

#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The newest state of one key.
    async fn get(&self, key: &str) -> Result<Option<Entry>>;

    async fn list(&self, options: ListOptions) -> Result<ListPage>;

    /// Creates `key`; [`Error::Exists`] where it already is.
    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision>;

    /// Replaces the value of `key` where its modification revision is `expected`; else [`Error::Conflict`], which
    /// carries the present entry (`None`: it is gone). `ttl` replaces any former time to live.
    async fn update(&self, key: &str, value: Bytes, expected: Revision, ttl: Option<Duration>) -> Result<Revision>;

    /// Deletes `key` where its modification revision is `expected`; else [`Error::Conflict`], as in `update`.
    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision>;

    /// All writes under `prefix` with a revision greater than `after`, in order, then onwards as they are committed.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream>;

    /// The revision of the newest acknowledged write: a linearizable read.
    async fn revision(&self) -> Result<Revision>;

    /// Whether what is stored under `key` is written as it would be now. Where it is not (its encryption key is no longer the
    /// first), a write that changes nothing is due; upstream calls such a value stale.
    async fn is_current(&self, _key: &str) -> Result<bool> {
        Ok(true)
    }

    /// Forgets history up to and including `revision`; the newest state of every key stays.
    async fn compact(&self, revision: Revision) -> Result<()>;

    /// Answers once everything acknowledged is on disk and the engine has let go of its files.
    async fn close(&self) -> Result<()>;
}
