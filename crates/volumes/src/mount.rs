//! The kernel's mounts behind a trait: the real ones, and a double that records.

use std::{
    collections::BTreeMap,
    ffi::{CString, OsString},
    fmt, fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use rustix::mount::{MountFlags, UnmountFlags};

pub trait Mounter: Send + Sync + 'static {
    fn tmpfs(&self, target: &Path, options: &TmpfsOptions) -> io::Result<()>;

    fn bind(&self, source: &Path, target: &Path, read_only: bool) -> io::Result<()>;

    /// Does not follow a symlink at `target`.
    fn unmount(&self, target: &Path) -> io::Result<()>;

    /// Everything mounted at or below `root`: mount point to file system type.
    fn mounts_below(&self, root: &Path) -> io::Result<BTreeMap<PathBuf, String>>;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TmpfsOptions {
    /// `None`: the kernel's default, half of the memory.
    pub size_bytes: Option<u64>,
    /// Keep the pages out of swap; kernels from 6.4 on.
    pub no_swap: bool,
}

impl fmt::Display for TmpfsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.size_bytes.map(|bytes| format!("size={bytes}"));
        let parts: Vec<String> = size.into_iter().chain(self.no_swap.then(|| "noswap".into())).collect();
        f.write_str(&parts.join(","))
    }
}

/// The real thing; needs CAP_SYS_ADMIN.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelMounter;

impl KernelMounter {
    /// Whether tmpfs takes `noswap` here (upstream `swap.IsTmpfsNoswapOptionSupported`: by the kernel's version).
    pub fn supports_no_swap() -> bool {
        let release = rustix::system::uname();
        let release = release.release().to_string_lossy().into_owned();
        let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (6, 4)
    }
}

impl Mounter for KernelMounter {
    fn tmpfs(&self, target: &Path, options: &TmpfsOptions) -> io::Result<()> {
        let data = CString::new(options.to_string())?;
        let data = (!data.is_empty()).then_some(data.as_c_str());
        Ok(rustix::mount::mount("tmpfs", target, "tmpfs", MountFlags::empty(), data)?)
    }

    fn bind(&self, source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
        rustix::mount::mount_bind(source, target)?;
        if read_only {
            let flags = MountFlags::BIND | MountFlags::RDONLY;
            if let Err(error) = rustix::mount::mount_remount(target, flags, "") {
                self.unmount(target)?;
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn unmount(&self, target: &Path) -> io::Result<()> {
        Ok(rustix::mount::unmount(target, UnmountFlags::NOFOLLOW)?)
    }

    fn mounts_below(&self, root: &Path) -> io::Result<BTreeMap<PathBuf, String>> {
        Ok(parse_mountinfo(&fs::read("/proc/self/mountinfo")?, root))
    }
}

/// Mount points at or below `root` in the text of `/proc/PID/mountinfo` (proc(5)).
pub fn parse_mountinfo(text: &[u8], root: &Path) -> BTreeMap<PathBuf, String> {
    let mut mounts = BTreeMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ');
        let Some(point) = fields.nth(4) else { continue };
        let point = unescape(point);
        if !point.starts_with(root) {
            continue;
        }
        let kind = fields.skip_while(|field| *field != b"-").nth(1).unwrap_or_default();
        mounts.insert(point, String::from_utf8_lossy(kind).into_owned());
    }
    mounts
}

/// Octal escapes (`\040`) as the bytes they stand for.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, tail)) = rest.split_first() {
        let code = (*byte == b'\\').then(|| tail.get(..3)).flatten().and_then(|digits| {
            digits.iter().try_fold(0_u32, |code, digit| {
                (b'0'..=b'7').contains(digit).then(|| code * 8 + u32::from(digit - b'0'))
            })
        });
        match code.and_then(|code| u8::try_from(code).ok()) {
            Some(code) => {
                bytes.push(code);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Records what was asked for and believes it was done.
#[derive(Default)]
pub struct RecordingMounter {
    state: Mutex<Recorded>,
}

#[derive(Default)]
struct Recorded {
    log: Vec<String>,
    mounts: BTreeMap<PathBuf, String>,
}

impl RecordingMounter {
    /// One line per operation, in order.
    pub fn log(&self) -> Vec<String> {
        self.state.lock().log.clone()
    }
}

impl Mounter for RecordingMounter {
    fn tmpfs(&self, target: &Path, options: &TmpfsOptions) -> io::Result<()> {
        let mut state = self.state.lock();
        state.log.push(format!("mount tmpfs {} [{options}]", target.display()));
        state.mounts.insert(target.to_owned(), "tmpfs".into());
        Ok(())
    }

    fn bind(&self, source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
        let mut state = self.state.lock();
        let suffix = if read_only { " ro" } else { "" };
        // A descriptor's number differs from run to run.
        let source = match source.as_os_str().as_bytes().starts_with(b"/proc/self/fd/") {
            true => "/proc/self/fd/*".into(),
            false => source.display().to_string(),
        };
        state.log.push(format!("bind {source} {}{suffix}", target.display()));
        state.mounts.insert(target.to_owned(), "bind".into());
        Ok(())
    }

    fn unmount(&self, target: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.log.push(format!("unmount {}", target.display()));
        state.mounts.remove(target).map(drop).ok_or(io::Error::from_raw_os_error(22))
    }

    fn mounts_below(&self, root: &Path) -> io::Result<BTreeMap<PathBuf, String>> {
        let state = self.state.lock();
        Ok(state.mounts.iter().filter(|(p, _)| p.starts_with(root)).map(|(p, k)| (p.clone(), k.clone())).collect())
    }
}
