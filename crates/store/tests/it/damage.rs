//! Files that are not what was written: whatever is damaged, opening or reading says so, or all data is intact.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use store::{
    Entry, Error, ListOptions, Store,
    embedded::{Embedded, FILE_NAME, LOCK_NAME, check},
};
use tokio::runtime::Runtime;

use crate::support::{open, runtime};

struct Original {
    directory: tempfile::TempDir,
    entries: Vec<Entry>,
    runtime: Runtime,
}

fn list(runtime: &Runtime, store: &Embedded) -> store::Result<Vec<Entry>> {
    let options = ListOptions { prefix: "/".into(), ..ListOptions::default() };
    Ok(runtime.block_on(store.list(options))?.entries)
}

impl Original {
    fn new() -> Self {
        let (runtime, directory) = (runtime(), tempfile::tempdir().unwrap());
        let store = open(directory.path()).unwrap();
        runtime.block_on(async {
            for n in 0..150_usize {
                let ttl = (n % 5 == 0).then_some(Duration::from_secs(100_000));
                store.create(&format!("/k/{n:04}"), Bytes::from(vec![n as u8; n * 37 % 900]), ttl).await.unwrap();
            }
            store.create("/large", Bytes::from(vec![3; 60_000]), None).await.unwrap();
            store.create("/last", Bytes::from_static(b"the newest write"), None).await.unwrap();
        });
        let entries = list(&runtime, &store).unwrap();
        runtime.block_on(store.close()).unwrap();
        Self { directory, entries, runtime }
    }

    fn file_len(&self) -> u64 {
        std::fs::metadata(self.directory.path().join(FILE_NAME)).unwrap().len()
    }

    /// Whether damage was found in a copy; panics where it did harm unnoticed.
    fn damaged(&self, what: &str, damage: impl FnOnce(&File)) -> bool {
        let copy = tempfile::tempdir().unwrap();
        for name in [FILE_NAME, LOCK_NAME] {
            std::fs::copy(self.directory.path().join(name), copy.path().join(name)).unwrap();
        }
        let path = copy.path().join(FILE_NAME);
        damage(&OpenOptions::new().read(true).write(true).open(&path).unwrap());
        // Looking does not change the file, and is told the same thing first.
        let bytes = std::fs::read(&path).unwrap();
        let checked = check(&path);
        assert!(bytes == std::fs::read(&path).unwrap(), "{what}: the check wrote");
        match open(copy.path()) {
            Err(Error::Damaged { message }) => {
                assert!(message.contains(FILE_NAME), "{what}: {message}");
                assert!(message.contains("snapshot") || message.contains("version"), "{what}: no way out in {message}");
                true
            }
            Err(error) => panic!("{what}: {error:?}"),
            Ok(store) => {
                assert_eq!(checked.unwrap().rows as usize, self.entries.len(), "{what}");
                self.assert_intact(what, store, copy.path());
                false
            }
        }
    }

    /// All data is there, and writing does not bring a hidden damage to light.
    fn assert_intact(&self, what: &str, store: Embedded, directory: &Path) {
        assert!(list(&self.runtime, &store).unwrap() == self.entries, "{what}: silent loss");
        self.runtime.block_on(async {
            for n in 0..10 {
                store.create(&format!("/new/{n}"), Bytes::from(vec![1; 3000]), None).await.unwrap();
            }
            store.close().await.unwrap();
        });
        drop(store);
        let store = open(directory).unwrap();
        let entries = list(&self.runtime, &store).unwrap();
        let (new, old): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.key.starts_with("/new/"));
        assert!(new.len() == 10 && old == self.entries, "{what}: lost after writing");
    }
}

fn flip(file: &File, at: u64, mask: u8) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ mask], at).unwrap();
}

#[test]
fn every_byte_of_the_header_flipped() {
    let original = Original::new();
    let mut found = 0;
    for at in 0..320 {
        found += u32::from(original.damaged(&format!("byte {at}"), |file| flip(file, at, 1 << (at % 8))));
    }
    // redb's byte of flags, one by one: which commit is the newest among them.
    for bit in 0..8 {
        found += u32::from(original.damaged(&format!("flag {bit}"), |file| flip(file, 9, 1 << bit)));
    }
    assert!(found > 50, "only {found} were found");
}

