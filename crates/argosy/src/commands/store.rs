//! `argosy store`: looking after a cluster's data: the embedded store of a stopped cluster, or etcd.

pub mod member;

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use cluster::{files, layout::Layout};
use store::{
    ListOptions, Store,
    copy::{Copied, copy},
    embedded::{self, Embedded, EmbeddedOptions, FILE_NAME, Report, Restored},
    etcd::DEFAULT_PREFIX,
};

use super::DataFlags;
use crate::{components::storage::EtcdFlags, display};

/// How long events are kept where they arrive: upstream's default.
const EVENT_TTL: Duration = Duration::from_secs(3600);

#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Verify every page and row of the embedded store, or of a snapshot; of etcd, that all can be read. Changes nothing
    Check(CheckFlags),
    /// Write a verified copy of the data to a file
    Snapshot(FileFlags),
    /// Put a snapshot in the place of the embedded store, which is kept beside it; or into an empty etcd
    Restore(FileFlags),
    /// Copy a stopped cluster's data from the embedded store to etcd, or back; run again it goes on where it was broken off
    Copy(CopyFlags),
    /// Give back the room that is no longer needed
    Defrag(DefragFlags),
    /// The members of etcd: list, add, promote, remove
    #[command(subcommand)]
    Member(member::Command),
}

#[derive(Args, Clone, Debug)]
pub struct CheckFlags {
    /// A snapshot, instead of the cluster's store
    file: Option<PathBuf>,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    etcd: EtcdFlags,
}

#[derive(Args, Clone, Debug)]
pub struct FileFlags {
    /// The snapshot
    file: PathBuf,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    etcd: EtcdFlags,
}

#[derive(Args, Clone, Debug)]
pub struct DefragFlags {
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    etcd: EtcdFlags,
}

#[derive(Args, Clone, Debug)]
pub struct CopyFlags {
    direction: Direction,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    etcd: EtcdFlags,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Direction {
    /// From the data folder's embedded store
    ToEtcd,
    /// Into the data folder's embedded store
    FromEtcd,
}

pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Check(flags) if flags.etcd.is_named() => check_etcd(flags.etcd).await,
        Command::Check(flags) => blocking(move || check(&flags)).await,
        Command::Snapshot(flags) if flags.etcd.is_named() => snapshot_etcd(flags.etcd, &flags.file).await,
        Command::Snapshot(flags) => blocking(move || snapshot(&flags)).await,
        Command::Restore(flags) if flags.etcd.is_named() => restore_etcd(flags.etcd, &flags.file).await,
        Command::Restore(flags) => blocking(move || restore(&flags)).await,
        Command::Copy(flags) => copy_store(flags).await,
        Command::Member(command) => member::run(command).await,
        Command::Defrag(flags) if flags.etcd.is_named() => defrag_etcd(flags.etcd).await,
        Command::Defrag(flags) => blocking(move || defrag(&flags.data.layout()?)).await,
    }
}

/// For what blocks on the disk, where there is nothing else to do.
async fn blocking(work: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(work).await?
}

async fn open(folder: PathBuf) -> anyhow::Result<Embedded> {
    let opened = tokio::task::spawn_blocking(move || Embedded::open(EmbeddedOptions::new(folder))).await?;
    opened.map_err(stopped_first)
}

/// Copies with a line that counts, and says in the end what was done.
async fn copy_shown(from: &dyn Store, to: &dyn Store) -> anyhow::Result<Copied> {
    let counter = display::counter("objects");
    let prefix = format!("{DEFAULT_PREFIX}/");
    let of =
        |resource: &'static str| move |key: &str| key.strip_prefix(&format!("{DEFAULT_PREFIX}/{resource}/")).is_some();
    let is_event = of("events");
    let ttl = |key: &str| is_event(key).then_some(EVENT_TTL);
    // What API servers say of themselves every few seconds.
    let copied = copy(from, to, &prefix, ttl, of("masterleases"), |so_far| counter.set(so_far.entries())).await?;
    counter.end();
    let Copied { created, updated, unchanged } = copied;
    println!(
        "{} objects are the same on both sides: {created} created, {updated} updated, {unchanged} there already",
        copied.entries()
    );
    Ok(copied)
}

async fn copy_store(flags: CopyFlags) -> anyhow::Result<()> {
    if !flags.etcd.is_named() {
        bail!("--etcd-servers is needed: the URLs of etcd's members, such as https://192.0.2.11:2379");
    }
    let layout = flags.data.layout()?;
    if matches!(flags.direction, Direction::ToEtcd) {
        store_file(&layout)?;
    }
    let embedded = open(layout.store_dir()).await?;
    let etcd = flags.etcd.connect(Duration::ZERO).await?;
    match flags.direction {
        Direction::ToEtcd => copy_shown(&embedded, &etcd).await?,
        Direction::FromEtcd => copy_shown(&etcd, &embedded).await?,
    };
    etcd.close().await?;
    Ok(embedded.close().await?)
}

/// A snapshot of etcd is a file of the embedded engine like any other: `check`, `restore` and `copy` know it.
async fn snapshot_etcd(etcd: EtcdFlags, file: &Path) -> anyhow::Result<()> {
    if file.exists() {
        bail!("{} exists already", file.display());
    }
    let folder = beside(file);
    files::remove(&folder)?;
    let etcd = etcd.connect(Duration::ZERO).await?;
    let embedded = open(folder.clone()).await?;
    copy_shown(&etcd, &embedded).await?;
    embedded.close().await?;
    etcd.close().await?;
    std::fs::rename(folder.join(FILE_NAME), file).with_context(|| file.display().to_string())?;
    files::remove(&folder)?;
    println!("{}", file.display());
    Ok(())
}

