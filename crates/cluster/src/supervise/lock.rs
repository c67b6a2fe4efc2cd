//! The data folder's lock: one process at a time runs or changes a cluster. The kernel frees it when its holder ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::files::{self, FileError, fail};

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("another argosy works on this data folder (it holds {}); wait for it, or stop it with `argosy down`", path.display())]
    Held { path: PathBuf },
    #[error("cannot lock {}", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock or says at once that somebody has it.
    pub fn take(path: &Path) -> Result<Lock, LockError> {
        if let Some(folder) = path.parent() {
            files::make_dir(folder)?;
        }
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(fail("open", path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Held { path: path.to_owned() }),
            Err(e) => Err(LockError::Lock { path: path.to_owned(), source: e.into() }),
        }
    }
}
