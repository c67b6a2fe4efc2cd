//! A disk that loses power: of what was not synced, any part may have reached it, in any order, also half a write.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    Embedded, EmbeddedOptions, database,
    disk::{Disk, Trouble},
};
use crate::{Error, Store};

#[derive(Clone, Debug)]
enum Pending {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Debug, Default)]
struct State {
    synced: Vec<u8>,
    /// Since the last sync.
    pending: Vec<Pending>,
    /// What a reader sees.
    seen: Vec<u8>,
    /// What the next writes or syncs answer.
    fail: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    WritesFindNoSpace,
    SyncsFail,
}

#[derive(Debug, Default)]
struct TornDisk(Mutex<State>);

fn apply(bytes: &mut Vec<u8>, pending: &Pending) {
    match pending {
        Pending::SetLen(len) => bytes.resize(*len as usize, 0),
        Pending::Write(offset, data) => {
            let end = *offset as usize + data.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*offset as usize..end].copy_from_slice(data);
        }
    }
}

const SECTOR_BYTES: usize = 512;

impl TornDisk {
    /// What may be on the disk if the power went now. A length is kept in order, as file systems journal it.
    fn after_power_loss(&self, random: &mut StdRng) -> Self {
        let state = self.0.lock();
        let mut bytes = state.synced.clone();
        let chance = random.random_range(0.0..=1.0);
        let mut kept = Vec::new();
        for pending in &state.pending {
            match pending {
                Pending::SetLen(_) => kept.push(pending.clone()),
                Pending::Write(offset, data) => {
                    let sectors = data.chunks(SECTOR_BYTES).enumerate().filter(|_| random.random_bool(chance));
                    kept.extend(
                        sectors.map(|(n, part)| Pending::Write(offset + (n * SECTOR_BYTES) as u64, part.to_vec())),
                    );
                }
            }
        }
        let len = kept.iter().rev().find_map(|p| if let Pending::SetLen(len) = p { Some(*len as usize) } else { None });
        let len = len.unwrap_or(bytes.len());
        for pending in &kept {
            apply(&mut bytes, pending);
        }
        bytes.resize(len, 0);
        Self(Mutex::new(State { seen: bytes.clone(), synced: bytes, ..State::default() }))
    }

    fn fail(&self, failure: Option<Failure>) {
        self.0.lock().fail = failure;
    }
}

impl Disk for TornDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().seen.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock();
        let start = offset as usize;
        let bytes = state.seen.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        // Space is only wanted where there was none: behind the first 64 kB, to spare the header.
        if state.fail == Some(Failure::WritesFindNoSpace) && offset > 262_144 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let pending = Pending::Write(offset, data.to_vec());
        apply(&mut state.seen, &pending);
        state.pending.push(pending);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        let pending = Pending::SetLen(len);
        apply(&mut state.seen, &pending);
        state.pending.push(pending);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.fail == Some(Failure::SyncsFail) {
            return Err(io::Error::other("the disk is broken"));
        }
        state.synced = state.seen.clone();
        state.pending.clear();
        Ok(())
    }
}

fn start(disk: &Arc<TornDisk>) -> Embedded {
    let options = EmbeddedOptions::new("/nowhere");
    let disk: Arc<dyn Disk> = Arc::clone(disk) as Arc<dyn Disk>;
    Embedded::start(disk, None, "torn.redb".into(), &options).unwrap().0
}

fn empty() -> Arc<TornDisk> {
    let torn = Arc::new(TornDisk::default());
    let disk: Arc<dyn Disk> = Arc::clone(&torn) as Arc<dyn Disk>;
    let database = database::open(&disk, &Arc::new(Trouble::default())).unwrap();
    database::initialize(&database, 1).unwrap();
    database.close().unwrap();
    torn
}

fn size(key: usize) -> Bytes {
    Bytes::from(vec![key as u8; key * 131 % 3000])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_loss_at_any_write_keeps_what_was_acknowledged() {
    let mut random = StdRng::seed_from_u64(7);
    let disk = empty();
    let store = Arc::new(start(&disk));
    let (acknowledged, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = tokio::spawn({
        let (store, acknowledged, stop) = (Arc::clone(&store), Arc::clone(&acknowledged), Arc::clone(&stop));
        async move {
            for n in 0.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                store.create(&format!("/k/{n:06}"), size(n), None).await.unwrap();
                acknowledged.store(n + 1, Ordering::SeqCst);
            }
        }
    });
    let mut images = Vec::new();
    for _ in 0..80 {
        // In this order: what is acknowledged before the power goes must be there.
        let count = acknowledged.load(Ordering::SeqCst);
        images.push((count, disk.after_power_loss(&mut random)));
        tokio::time::sleep(Duration::from_micros(random.random_range(0..8000))).await;
    }
    stop.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    store.close().await.unwrap();
    assert!(acknowledged.load(Ordering::SeqCst) > 80, "hardly anything was written");
    for (count, image) in images {
        let image = Arc::new(image);
        let store = start(&image);
        let entries = store.list(crate::ListOptions::default()).await.unwrap().entries;
        assert!(entries.len() >= count, "{} of {count} acknowledged", entries.len());
        for (n, entry) in entries.iter().enumerate() {
            assert!(*entry.key == format!("/k/{n:06}") && entry.value == size(n), "{}", entry.key);
        }
        store.create("/new", size(100), None).await.unwrap();
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_ends_writing_until_the_store_is_opened_again() {
    let disk = empty();
    let store = start(&disk);
    store.create("/a", size(10), None).await.unwrap();
    let before = store.revision().await.unwrap();
    disk.fail(Some(Failure::SyncsFail));
    let failed = store.create("/b", size(10), None).await;
    assert!(matches!(failed, Err(Error::Unavailable { .. })), "{failed:?}");
    disk.fail(None);
    let refused = store.create("/c", size(10), None).await;
    assert!(
        matches!(refused, Err(Error::Unavailable { .. })),
        "a disk that comes back must not be trusted: {refused:?}"
    );
    assert_eq!(store.revision().await.unwrap(), before);
    store.close().await.unwrap();
    let store = start(&disk);
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, size(10));
    store.create("/c", size(10), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_fails_the_batch_alone() {
    let disk = empty();
    let store = start(&disk);
    for n in 0..50 {
        store.create(&format!("/k/{n}"), size(n), None).await.unwrap();
    }
    let before = store.list(crate::ListOptions::default()).await.unwrap();
    disk.fail(Some(Failure::WritesFindNoSpace));
    let failed = store.create("/large", Bytes::from(vec![1; 1_000_000]), None).await;
    assert!(matches!(failed, Err(Error::NoSpace { .. })), "{failed:?}");
    assert_eq!(store.list(crate::ListOptions::default()).await.unwrap(), before);
    disk.fail(None);
    let entry = before.entries[0].clone();
    let revision = store.delete(&entry.key, entry.modified).await.unwrap();
    assert_eq!(revision.0, before.revision.0 + 1);
    store.create("/large", Bytes::from(vec![1; 1_000_000]), None).await.unwrap();
    store.close().await.unwrap();
}
