//! A disk that runs full: writes are refused, reads go on, and nothing acknowledged is lost.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use store::{Entry, Error, ListOptions, Store, embedded::Embedded};

use crate::support::open;

/// A tmpfs of a few MiB, gone when dropped.
struct SmallDisk(PathBuf, #[expect(dead_code, reason = "keeps the mount point")] tempfile::TempDir);

impl SmallDisk {
    /// `None` where this user may not mount.
    fn mount(mib: u32) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let options = std::ffi::CString::new(format!("size={mib}m,mode=700")).unwrap();
        match mount("tmpfs", &path, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, options.as_c_str()) {
            Ok(()) => Some(Self(path, directory)),
            Err(rustix::io::Errno::PERM) => {
                eprintln!("mounting needs root: the full disk was not tried");
                None
            }
            Err(errno) => panic!("mount: {errno}"),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

/// Takes some of the disk, to be given back later.
fn occupy(path: &Path, bytes: usize) {
    std::fs::write(path, vec![1; bytes]).unwrap();
}

/// Takes all that is left on the disk that holds `path`.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    loop {
        match file.write(&[1; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn all(store: &Embedded) -> Vec<Entry> {
    store.list(ListOptions { prefix: "/".into(), ..ListOptions::default() }).await.unwrap().entries
}

/// Creates keys until the disk is full; answers how many there are.
async fn create_until_full(store: &Embedded, from: usize) -> usize {
    for n in from..100_000 {
        match store.create(&format!("/k/{n:06}"), Bytes::from(vec![n as u8; 3000]), None).await {
            Ok(_) => {}
            Err(Error::NoSpace { message }) => {
                assert!(message.contains("full"), "{message}");
                return n;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the disk does not fill");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(8) else {
        return;
    };
    let directory = disk.0.join("store");
    occupy(&disk.0.join("occupied"), 3 << 20);
    let store = open(&directory).unwrap();
    let count = create_until_full(&store, 0).await;
    assert!(count > 100, "only {count} rows of 3 kB fit");
    fill(&disk.0.join("filler"));
    let before = all(&store).await;
    assert_eq!(before.len(), count);
    let revision = store.revision().await.unwrap();

    let mut refused = 0;
    for n in 0..20 {
        match store.create(&format!("/big/{n}"), Bytes::from(vec![9; 500_000]), None).await {
            Err(Error::NoSpace { .. }) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, 20);
    assert_eq!(all(&store).await, before, "reads go on and show what was there");
    assert_eq!(store.revision().await.unwrap(), revision);
    let mut watch = store.watch("/", revision).await.unwrap();

    for name in ["filler", "occupied"] {
        std::fs::remove_file(disk.0.join(name)).unwrap();
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let revived = loop {
        match store.delete(&before[0].key, before[0].modified).await {
            Ok(revision) => break revision,
            Err(Error::NoSpace { .. }) if std::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(revived.0, revision.0 + 1, "refused writes took no revision");
    match futures_util::StreamExt::next(&mut watch).await.unwrap().unwrap() {
        store::WatchItem::Events(events) => assert_eq!(events[0].revision, revived),
        // The state at the start may be told first.
        store::WatchItem::Progress(progress) => assert_eq!(progress, revision),
    }
    for entry in &before[1..count / 2] {
        store.delete(&entry.key, entry.modified).await.unwrap();
    }
    let again = create_until_full(&store, count).await;
    assert!(again > count + count / 4, "what deletes freed is used again: {count} and {again}");
    let last = all(&store).await;
    store.close().await.unwrap();
    drop(store);

    let store = open(&directory).unwrap();
    assert_eq!(all(&store).await, last);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn making_a_store_or_a_snapshot_on_a_full_disk_says_so_and_leaves_nothing_behind() {
    let Some(disk) = SmallDisk::mount(4) else {
        return;
    };
    fill(&disk.0.join("filler"));
    match open(&disk.0) {
        Err(Error::NoSpace { .. }) => {}
        other => panic!("{:?}", other.map(|_| "a store")),
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let store = open(elsewhere.path()).unwrap();
    for n in 0..10 {
        store.create(&format!("/k/{n}"), Bytes::from(vec![1; 1_000_000]), None).await.unwrap();
    }
    match store.snapshot(&disk.0.join("snapshot")).await {
        Err(Error::NoSpace { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(!disk.0.join("snapshot").exists() && !disk.0.join("snapshot.partial").exists());
    std::fs::remove_file(disk.0.join("filler")).unwrap();
    let store = open(&disk.0).unwrap();
    store.create("/a", Bytes::new(), None).await.unwrap();
    store.close().await.unwrap();
}
