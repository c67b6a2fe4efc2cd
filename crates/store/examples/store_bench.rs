//! Measures the embedded store: `cargo run --release -p store --example store_bench [DIRECTORY]`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use store::{
    ListOptions, Result, Store,
    embedded::{Embedded, EmbeddedOptions},
};

const VALUE_BYTES: usize = 1024;
const MEASURE: Duration = Duration::from_secs(4);
const ROWS: usize = 100_000;

fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("store-bench"), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| store::Error::Io { context: "start the runtime".to_owned(), source })?;
    let result = runtime.block_on(measure(&directory));
    // Only what a run makes; a directory that holds more stays.
    for name in [store::embedded::FILE_NAME, store::embedded::LOCK_NAME] {
        let _ = std::fs::remove_file(directory.join(name));
    }
    let _ = std::fs::remove_dir(&directory);
    result
}

async fn measure(directory: &Path) -> Result<()> {
    let store = Arc::new(Embedded::open(EmbeddedOptions::new(directory))?);
    for writers in [1, 8, 64, 256] {
        puts(&store, writers).await?;
    }
    let have = store.list(ListOptions { limit: 1, ..ListOptions::default() }).await?;
    fill(&store, ROWS.saturating_sub(have.remaining as usize + 1)).await?;
    store.close().await?;
    drop(store);

    let started = Instant::now();
    let store = Embedded::open(EmbeddedOptions::new(directory))?;
    println!("open and verify: {:?}; resident {} MiB", started.elapsed(), resident_mib());
    let (started, mut pages, mut after, mut at, mut rows) = (Instant::now(), 0, None, None, 0);
    loop {
        let page = store.list(ListOptions { prefix: "/".to_owned(), after, limit: 500, at }).await?;
        (pages, rows, at) = (pages + 1, rows + page.entries.len(), Some(page.revision));
        after = page.entries.last().map(|entry| entry.key.to_string());
        if page.remaining == 0 {
            break;
        }
    }
    println!("list {rows} rows in {pages} pages: {:?}; resident {} MiB", started.elapsed(), resident_mib());
    let started = Instant::now();
    for n in 0..2000 {
        store.get(&format!("/fill/{n:08}")).await?;
    }
    println!("get: {:?} each", started.elapsed() / 2000);
    store.close().await
}

async fn puts(store: &Arc<Embedded>, writers: usize) -> Result<()> {
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            let mut newest: Vec<Option<store::Revision>> = vec![None; 50];
            while started.elapsed() < MEASURE {
                let slot = latencies.len() % newest.len();
                let key = format!("/bench/{writers}/{writer:03}/{slot:03}");
                let value = Bytes::from(vec![latencies.len() as u8; VALUE_BYTES]);
                let begun = Instant::now();
                newest[slot] = Some(match newest[slot] {
                    None => store.create(&key, value, None).await?,
                    Some(expected) => store.update(&key, value, expected, None).await?,
                });
                latencies.push(begun.elapsed());
            }
            Ok::<_, store::Error>(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(own) = tasks.join_next().await {
        latencies.extend(own.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?);
    }
    let rate = latencies.len() as f64 / started.elapsed().as_secs_f64();
    latencies.sort();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "{writers:>4} writers: {rate:>8.0} puts/s, p50 {:?}, p99 {:?}, max {:?}; resident {} MiB",
        at(0.5),
        at(0.99),
        at(1.0),
        resident_mib()
    );
    Ok(())
}

async fn fill(store: &Arc<Embedded>, rows: usize) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..rows {
        let store = Arc::clone(store);
        tasks.spawn(
            async move { store.create(&format!("/fill/{n:08}"), Bytes::from(vec![1; VALUE_BYTES]), None).await },
        );
        if tasks.len() == 512 {
            while let Some(result) = tasks.join_next().await {
                result.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
            }
        }
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    }
    Ok(())
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kb| kb / 1024)
}