async fn restore_etcd(etcd: EtcdFlags, file: &Path) -> anyhow::Result<()> {
    let (folder, checked) = (beside(file), file.to_owned());
    let report = tokio::task::spawn_blocking(move || embedded::check(&checked)).await??;
    files::remove(&folder)?;
    files::make_dir(&folder)?;
    // Opening a store writes to it; a snapshot stays as it is.
    std::fs::copy(file, folder.join(FILE_NAME)).with_context(|| file.display().to_string())?;
    let embedded = open(folder.clone()).await?;
    let etcd = etcd.connect(Duration::ZERO).await?;
    let copied = copy_shown(&embedded, &etcd).await;
    embedded.close().await?;
    files::remove(&folder)?;
    copied?;
    println!(
        "restored from {}: {}; restart the API servers, and whatever keeps what it has read",
        file.display(),
        contents(&report)
    );
    Ok(etcd.close().await?)
}

/// A folder for work on a file, on the same disk.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

async fn check_etcd(etcd: EtcdFlags) -> anyhow::Result<()> {
    let etcd = etcd.connect(Duration::ZERO).await?;
    let (mut objects, mut bytes) = (0, 0);
    let mut options = ListOptions { prefix: format!("{DEFAULT_PREFIX}/"), limit: 500, ..ListOptions::default() };
    let revision = loop {
        let page = etcd.list(options.clone()).await?;
        objects += page.entries.len();
        bytes += page.entries.iter().map(|entry| entry.value.len()).sum::<usize>();
        match page.entries.last() {
            Some(last) if page.remaining > 0 => options.after = Some(last.key.to_string()),
            _ => break page.revision,
        }
        options.at = Some(page.revision);
    };
    println!("etcd is readable: {objects} objects, {} KiB, revision {revision}", bytes.div_ceil(1024));
    Ok(etcd.close().await?)
}

async fn defrag_etcd(etcd: EtcdFlags) -> anyhow::Result<()> {
    let etcd = etcd.connect(Duration::ZERO).await?;
    let mut failed = 0;
    for (member, outcome) in etcd.defragment().await {
        match outcome {
            Ok(()) => println!("{member}: done"),
            Err(error) => {
                failed += 1;
                println!("{member}: {error}");
            }
        }
    }
    if failed > 0 {
        bail!("{failed} members were not defragmented");
    }
    Ok(etcd.close().await?)
}

/// A snapshot has no more room than it needs; it takes the store's place.
fn defrag(layout: &Layout) -> anyhow::Result<()> {
    let file = store_file(layout)?;
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len()) >> 10;
    let before = size(&file);
    let partial = beside(&file);
    files::remove(&partial)?;
    let store = Embedded::open(EmbeddedOptions::new(layout.store_dir())).map_err(stopped_first)?;
    store.snapshot_blocking(&partial)?;
    drop(store);
    let Restored { kept, .. } = embedded::restore(&partial, &layout.store_dir(), seconds()).map_err(stopped_first)?;
    files::remove(&partial)?;
    kept.map_or(Ok(()), |kept| files::remove(&kept))?;
    println!("{}: {before} KiB before, {} KiB now", file.display(), size(&file));
    Ok(())
}

fn check(flags: &CheckFlags) -> anyhow::Result<()> {
    let file = match &flags.file {
        Some(file) => file.clone(),
        None => store_file(&flags.data.layout()?)?,
    };
    let report = embedded::check(&file).map_err(stopped_first)?;
    println!("{} is sound: {}", file.display(), contents(&report));
    Ok(())
}

fn snapshot(flags: &FileFlags) -> anyhow::Result<()> {
    let layout = flags.data.layout()?;
    store_file(&layout)?;
    let store = Embedded::open(EmbeddedOptions::new(layout.store_dir())).map_err(stopped_first)?;
    let report = store.snapshot_blocking(&flags.file)?;
    println!("{}: {}", flags.file.display(), contents(&report));
    Ok(())
}

fn restore(flags: &FileFlags) -> anyhow::Result<()> {
    let layout = flags.data.layout()?;
    let Restored { report, kept } =
        embedded::restore(&flags.file, &layout.store_dir(), seconds()).map_err(stopped_first)?;
    if let Some(kept) = kept {
        println!("the store that was there is kept as {}", kept.display());
    }
    println!("restored from {}: {}; `argosy up` starts the cluster on it", flags.file.display(), contents(&report));
    Ok(())
}

fn store_file(layout: &Layout) -> anyhow::Result<PathBuf> {
    let file = layout.store_dir().join(FILE_NAME);
    if !file.exists() {
        bail!("no store in {}: `argosy up` makes one", layout.store_dir().display());
    }
    Ok(file)
}

fn stopped_first(error: store::Error) -> anyhow::Error {
    let in_use = matches!(error, store::Error::InUse { .. });
    let error = anyhow::Error::new(error);
    if in_use { error.context("the cluster is running: stop it with `argosy down` first") } else { error }
}

fn contents(report: &Report) -> String {
    let Report { revision, rows, bytes, .. } = report;
    format!("{rows} objects, {} KiB, revision {revision}", bytes.div_ceil(1024))
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
