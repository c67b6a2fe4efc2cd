//! The embedded engine: one redb file, one writer with group commit, recent history in memory.
//!
//! - A write is acknowledged after its transaction is on disk (two-phase commit, fsync); up to 512 waiting writes share one.
//! - The newest state is on disk; watches and lists at older revisions read the [`history`], which begins anew with each
//!   opening: below that they get [`Error::Compacted`].
//! - Damage is reported, never read as absence: redb's page checksums, a checksum per row, their count and sum, and a
//!   witness of the newest revision beside the file are all checked at opening.
//! - redb runs on the writer's thread and on tokio's blocking threads, never on a tokio worker.

mod database;
mod disk;
mod fault;
mod format;
mod history;
mod read;
mod shared;
mod sidecar;
mod snapshot;
mod transaction;
mod watch;
mod writer;

#[cfg(test)]
mod torn;

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, oneshot},
    task::spawn_blocking,
};

pub use database::Report;
pub use history::HistoryLimits;
pub use snapshot::{Restored, check, restore};

use self::{
    disk::{Disk, Trouble},
    fault::{Fault, contained, fault},
    format::Meta,
    history::History,
    read::Counts,
    shared::Shared,
    sidecar::{LockedFile, Sidecar, Witness, io_error},
    snapshot::{beside, put_in_place},
    transaction::Operation,
    writer::{Command, Write, Writer},
};
use crate::{Entry, Error, ListOptions, ListPage, Result, Revision, Store, VALUE_BYTES_MAX, WatchStream};

/// The name of the store's file in its directory.
pub const FILE_NAME: &str = "store.redb";
/// The name of the lock and witness beside it.
pub const LOCK_NAME: &str = "store.lock";

/// Bytes of values that may wait for the writer; more wait at the door.
const QUEUE_BYTES: usize = 16 << 20;
/// The queue's bytes are handed out in units of this many.
const QUEUE_UNIT_BYTES: usize = 1 << 10;

/// The seam for time: only time to live looks at it.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970, UTC.
    fn now_unix_ms(&self) -> u64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the seam")]
    fn now_unix_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

#[derive(Clone)]
pub struct EmbeddedOptions {
    /// The directory that holds (or gets) [`FILE_NAME`]. Made where it is missing.
    pub path: PathBuf,
    pub clock: Arc<dyn Clock>,
    pub history: HistoryLimits,
    /// Largest value, in bytes; [`VALUE_BYTES_MAX`] where nothing is said.
    pub value_bytes_max: usize,
}

impl EmbeddedOptions {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            clock: Arc::new(SystemClock),
            history: HistoryLimits::default(),
            value_bytes_max: VALUE_BYTES_MAX,
        }
    }
}

/// An open embedded store. Dropping it closes it as [`Store::close`] does, and waits for that.
pub struct Embedded {
    shared: Arc<Shared>,
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    queue: Arc<Semaphore>,
    /// Writes that were sent and are not yet answered.
    waiting: Arc<AtomicUsize>,
    counts: Arc<Counts>,
    value_bytes_max: usize,
}

impl Embedded {
    /// Opens the store in a directory, or makes an empty one. Verifies all of it first. Blocks.
    ///
    /// # Errors
    /// [`Error::InUse`] while another process has it, [`Error::Damaged`] where anything is not as it was written,
    /// [`Error::NoSpace`], [`Error::Io`].
    pub fn open(options: EmbeddedOptions) -> Result<Self> {
        let started = Instant::now();
        let directory = &options.path;
        std::fs::create_dir_all(directory).map_err(|error| io_error("create", directory, error))?;
        let sidecar = Sidecar::lock(&directory.join(LOCK_NAME))?;
        let path = directory.join(FILE_NAME);
        let file = open_file(&path, sidecar.witness())?;
        let opened = Self::start(Arc::new(file), Some(sidecar), path.clone(), &options);
        let (store, report) = opened.map_err(|fault| fault.in_file(&path))?;
        let Report { revision, rows, bytes, .. } = report;
        tracing::info!(path = %path.display(), %revision, rows, bytes, elapsed = ?started.elapsed(), "opened the store");
        Ok(store)
    }

