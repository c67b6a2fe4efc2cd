//! The file below redb, behind a seam: the real one ([`super::sidecar::LockedFile`]), one that keeps writes in memory (to look without touching), and in
//! tests one that loses what was not synced.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};

use super::fault::is_no_space;

/// A flat file of bytes.
pub(crate) trait Disk: Debug + Send + Sync + 'static {
    fn len(&self) -> io::Result<u64>;
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

/// What went wrong on a disk, worst wins. redb forgets which of its errors was the first; this remembers.
#[derive(Debug, Default)]
pub(super) struct Trouble(AtomicU8);

impl Trouble {
    const NO_SPACE: u8 = 1;
    const DOUBTFUL: u8 = 2;

    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// Writes were refused for want of space, and nothing else happened: what was synced before is still there.
    pub(super) fn is_only_no_space(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::NO_SPACE
    }

    fn note(&self, trouble: u8) {
        self.0.fetch_max(trouble, Ordering::AcqRel);
    }
}

/// Gives redb a [`Disk`]. It takes no locks: the engine holds the lock on the file for longer than redb is open.
#[derive(Debug)]
pub(super) struct Backend {
    pub disk: Arc<dyn Disk>,
    pub trouble: Arc<Trouble>,
}

impl Backend {
    fn noted(&self, result: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &result {
            self.trouble.note(if is_no_space(error) { Trouble::NO_SPACE } else { Trouble::DOUBTFUL });
        }
        result
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.noted(self.disk.read_at(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.noted(self.disk.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let result = self.disk.sync();
        if result.is_err() {
            // Whatever the cause: after a failed sync nobody knows which pages reached the disk.
            self.trouble.note(Trouble::DOUBTFUL);
        }
        result
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.noted(self.disk.write_at(offset, data))
    }

    fn try_lock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}

/// Shows another disk and keeps all changes in memory.
#[derive(Debug)]
pub(crate) struct Overlay {
    base: Arc<dyn Disk>,
    state: Mutex<OverlayState>,
}

#[derive(Debug)]
struct OverlayState {
    len: u64,
    /// Bytes of `base` that still show; a shrink hides the rest for good.
    base_len: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

const OVERLAY_PAGE_BYTES: u64 = 4096;

impl Overlay {
    pub(crate) fn new(base: Arc<dyn Disk>) -> io::Result<Self> {
        let len = base.len()?;
        Ok(Self { base, state: Mutex::new(OverlayState { len, base_len: len, pages: BTreeMap::new() }) })
    }

    fn load(&self, state: &OverlayState, page: u64) -> io::Result<Box<[u8]>> {
        let mut bytes = vec![0; OVERLAY_PAGE_BYTES as usize].into_boxed_slice();
        let start = page * OVERLAY_PAGE_BYTES;
        let shown = state.base_len.saturating_sub(start).min(OVERLAY_PAGE_BYTES) as usize;
        if shown > 0 {
            self.base.read_at(start, &mut bytes[..shown])?;
        }
        Ok(bytes)
    }
}

/// Cuts `[offset, offset + len)` at page borders: (page, offset in page, bytes).
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut at = offset;
    let end = offset + len as u64;
    std::iter::from_fn(move || {
        let in_page = at % OVERLAY_PAGE_BYTES;
        let count = (OVERLAY_PAGE_BYTES - in_page).min(end.checked_sub(at)?);
        let piece = (at / OVERLAY_PAGE_BYTES, in_page as usize, count as usize);
        at += count;
        (count > 0).then_some(piece)
    })
}

impl Disk for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().len)
    }

    fn read_at(&self, offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > state.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (page, start, count) in pieces(offset, out.len()) {
            let (piece, rest) = out.split_at_mut(count);
            match state.pages.get(&page) {
                Some(bytes) => piece.copy_from_slice(&bytes[start..start + count]),
                None => piece.copy_from_slice(&self.load(&state, page)?[start..start + count]),
            }
            out = rest;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, mut data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        let total = data.len();
        for (page, start, count) in pieces(offset, total) {
            let mut bytes = match state.pages.remove(&page) {
                Some(bytes) => bytes,
                None => self.load(&state, page)?,
            };
            let (piece, rest) = data.split_at(count);
            bytes[start..start + count].copy_from_slice(piece);
            state.pages.insert(page, bytes);
            data = rest;
        }
        let end = offset + total as u64;
        state.len = state.len.max(end);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.len = len;
        state.base_len = state.base_len.min(len);
        state.pages.retain(|page, _| page * OVERLAY_PAGE_BYTES < len);
        if let Some(bytes) = state.pages.get_mut(&(len / OVERLAY_PAGE_BYTES)) {
            bytes[(len % OVERLAY_PAGE_BYTES) as usize..].fill(0);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
