//! How full file systems are, and what a directory takes.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A whole file system, as statvfs tells. Bytes and inodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    pub capacity_bytes: u64,
    /// To processes that are not root.
    pub available_bytes: u64,
    pub used_bytes: u64,
    pub inodes: u64,
    pub inodes_free: u64,
    /// Tells file systems apart.
    pub device: u64,
}

pub fn file_system(path: &Path) -> io::Result<FileSystem> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(FileSystem {
        capacity_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        used_bytes: stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize),
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
        device: fs::metadata(path)?.dev(),
    })
}

/// What the files below a directory take, on its own file system only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    pub bytes: u64,
    pub inodes: u64,
}

/// As `du`: blocks, every inode once. What vanishes meanwhile does not count.
pub fn disk_usage(root: &Path) -> io::Result<DiskUsage> {
    let metadata = fs::symlink_metadata(root)?;
    let device = metadata.dev();
    let mut usage = DiskUsage { bytes: metadata.blocks() * 512, inodes: 1 };
    let mut linked: HashSet<u64> = HashSet::new();
    let mut dirs: Vec<PathBuf> = if metadata.is_dir() { vec![root.to_owned()] } else { Vec::new() };
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let seen = metadata.nlink() > 1 && !metadata.is_dir() && !linked.insert(metadata.ino());
            if metadata.dev() != device || seen {
                continue;
            }
            usage.bytes += metadata.blocks() * 512;
            usage.inodes += 1;
            if metadata.is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    Ok(usage)
}
