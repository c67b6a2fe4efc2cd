//! `store.lock` beside `store.redb`: keeps a second process out, and bears witness to the newest committed revision.
//!
//! The witness is written after each commit and never synced: it is at most as new as the file, so a file that is older
//! than its witness has lost acknowledged writes (one flipped bit in redb's header is enough to show the commit before
//! the last). It costs one small write into the page cache per commit. A missing or unreadable witness proves nothing.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{disk::Disk, fault::Fault};
use crate::{Error, Result};

#[derive(Debug)]
pub(super) struct Sidecar {
    file: LockedFile,
}

/// A file that no other process, nor this one, has locked.
///
/// It is unlocked by hand: a child process that this one is just starting holds a copy of every descriptor, and would
/// hold the lock for a moment longer.
#[derive(Debug)]
pub(super) struct LockedFile(File);

impl LockedFile {
    /// [`Error::InUse`] where it is locked already.
    pub(super) fn lock(file: File, path: &Path) -> Result<Self> {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(Errno::WOULDBLOCK) => Err(Error::InUse { path: path.display().to_string() }),
            Err(errno) => Err(io_error("lock", path, errno.into())),
        }
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // Closing the last descriptor does the same, if this cannot.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl Disk for LockedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Witness {
    pub id: u64,
    pub revision: u64,
}

const MAGIC: &[u8; 8] = b"argosyw1";
const WITNESS_BYTES: usize = 28;

impl Sidecar {
    /// Opens and locks the file at `path`; [`Error::InUse`] where another process has it.
    pub(super) fn lock(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|source| io_error("open", path, source))?;
        Ok(Self { file: LockedFile::lock(file, path)? })
    }

    pub(super) fn witness(&self) -> Option<Witness> {
        let mut bytes = [0; WITNESS_BYTES];
        self.file.read_at(0, &mut bytes).ok()?;
        let (head, checksum) = bytes.split_last_chunk::<4>()?;
        if !head.starts_with(MAGIC) || crc32fast::hash(head) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let field = |at: usize| head[at..].first_chunk::<8>().map(|field| u64::from_le_bytes(*field));
        Some(Witness { id: field(8)?, revision: field(16)? })
    }

    /// A failure is only logged: an older witness is a true one.
    pub(super) fn testify(&self, witness: Witness) {
        let mut bytes = Vec::with_capacity(WITNESS_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&witness.id.to_le_bytes());
        bytes.extend_from_slice(&witness.revision.to_le_bytes());
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        if let Err(error) = self.file.write_at(0, &bytes) {
            tracing::warn!(%error, "cannot note the newest revision beside the store");
        }
    }
}

pub(super) fn io_error(action: &str, path: &Path, source: std::io::Error) -> Error {
    if super::fault::is_no_space(&source) {
        return Fault::NoSpace(format!("cannot {action} {}: {source}", path.display())).into();
    }
    Error::Io { context: format!("cannot {action} {}", path.display()), source }
}