#[test]
fn random_bytes_flipped() {
    let original = Original::new();
    let mut random = StdRng::seed_from_u64(1);
    let mut found = 0;
    for _ in 0..250 {
        let (at, mask) = (random.random_range(0..original.file_len()), random.random_range(1..=255));
        found += u32::from(original.damaged(&format!("byte {at} ^ {mask}"), |file| flip(file, at, mask)));
    }
    assert!(found > 20, "only {found} were found");
}

#[test]
fn pages_lost_and_swapped() {
    let original = Original::new();
    let pages = original.file_len() / 4096;
    let mut found = 0;
    for page in 0..pages {
        found += u32::from(original.damaged(&format!("page {page} zeroed"), |file| {
            file.write_all_at(&[0; 4096], page * 4096).unwrap();
        }));
        found += u32::from(original.damaged(&format!("page {page} from the next"), |file| {
            let mut bytes = [0; 4096];
            file.read_exact_at(&mut bytes, (page + 1) % pages * 4096).unwrap();
            file.write_all_at(&bytes, page * 4096).unwrap();
        }));
    }
    assert!(found > 20, "only {found} were found");
}

#[test]
fn files_cut_short() {
    let original = Original::new();
    let mut random = StdRng::seed_from_u64(2);
    let mut lengths: Vec<u64> = (0..40).map(|_| random.random_range(0..original.file_len())).collect();
    lengths.extend([0, 1, 9, 64, 320, 4096, original.file_len() - 1]);
    for len in lengths {
        assert!(original.damaged(&format!("cut to {len}"), |file| file.set_len(len).unwrap()), "cut to {len}");
    }
}

#[test]
fn a_missing_file_is_not_an_empty_store() {
    let original = Original::new();
    std::fs::remove_file(original.directory.path().join(FILE_NAME)).unwrap();
    match open(original.directory.path()) {
        Err(Error::Damaged { message }) => assert!(message.contains(LOCK_NAME), "{message}"),
        other => panic!("{:?}", other.map(|_| "a store")),
    }
    std::fs::remove_file(original.directory.path().join(LOCK_NAME)).unwrap();
    let store = open(original.directory.path()).unwrap();
    assert!(list(&original.runtime, &store).unwrap().is_empty(), "the way out that the message names");
}

#[test]
fn an_older_copy_of_the_file_is_a_loss() {
    let original = Original::new();
    let older = std::fs::read(original.directory.path().join(FILE_NAME)).unwrap();
    let store = open(original.directory.path()).unwrap();
    original.runtime.block_on(store.create("/later", Bytes::new(), None)).unwrap();
    drop(store);
    std::fs::write(original.directory.path().join(FILE_NAME), older).unwrap();
    assert!(matches!(open(original.directory.path()), Err(Error::Damaged { .. })));
}

#[test]
fn damage_below_a_running_store_is_told_by_reads_and_writes() {
    let (runtime, directory) = (runtime(), tempfile::tempdir().unwrap());
    let store = open(directory.path()).unwrap();
    let marker = *b"marker-in-a-value";
    runtime.block_on(async {
        // More than redb's cache holds, so that much must come from the file.
        for n in 0..16 {
            store.create(&format!("/k/{n}"), Bytes::from(marker.repeat(80_000)), None).await.unwrap();
        }
    });
    let file = OpenOptions::new().read(true).write(true).open(directory.path().join(FILE_NAME)).unwrap();
    let bytes = std::fs::read(directory.path().join(FILE_NAME)).unwrap();
    for (page, bytes) in bytes.chunks(4096).enumerate() {
        if let Some(at) = bytes.windows(marker.len()).position(|window| window == marker) {
            flip(&file, page as u64 * 4096 + at as u64, 1);
        }
    }
    let listed = list(&runtime, &store);
    assert!(matches!(listed, Err(Error::Damaged { .. })), "{:?}", listed.map(|entries| entries.len()));
    let mut damaged = 0;
    for n in 0..16 {
        let key = format!("/k/{n}");
        match runtime.block_on(store.get(&key)) {
            Ok(Some(entry)) => assert!(entry.value == marker.repeat(80_000), "{key} in the cache"),
            Ok(None) => panic!("{key} was read as absent"),
            Err(Error::Damaged { message }) => {
                assert!(message.contains(&key) && message.contains("snapshot"), "{message}");
                damaged += 1;
                let created = runtime.block_on(store.create(&key, Bytes::new(), None));
                assert!(matches!(created, Err(Error::Damaged { .. } | Error::Exists { .. })), "{created:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(damaged > 4, "{damaged}");
}
