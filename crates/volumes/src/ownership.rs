//! A pod's `fsGroup` on a volume (upstream `pkg/volume/volume_linux.go: SetVolumeOwnership`).

use std::{
    fs,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::Path,
};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags};

use crate::Cause;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangePolicy {
    Always,
    /// Nothing is changed where the volume's root already has the group and the bits.
    OnRootMismatch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsGroup {
    pub gid: u32,
    pub read_only: bool,
    pub policy: ChangePolicy,
}

/// Gives everything below `root` (children first, `root` last) to the group, readable and, unless read-only, writable.
pub fn set_volume_ownership(root: &Path, group: &FsGroup) -> Result<(), Cause> {
    if group.policy == ChangePolicy::OnRootMismatch && !root_differs(root, group) {
        return Ok(());
    }
    walk(root, group)
}

fn masks(group: &FsGroup) -> u32 {
    if group.read_only { 0o440 } else { 0o660 }
}

fn root_differs(root: &Path, group: &FsGroup) -> bool {
    let Ok(metadata) = fs::metadata(root) else {
        return true;
    };
    let wanted = masks(group) | 0o110;
    let mode = metadata.permissions().mode();
    metadata.gid() != group.gid || !metadata.is_dir() || mode & wanted != wanted || mode & 0o2000 == 0
}

fn walk(path: &Path, group: &FsGroup) -> Result<(), Cause> {
    let metadata = fs::symlink_metadata(path).map_err(Cause::io("lstat", path))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(Cause::io("read directory", path))? {
            let entry = entry.map_err(Cause::io("read directory", path))?;
            walk(&entry.path(), group)?;
        }
    }
    change(path, group)
}

/// Through a descriptor that did not follow a symlink: a container that swaps a file meanwhile gains nothing.
fn change(path: &Path, group: &FsGroup) -> Result<(), Cause> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(Cause::errno("open", path))?;
    let stat = rustix::fs::fstat(&file).map_err(Cause::errno("stat", path))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let gid = Gid::from_raw(group.gid);
    rustix::fs::chownat(&file, "", None, Some(gid), AtFlags::EMPTY_PATH).map_err(Cause::errno("lchown", path))?;
    if kind == FileType::Symlink {
        return Ok(());
    }
    let extra = if kind == FileType::Directory { 0o2110 } else { 0 };
    let mode = (stat.st_mode & 0o7777) | masks(group) | extra;
    let proc = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::set_permissions(proc, fs::Permissions::from_mode(mode)).map_err(Cause::io("chmod", path))
}
