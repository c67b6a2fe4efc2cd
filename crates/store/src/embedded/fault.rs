//! What the engine makes of redb's errors and panics: a fault that can be told to every write of a failed batch.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::Error;

pub(super) const WAY_OUT: &str =
    "`argosy store check` shows the extent, `argosy store restore FILE` puts a snapshot in its place";

/// A cloneable error of the whole engine (one of a single write is an [`Error`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    NoSpace(String),
    Unavailable(String),
    Damaged(String),
    InUse(String),
    Closed,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoSpace(message) => Error::NoSpace { message },
            Fault::Unavailable(message) => Error::Unavailable { message },
            Fault::Damaged(message) => Error::Damaged { message },
            Fault::InUse(path) => Error::InUse { path },
            Fault::Closed => Error::Closed,
        }
    }
}

impl Fault {
    /// Names the file a fault was found in.
    pub(super) fn in_file(self, path: &std::path::Path) -> Self {
        match self {
            Fault::Damaged(message) => Fault::Damaged(format!("{}: {message}", path.display())),
            other => other,
        }
    }
}

pub(super) fn is_no_space(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    )
}

/// Reads redb's error; use as `.map_err(fault)`.
pub(super) fn fault(error: impl Into<redb::Error>) -> Fault {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error.into() {
        redb::Error::Io(error) if is_no_space(&error) => Fault::NoSpace(error.to_string()),
        // redb reports a file that is not its own, or is cut short, this way.
        redb::Error::Io(error) if matches!(error.kind(), InvalidData | UnexpectedEof) => {
            Fault::Damaged(format!("{error}; {WAY_OUT}"))
        }
        redb::Error::DatabaseAlreadyOpen => Fault::InUse("the store's file".to_owned()),
        error @ (redb::Error::Io(_)
        | redb::Error::Backend(_)
        | redb::Error::PreviousIo
        | redb::Error::DatabaseClosed
        | redb::Error::LockPoisoned(_)
        | redb::Error::TransactionPoisoned) => Fault::Unavailable(error.to_string()),
        // Missing tables, wrong types, bad checksums, unknown versions: not what this engine wrote.
        error => Fault::Damaged(format!("{error}; {WAY_OUT}")),
    }
}

/// Runs redb code. redb panics on some damaged files; that must not take the process down, nor pass for absence.
pub(super) fn contained<T, E: From<Fault>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(panic) => Err(Fault::Damaged(format!(
            "the engine panicked: {}; {WAY_OUT}",
            panic_text(&*panic)
        ))
        .into()),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
