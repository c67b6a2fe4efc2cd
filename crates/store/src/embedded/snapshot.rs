//! Copies of a running store, their way back into its place, and looking at a store's file without changing it.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Database, ReadTransaction};

use super::{
    FILE_NAME,
    database::{self, Report},
    disk::{Disk, Overlay, Trouble},
    fault::{Fault, contained, fault},
    format::{EXPIRIES, META, Meta, ROWS, Tally},
    new_id,
    shared::Shared,
    sidecar::{LockedFile, io_error},
    transaction::copy_row,
};
use crate::{Error, Result, Revision};

/// Bytes of rows copied per transaction.
const CHUNK_BYTES: u64 = 4 << 20;

/// Verifies the store or snapshot in the file `path`: all pages, all rows, counts and indexes. Changes nothing; what a
/// crash left behind is recovered in memory only. Blocks.
///
/// # Errors
/// [`Error::InUse`] while a process has the store open, [`Error::Damaged`] with what was found.
pub fn check(path: &Path) -> Result<Report> {
    // Opened for writing for the sake of the lock alone.
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| io_error("open", path, error))?;
    let file = LockedFile::lock(file, path)?;
    if file.len().map_err(|error| io_error("read", path, error))? == 0 {
        return Err(Fault::Damaged("it is empty".to_owned()).in_file(path).into());
    }
    let overlay = Overlay::new(Arc::new(file)).map_err(|error| io_error("read", path, error))?;
    let disk: Arc<dyn Disk> = Arc::new(overlay);
    let verified = database::open(&disk, &Arc::default()).and_then(|database| database::verify(&database));
    let (_, report) = verified.map_err(|fault| fault.in_file(path))?;
    Ok(report)
}

/// Writes a consistent copy of the running store to `to`, which must not exist. Blocks.
pub(super) fn snapshot(shared: &Shared, to: &Path) -> Result<Report> {
    if to.exists() {
        return Err(io_error("write", to, io::ErrorKind::AlreadyExists.into()));
    }
    let partial = beside(to, ".partial");
    let result = shared.read(|transaction, meta| copy(transaction, meta, &partial));
    match result {
        Ok(report) => {
            put_in_place(&partial, to)?;
            Ok(report)
        }
        Err(error) => {
            // What went wrong matters more than whether the remains could be removed.
            let _ = std::fs::remove_file(&partial);
            Err(error)
        }
    }
}

fn copy(transaction: &ReadTransaction, meta: Meta, partial: &Path) -> Result<Report> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(partial)
        .map_err(|error| io_error("create", partial, error))?;
    let trouble = Arc::new(Trouble::default());
    let disk: Arc<dyn Disk> = Arc::new(LockedFile::lock(file, partial)?);
    let copied = contained(|| {
        let copy = database::open(&disk, &trouble)?;
        let Meta { id, .. } = database::initialize(&copy, new_id())?;
        let report = copy_rows(transaction, meta, &copy, id)?;
        copy.close().map_err(fault)?;
        Ok(report)
    });
    match copied {
        Err(_) if trouble.is_only_no_space() => {
            Err(Fault::NoSpace(format!("the disk is full; no snapshot was written to {}", partial.display())).into())
        }
        other => other.map_err(|fault: Fault| fault.into()),
    }
}

fn copy_rows(transaction: &ReadTransaction, meta: Meta, copy: &Database, id: u64) -> Result<Report, Fault> {
    let source = transaction.open_table(ROWS).map_err(fault)?;
    let mut source = source.range::<&[u8]>(..).map_err(fault)?;
    let (mut rows, mut expiries) = (Tally::default(), Tally::default());
    let mut report = Report { revision: Revision(meta.revision), rows: 0, bytes: 0, expiring: 0 };
    let mut done = false;
    while !done {
        let mut write = copy.begin_write().map_err(fault)?;
        write.set_two_phase_commit(true);
        {
            let mut row_table = write.open_table(ROWS).map_err(fault)?;
            let mut expiry_table = write.open_table(EXPIRIES).map_err(fault)?;
            let chunk_end = report.bytes + CHUNK_BYTES;
            while report.bytes < chunk_end && !done {
                let Some(item) = source.next() else {
                    done = true;
                    break;
                };
                let (key, bytes) = item.map_err(fault)?;
                let tallies = (&mut rows, &mut expiries);
                report.bytes += copy_row(&mut row_table, &mut expiry_table, tallies, (key.value(), bytes.value()))?;
            }
            let head = Meta { rows, expiries, revision: meta.revision, id };
            write.open_table(META).map_err(fault)?.insert((), head.encode().as_slice()).map_err(fault)?;
        }
        write.commit().map_err(fault)?;
    }
    (report.rows, report.expiring) = (rows.count, expiries.count);
    if rows != meta.rows || expiries != meta.expiries {
        return Err(Fault::Damaged("the running store lost rows; no snapshot was written".to_owned()));
    }
    Ok(report)
}

/// What [`restore`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What the snapshot holds.
    pub report: Report,
    /// Where the store that was there is kept; `None` where there was none.
    pub kept: Option<PathBuf>,
}

/// Puts the verified snapshot `from` in the place of the store in `directory`, which is made where it is missing. The store
/// that is there is kept beside it, under the time `now_unix_s`: a damaged one too, for that is what restoring is for.
/// Blocks.
///
/// # Errors
/// What [`check`] finds of the snapshot; [`Error::InUse`] while a process has the store open.
pub fn restore(from: &Path, directory: &Path, now_unix_s: u64) -> Result<Restored> {
    let report = check(from)?;
    let place = directory.join(FILE_NAME);
    std::fs::create_dir_all(directory).map_err(|error| io_error("create", directory, error))?;
    let kept = place.exists().then(|| beside(&place, &format!(".{now_unix_s}")));
    if kept.is_some()
        && let Err(error @ Error::InUse { .. }) = check(&place)
    {
        return Err(error);
    }
    let partial = beside(&place, ".restoring");
    let copied = std::fs::copy(from, &partial).and_then(|_| File::open(&partial)?.sync_all());
    copied.map_err(|error| io_error("write", &partial, error))?;
    if let Some(kept) = &kept {
        std::fs::rename(&place, kept).map_err(|error| io_error("rename", &place, error))?;
    }
    put_in_place(&partial, &place)?;
    Ok(Restored { report, kept })
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Renames a finished file and makes the name durable.
pub(super) fn put_in_place(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|error| io_error("rename", from, error))?;
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let sync = File::open(directory).and_then(|directory| directory.sync_all());
    sync.map_err(|error| io_error("sync", directory, error))
}
