//! What the writer thread, readers and watches of one open store share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex, RwLock};
use redb::{Database, ReadTransaction, ReadableDatabase};
use tokio::sync::watch;

use super::{
    database,
    fault::{Fault, contained, fault},
    format::Meta,
    history::{History, Record},
};
use crate::{Result, Revision};

/// How long a reader waits for the writer to tell of a commit that the reader has already seen on disk. It takes
/// microseconds; a writer that died in between must not hang its readers.
const PUBLISH_WAIT: Duration = Duration::from_secs(5);

pub(super) struct Shared {
    /// `None` while closed, or while the writer could not reopen it on a full disk. Readers hold the lock while they
    /// read, so that whoever takes the database away waits for them.
    pub database: RwLock<Option<Database>>,
    pub history: Mutex<History>,
    /// Signalled with `history` after each publication.
    published: Condvar,
    revision: AtomicU64,
    /// Why there can be no more writes.
    poison: Mutex<Option<Fault>>,
    pub signal: watch::Sender<Signal>,
}

/// What wakes watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signal {
    pub revision: u64,
    pub closed: bool,
}

impl Shared {
    pub(super) fn new(database: Database, history: History) -> Arc<Self> {
        let revision = history.newest();
        Arc::new(Self {
            database: RwLock::new(Some(database)),
            history: Mutex::new(history),
            published: Condvar::new(),
            revision: AtomicU64::new(revision),
            poison: Mutex::new(None),
            signal: watch::Sender::new(Signal { revision, closed: false }),
        })
    }

    pub(super) fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.signal.borrow().closed
    }

    pub(super) fn poison(&self, fault: Fault) {
        tracing::error!(?fault, "the store takes no more writes until it is opened again");
        self.poison.lock().get_or_insert(fault);
    }

    pub(super) fn check_poison(&self) -> Result<(), Fault> {
        self.poison.lock().clone().map_or(Ok(()), Err)
    }

    /// Tells readers and watches of committed writes. Called before the writes are acknowledged.
    pub(super) fn publish(&self, records: Vec<Record>) {
        let mut history = self.history.lock();
        for record in records {
            history.push(record);
        }
        self.announce(history.newest());
    }

    /// The state was read anew and has `revision`; what led there is not known.
    pub(super) fn restart_history(&self, revision: u64) {
        let mut history = self.history.lock();
        history.reset(revision);
        self.announce(revision);
    }

    fn announce(&self, revision: u64) {
        self.revision.store(revision, Ordering::Release);
        self.published.notify_all();
        self.signal.send_modify(|signal| signal.revision = revision);
    }

    /// Takes the database away for good.
    pub(super) fn close(&self) -> Option<Database> {
        let database = self.database.write().take();
        self.signal.send_modify(|signal| signal.closed = true);
        database
    }

    /// Runs `work` on one consistent state whose writes have all been published. Blocks: call it from a blocking thread.
    pub(super) fn read<T>(&self, work: impl FnOnce(&ReadTransaction, Meta) -> Result<T>) -> Result<T> {
        let database = self.database.read();
        let Some(database) = database.as_ref() else {
            return Err(self.absence().into());
        };
        contained(|| {
            let transaction = database.begin_read().map_err(fault)?;
            let meta = database::meta(&transaction)?;
            self.wait_published(meta.revision)?;
            work(&transaction, meta)
        })
    }

    fn absence(&self) -> Fault {
        if self.is_closed() {
            return Fault::Closed;
        }
        self.check_poison()
            .err()
            .unwrap_or_else(|| Fault::Unavailable("the disk is full and the store cannot be reopened".to_owned()))
    }

    fn wait_published(&self, revision: u64) -> Result<(), Fault> {
        if self.revision().0 >= revision {
            return Ok(());
        }
        let mut history = self.history.lock();
        while history.newest() < revision {
            if self.published.wait_for(&mut history, PUBLISH_WAIT).timed_out() {
                return Err(Fault::Unavailable("the writer did not finish a commit".to_owned()));
            }
        }
        Ok(())
    }
}