    /// Verifies what is on `disk` and starts the writer.
    fn start(
        disk: Arc<dyn Disk>,
        sidecar: Option<Sidecar>,
        path: PathBuf,
        options: &EmbeddedOptions,
    ) -> Result<(Self, Report), Fault> {
        let trouble = Arc::new(Trouble::default());
        let database = database::open(&disk, &trouble)?;
        let (meta, report) = database::verify(&database)?;
        check_witness(meta, sidecar.as_ref())?;
        let next_expiry = contained(|| {
            let transaction = redb::ReadableDatabase::begin_read(&database).map_err(fault)?;
            database::next_expiry(&transaction.open_table(format::EXPIRIES).map_err(fault)?)
        })?;
        let shared = Shared::new(database, History::new(options.history, meta.revision));
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            shared: Arc::clone(&shared),
            disk,
            trouble,
            sidecar,
            id: meta.id,
            path,
            clock: Arc::clone(&options.clock),
            next_expiry,
            full_since: None,
            waiting: Arc::clone(&waiting),
            pace: writer::Pace::default(),
        };
        let (commands, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(receiver))
            .map_err(|error| Fault::Unavailable(format!("cannot start the writer: {error}")))?;
        let store = Self {
            shared,
            commands: Mutex::new(Some(commands)),
            writer: Mutex::new(Some(thread)),
            queue: Arc::new(Semaphore::new(QUEUE_BYTES / QUEUE_UNIT_BYTES)),
            waiting,
            counts: Arc::default(),
            value_bytes_max: options.value_bytes_max,
        };
        Ok((store, report))
    }

    /// Writes a consistent copy to the file `to`, which must not exist; the store goes on meanwhile. The copy is a store
    /// file: to restore it, put it in the place of [`FILE_NAME`] while the store is closed.
    pub async fn snapshot(&self, to: &Path) -> Result<Report> {
        let (shared, to) = (Arc::clone(&self.shared), to.to_owned());
        blocking(move || snapshot::snapshot(&shared, &to)).await
    }

    /// As [`Embedded::snapshot`], for callers without a runtime. Blocks.
    pub fn snapshot_blocking(&self, to: &Path) -> Result<Report> {
        snapshot::snapshot(&self.shared, to)
    }

    /// Deletes the rows whose time is up now, without waiting for the reaper: for a clock that was set.
    pub async fn expire_due(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Expire(reply))?;
        answer.await.map_err(|_| Error::Closed)?
    }

    fn send(&self, command: Command) -> Result<()> {
        let commands = self.commands.lock();
        commands.as_ref().and_then(|commands| commands.send(command).ok()).ok_or(Error::Closed)
    }

    async fn write(&self, key: &str, operation: Operation) -> Result<Revision> {
        let bytes = operation.bytes();
        if bytes > self.value_bytes_max {
            return Err(Error::TooLarge { key: key.to_owned(), bytes, limit: self.value_bytes_max });
        }
        // A value above the whole queue's size (a limit set that high) takes all of it.
        let units = (1 + bytes / QUEUE_UNIT_BYTES).min(QUEUE_BYTES / QUEUE_UNIT_BYTES) as u32;
        let permit = Arc::clone(&self.queue).acquire_many_owned(units).await.map_err(|_| Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.send(Command::Write(Write { key: key.into(), operation, reply, _permit: permit }))?;
        // The writer answers every write it takes; one that was still queued when it closed was not written.
        answer.await.map_err(|_| Error::Closed)?
    }
}

/// Opens the data file, or makes it: complete under another name first, so that a crash leaves no half-made store.
fn open_file(path: &Path, witness: Option<Witness>) -> Result<LockedFile> {
    let len = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(io_error("open", path, error)),
    };
    if len == 0 {
        if let Some(Witness { revision, .. }) = witness {
            return Err(Error::Damaged {
                message: format!(
                    "{} is missing or empty, and revision {revision} was written; put a snapshot in its place, or \
                     remove {LOCK_NAME} beside it to begin with an empty store",
                    path.display()
                ),
            });
        }
        create_file(path)?;
    }
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| io_error("open", path, error))?;
    LockedFile::lock(file, path)
}

fn create_file(path: &Path) -> Result<()> {
    let partial = beside(path, ".new");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&partial)
        .map_err(|error| io_error("create", &partial, error))?;
    let disk: Arc<dyn Disk> = Arc::new(LockedFile::lock(file, &partial)?);
    contained(|| {
        let database = database::open(&disk, &Arc::default())?;
        database::initialize(&database, new_id())?;
        database.close().map_err(fault)
    })
    .map_err(|fault: Fault| Error::from(fault))?;
    put_in_place(&partial, path)
}

/// Compares the file with the newest revision that is known to have been committed to it, and brings that up to date.
fn check_witness(meta: Meta, sidecar: Option<&Sidecar>) -> Result<(), Fault> {
    let Some(sidecar) = sidecar else {
        return Ok(());
    };
    if let Some(witness) = sidecar.witness()
        && witness.id == meta.id
        && witness.revision > meta.revision
    {
        return Err(Fault::Damaged(format!(
            "it holds revision {} and revision {} was committed; put a snapshot in its place, or remove {LOCK_NAME} \
             beside it to go on with the loss",
            meta.revision, witness.revision
        )));
    }
    sidecar.testify(Witness { id: meta.id, revision: meta.revision });
    Ok(())
}

/// A number no other store has: it need not be unpredictable.
fn new_id() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(SystemClock.now_unix_ms())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work)
        .await
        .map_err(|error| Error::Unavailable { message: format!("a read was stopped: {error}") })?
}

fn ttl_ms(ttl: Option<Duration>) -> Option<u64> {
    ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let (shared, key) = (Arc::clone(&self.shared), key.to_owned());
        blocking(move || read::get(&shared, &key)).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        let (shared, counts) = (Arc::clone(&self.shared), Arc::clone(&self.counts));
        blocking(move || read::list(&shared, &counts, &options)).await
    }

    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision> {
        self.write(key, Operation::Create { value, ttl_ms: ttl_ms(ttl) }).await
    }

    async fn update(&self, key: &str, value: Bytes, expected: Revision, ttl: Option<Duration>) -> Result<Revision> {
        self.write(key, Operation::Update { value, ttl_ms: ttl_ms(ttl), expected }).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision> {
        self.write(key, Operation::Delete { expected }).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream> {
        watch::watch(&self.shared, prefix, after)
    }

    async fn revision(&self) -> Result<Revision> {
        if self.shared.is_closed() {
            return Err(Error::Closed);
        }
        Ok(self.shared.revision())
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        if self.shared.is_closed() {
            return Err(Error::Closed);
        }
        let mut history = self.shared.history.lock();
        if revision.0 > history.newest() {
            return Err(Error::Future { requested: revision, newest: Revision(history.newest()) });
        }
        history.compact(revision.0);
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        let Some(commands) = self.commands.lock().take() else {
            return Ok(());
        };
        let (reply, answer) = oneshot::channel();
        commands.send(Command::Close(reply)).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Unavailable { message: "the writer stopped while closing".to_owned() })?
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.commands.lock().take());
        if let Some(writer) = self.writer.lock().take() {
            // Its panics are contained; one that was not has been printed.
            let _ = writer.join();
        }
    }
}
