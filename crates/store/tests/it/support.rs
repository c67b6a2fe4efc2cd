//! The embedded engine in a temporary directory, on a clock that tests set.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use store::{
    Store,
    embedded::{Clock, Embedded, EmbeddedOptions},
    suite::Engine,
};
use tempfile::TempDir;

#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl Clock for ManualClock {
    fn now_unix_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub struct EmbeddedEngine {
    directory: TempDir,
    clock: Arc<ManualClock>,
    open: Mutex<Option<Arc<Embedded>>>,
}

impl EmbeddedEngine {
    pub fn new() -> Self {
        let clock = Arc::new(ManualClock(AtomicU64::new(1_000_000)));
        Self { directory: tempfile::tempdir().unwrap(), clock, open: Mutex::new(None) }
    }

    pub fn options(&self) -> EmbeddedOptions {
        EmbeddedOptions { clock: self.clock.clone(), ..EmbeddedOptions::new(self.directory.path()) }
    }
}

#[async_trait]
impl Engine for EmbeddedEngine {
    async fn open(&self) -> Arc<dyn Store> {
        drop(self.open.lock().take());
        let store = Arc::new(Embedded::open(self.options()).unwrap());
        *self.open.lock() = Some(Arc::clone(&store));
        store
    }

    async fn advance(&self, _store: &Arc<dyn Store>, by: Duration) {
        self.clock.0.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
        let store = self.open.lock().clone().expect("open first");
        store.expire_due().await.unwrap();
    }
}

pub fn open(directory: &Path) -> store::Result<Embedded> {
    Embedded::open(EmbeddedOptions::new(directory))
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
