//! Files that change all at once (upstream `pkg/volume/util/atomic_writer.go`, the same layout on disk):
//!
//! ```text
//! VOLUME/..2026_11_22_22_05_11.123456789/key     the data
//! VOLUME/..data -> ..2026_11_22_22_05_11.123456789
//! VOLUME/key    -> ..data/key                    what containers open
//! ```
//!
//! An update writes a new timestamped directory and renames a new `..data` over the old one.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, lchown, symlink},
    },
    path::{Component, Path, PathBuf},
};

use io::Write as _;
use jiff::Timestamp;

use crate::{
    Cause,
    ownership::{FsGroup, set_volume_ownership},
    payload::{File, Payload},
};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("invalid path: must not be empty: \"\"")]
    Empty,
    #[error("invalid path: must be relative path: {0}")]
    Absolute(String),
    #[error("invalid path: must be less than or equal to 4096 characters")]
    Long,
    #[error("invalid path: filenames must be less than or equal to 255 characters")]
    LongName,
    #[error("invalid path: must not contain '..': {0}")]
    Parent(String),
    #[error("invalid path: must not start with '..': {0}")]
    Dots(String),
}

/// Whether anything had to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Changed,
    Same,
}

/// Makes the files of `dir` exactly `payload`. `now` names the new directory.
pub fn write(dir: &Path, payload: &Payload, group: Option<&FsGroup>, now: Timestamp) -> Result<Written, Cause> {
    let payload = validate(payload)?;
    let old = match fs::read_link(dir.join(DATA)) {
        Ok(target) => Some(dir.join(target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Cause::io("readlink", dir.join(DATA))(error)),
    };
    let mut stale = BTreeSet::new();
    if let Some(old) = &old {
        stale = stale_paths(&payload, old)?;
        if stale.is_empty() && !differs(&payload, old)? {
            // Up to date, but the visible links may be missing after a crash between the swap and their creation.
            link_visible(dir, &payload)?;
            return Ok(Written::Same);
        }
    }
    let fresh = timestamp_dir(dir, now)?;
    let swapped = fill(&fresh, &payload)
        .and_then(|()| group.map_or(Ok(()), |group| set_volume_ownership(dir, group)))
        .and_then(|()| swap(dir, &fresh));
    if let Err(cause) = swapped {
        // The old data stays visible; what could not be finished goes. The first failure is the one to report.
        let _ = fs::remove_dir_all(&fresh);
        return Err(cause);
    }
    link_visible(dir, &payload)?;
    for path in stale.iter().filter(|path| path.components().count() == 1) {
        let visible = dir.join(path);
        fs::remove_file(&visible).or_else(absent).map_err(Cause::io("remove", visible))?;
    }
    if let Some(old) = old {
        fs::remove_dir_all(&old).or_else(absent).map_err(Cause::io("remove", old))?;
    }
    Ok(Written::Changed)
}

fn absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// The payload under cleaned paths, or why a path cannot be used.
pub fn validate(payload: &Payload) -> Result<std::collections::BTreeMap<PathBuf, &File>, PayloadError> {
    payload.iter().map(|(path, file)| Ok((validate_path(path)?, file))).collect()
}

fn validate_path(path: &str) -> Result<PathBuf, PayloadError> {
    if path.is_empty() {
        return Err(PayloadError::Empty);
    }
    if path.starts_with('/') {
        return Err(PayloadError::Absolute(path.to_owned()));
    }
    if path.len() > 4096 {
        return Err(PayloadError::Long);
    }
    for part in path.split('/') {
        match part {
            ".." => return Err(PayloadError::Parent(path.to_owned())),
            part if part.len() > 255 => return Err(PayloadError::LongName),
            _ => {}
        }
    }
    let clean: PathBuf = Path::new(path).components().filter(|c| matches!(c, Component::Normal(_))).collect();
    match clean.components().next() {
        None => Err(PayloadError::Empty),
        Some(first) if first.as_os_str().as_bytes().starts_with(b"..") => Err(PayloadError::Dots(path.to_owned())),
        Some(_) => Ok(clean),
    }
}

type Clean<'a> = std::collections::BTreeMap<PathBuf, &'a File>;

/// What the old data directory holds and the payload does not.
fn stale_paths(payload: &Clean<'_>, old: &Path) -> Result<BTreeSet<PathBuf>, Cause> {
    let mut present = BTreeSet::new();
    collect(old, Path::new(""), &mut present)?;
    for path in payload.keys() {
        for ancestor in path.ancestors() {
            present.remove(ancestor);
        }
    }
    Ok(present)
}

fn collect(root: &Path, relative: &Path, into: &mut BTreeSet<PathBuf>) -> Result<(), Cause> {
    let dir = root.join(relative);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Cause::io("read directory", dir)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(Cause::io("read directory", &dir))?;
        let path = relative.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(root, &path, into)?;
        }
        into.insert(path);
    }
    Ok(())
}

