//! Everything that can go wrong in a store, typed, so that nobody needs to read an error's text.

use crate::{Entry, Revision};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("key {key} already exists")]
    Exists { key: String },
    /// The entry is not at the expected revision; `current` is what is there now.
    #[error("key {key} is not at the expected revision")]
    Conflict { key: String, current: Option<Box<Entry>> },
    #[error("revision {requested} has been compacted; the oldest that is retained is {oldest}")]
    Compacted { requested: Revision, oldest: Revision },
    #[error("revision {requested} is ahead of the newest, {newest}")]
    Future { requested: Revision, newest: Revision },
    /// A watcher fell behind what is buffered for it.
    #[error("watcher fell behind the retained history")]
    Lagged,
    #[error("value of {bytes} bytes for {key} is larger than the limit of {limit} bytes")]
    TooLarge { key: String, bytes: usize, limit: usize },
    /// The disk or the store's quota is full. Nothing was written; reads go on.
    #[error("no space left for the store: {message}")]
    NoSpace { message: String },
    /// The store does not answer. The embedded engine also says so of a write whose fate it does not know; etcd says
    /// [`Error::Unknown`] of those, and with this one nothing was written.
    #[error("store unavailable: {message}")]
    Unavailable { message: String },
    /// A write was handed over and its outcome is not known (connection lost, time-out): it may or may not have been
    /// committed, or may be committed later. Read before trying again.
    #[error("the outcome of the write is not known: {message}")]
    Unknown { message: String },
    /// The store refuses us, or is not ours: certificates, credentials, permissions, another cluster. It stays so until
    /// somebody changes what `message` names.
    #[error("cannot use the store: {message}")]
    Misconfigured { message: String },
    /// What is on disk is not what was written. `message` says what to do.
    #[error("store is damaged: {message}")]
    Damaged { message: String },
    /// Another process holds the files.
    #[error("{path} is in use by another process")]
    InUse { path: String },
    #[error("store is closed")]
    Closed,
    #[error("{context}: {source}")]
    Io { context: String, source: std::io::Error },
}
