//! A volume mount's `subPath` (upstream `pkg/volume/util/subpath/subpath_linux.go`).
//!
//! What a container can write, it can turn into a symlink, at any moment. So the kernel resolves the path below the volume
//! (`openat2` with `RESOLVE_BENEATH`) once, and what is bind mounted is that descriptor, not a path.

use std::{
    fs,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::{Cause, Mounter, execute::make_dir};

/// Binds `sub_path` of the volume at `volume` to `target`; makes a directory there where nothing is. Idempotent.
pub(crate) fn bind(mounter: &dyn Mounter, volume: &Path, sub_path: &str, target: &Path) -> Result<(), Cause> {
    let relative = check(sub_path)?;
    let base = fs::canonicalize(volume).map_err(Cause::io("resolve", volume))?;
    let root = rustix::fs::openat(CWD, &base, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(Cause::errno("open", &base))?;
    let escapes = || Cause::SubPathEscapes { sub_path: sub_path.to_owned(), volume: volume.to_owned() };
    let found = match open_beneath(&root, &relative) {
        Err(Errno::NOENT) => make_beneath(&root, &relative).map_err(|(part, errno)| match errno {
            Errno::XDEV | Errno::LOOP => escapes(),
            errno => Cause::errno("mkdir", base.join(part))(errno),
        })?,
        Err(Errno::XDEV | Errno::LOOP) => return Err(escapes()),
        Err(errno) => return Err(Cause::errno("open", base.join(&relative))(errno)),
        Ok(found) => found,
    };
    mount(mounter, &found, target)
}

/// Whether a subPath has the form the API allows; the path without `.`.
fn check(sub_path: &str) -> Result<PathBuf, Cause> {
    let mut clean = PathBuf::new();
    for component in Path::new(sub_path).components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            _ => return Err(Cause::SubPathForm(sub_path.to_owned())),
        }
    }
    Ok(clean)
}

fn open_beneath(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // The kernel asks for another try where something was renamed meanwhile; a container that never stops renaming fails.
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < 100 => tries += 1,
            result => return result,
        }
    }
}

/// Makes the missing directories of `path` with the mode of the volume's root (`SafeMakeDir`). Each new one is opened without
/// following symlinks before the next is made in it.
fn make_beneath(root: &OwnedFd, path: &Path) -> Result<OwnedFd, (PathBuf, Errno)> {
    let mode = rustix::fs::fstat(root).map_err(|errno| (PathBuf::new(), errno))?.st_mode & 0o7777;
    let mut current = rustix::io::fcntl_dupfd_cloexec(root, 0).map_err(|errno| (PathBuf::new(), errno))?;
    let (mut done, mut made) = (PathBuf::new(), false);
    for part in path.components() {
        done.push(part);
        if !made {
            match open_beneath(root, &done) {
                Ok(found) => {
                    current = found;
                    continue;
                }
                Err(Errno::NOENT) => made = true,
                Err(errno) => return Err((done, errno)),
            }
        }
        let name = Path::new(part.as_os_str());
        let create = || -> Result<OwnedFd, Errno> {
            rustix::fs::mkdirat(&current, name, Mode::from_raw_mode(0o700))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let dir = rustix::fs::openat(&current, name, flags, Mode::empty())?;
            rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))?;
            Ok(dir)
        };
        current = create().map_err(|errno| (done.clone(), errno))?;
    }
    Ok(current)
}

fn mount(mounter: &dyn Mounter, found: &OwnedFd, target: &Path) -> Result<(), Cause> {
    let stat = rustix::fs::fstat(found.as_fd()).map_err(Cause::errno("stat", target))?;
    let mounts = mounter.mounts_below(target).map_err(Cause::io("list mounts of", target))?;
    if mounts.contains_key(target) {
        let present = fs::symlink_metadata(target).map_err(Cause::io("lstat", target))?;
        if (present.dev(), present.ino()) == (stat.st_dev, stat.st_ino) {
            return Ok(());
        }
        mounter.unmount(target).map_err(Cause::io("unmount", target))?;
    }
    if let Some(parent) = target.parent() {
        make_dir(parent, 0o750)?;
    }
    make_target(target, FileType::from_raw_mode(stat.st_mode) == FileType::Directory)?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    mounter.bind(&source, target, false).map_err(Cause::io("bind mount", target))
}

/// A directory to mount a directory on, a file for everything else; what is there of the other kind goes.
fn make_target(target: &Path, is_dir: bool) -> Result<(), Cause> {
    if let Ok(present) = fs::symlink_metadata(target) {
        match (present.is_dir(), is_dir) {
            (true, false) => fs::remove_dir(target).map_err(Cause::io("remove", target))?,
            (false, true) => fs::remove_file(target).map_err(Cause::io("remove", target))?,
            _ => return Ok(()),
        }
    }
    if is_dir {
        fs::create_dir(target).map_err(Cause::io("mkdir", target))?;
        fs::set_permissions(target, fs::Permissions::from_mode(0o750)).map_err(Cause::io("chmod", target))
    } else {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o640).open(target).map(drop).map_err(Cause::io("create", target))
    }
}