fn differs(payload: &Clean<'_>, old: &Path) -> Result<bool, Cause> {
    for (path, file) in payload {
        let present = old.join(path);
        match fs::read(&present) {
            Ok(data) if data == file.data => {}
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(Cause::io("read", present)(error)),
        }
    }
    Ok(false)
}

/// A directory named by the time, with nanoseconds where upstream has random digits; the next free one if it is taken.
fn timestamp_dir(dir: &Path, now: Timestamp) -> Result<PathBuf, Cause> {
    let stamp = now.strftime("..%Y_%m_%d_%H_%M_%S.");
    let mut nanosecond = now.subsec_nanosecond();
    loop {
        let path = dir.join(format!("{stamp}{nanosecond:09}"));
        match fs::DirBuilder::new().mode(0o755).create(&path) {
            Ok(()) => {
                set_mode(&path, 0o755)?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => nanosecond += 1,
            Err(error) => return Err(Cause::io("mkdir", path)(error)),
        }
    }
}

/// Past the umask.
fn set_mode(path: &Path, mode: u32) -> Result<(), Cause> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Cause::io("chmod", path))
}

fn fill(dir: &Path, payload: &Clean<'_>) -> Result<(), Cause> {
    for (path, file) in payload {
        let full = dir.join(path);
        if let Some(parent) = full.parent() {
            fs::create_dir_all(parent).map_err(Cause::io("mkdir", parent))?;
        }
        // Created closed: the content must not be readable before its mode is set.
        let mut handle = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&full)
            .map_err(Cause::io("create", &full))?;
        handle.write_all(&file.data).map_err(Cause::io("write", &full))?;
        if let Some(owner) = file.owner {
            lchown(&full, Some(owner), None).map_err(Cause::io("lchown", &full))?;
        }
        set_mode(&full, file.mode)?;
    }
    Ok(())
}

fn swap(dir: &Path, fresh: &Path) -> Result<(), Cause> {
    let link = dir.join(NEW_DATA);
    fs::remove_file(&link).or_else(absent).map_err(Cause::io("remove", &link))?;
    symlink(fresh.file_name().unwrap_or(OsStr::new(DATA)), &link).map_err(Cause::io("symlink", &link))?;
    fs::rename(&link, dir.join(DATA)).map_err(Cause::io("rename", &link))
}

fn link_visible(dir: &Path, payload: &Clean<'_>) -> Result<(), Cause> {
    for (path, file) in payload {
        let Some(first) = path.components().next() else {
            continue;
        };
        let visible = dir.join(first);
        match symlink(Path::new(DATA).join(first), &visible) {
            Ok(()) => {
                if let Some(owner) = file.owner {
                    lchown(&visible, Some(owner), None).map_err(Cause::io("lchown", &visible))?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Cause::io("symlink", visible)(error)),
        }
    }
    Ok(())
}
