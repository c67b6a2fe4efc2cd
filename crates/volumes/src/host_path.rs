//! The `type` of a hostPath volume: what must be there, and what is made (upstream `pkg/volume/hostpath/host_path.go`).

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

#[derive(Debug, thiserror::Error)]
pub enum HostPathError {
    #[error("hostPath type check failed: {} is not a {expected}", path.display())]
    Type { path: PathBuf, expected: &'static str },
    #[error("{0} is an invalid volume type")]
    Unknown(String),
    #[error("cannot create {}: {source}", path.display())]
    Create { path: PathBuf, source: io::Error },
}

/// Checks `path` against a hostPath volume's `type`, making what the type allows to be made.
pub fn check(path: &Path, kind: &str) -> Result<(), HostPathError> {
    // As upstream's checker: follows symlinks, and what cannot be looked at does not exist.
    let metadata = fs::metadata(path).ok();
    let kind_of = metadata.as_ref().map(fs::Metadata::file_type);
    let (matches, expected) = match kind {
        "" => return Ok(()),
        "DirectoryOrCreate" if kind_of.is_none() => return make_dir(path),
        "FileOrCreate" if kind_of.is_none() => return make_file(path),
        "DirectoryOrCreate" | "Directory" => (kind_of.is_some_and(|k| k.is_dir()), "directory"),
        "FileOrCreate" | "File" => (kind_of.is_some_and(|k| k.is_file()), "file"),
        "Socket" => (kind_of.is_some_and(|k| k.is_socket()), "socket file"),
        "CharDevice" => (kind_of.is_some_and(|k| k.is_char_device()), "character device"),
        "BlockDevice" => (kind_of.is_some_and(|k| k.is_block_device()), "block device"),
        other => return Err(HostPathError::Unknown(other.to_owned())),
    };
    if matches { Ok(()) } else { Err(HostPathError::Type { path: path.to_owned(), expected }) }
}

fn make_dir(path: &Path) -> Result<(), HostPathError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|source| HostPathError::Create { path: path.to_owned(), source })
}

/// The file alone: a missing parent directory is the user's to make, as upstream.
fn make_file(path: &Path) -> Result<(), HostPathError> {
    let made = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o644).open(path);
    made.map(drop).map_err(|source| HostPathError::Create { path: path.to_owned(), source })
}
