//! `argosy store`: looking after the embedded store while the cluster is stopped.

use std::{path::PathBuf, time::SystemTime};

use anyhow::bail;
use clap::{Args, Subcommand};
use cluster::layout::Layout;
use store::embedded::{self, Embedded, EmbeddedOptions, FILE_NAME, Report, Restored};

use super::DataFlags;

#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Verify every page and row of the store, or of a snapshot; changes nothing
    Check(CheckFlags),
    /// Write a verified copy of the store to a file
    Snapshot(FileFlags),
    /// Put a snapshot in the place of the store, which is kept beside it
    Restore(FileFlags),
}

#[derive(Args, Clone, Debug)]
pub struct CheckFlags {
    /// A snapshot, instead of the cluster's store
    file: Option<PathBuf>,
    #[command(flatten)]
    data: DataFlags,
}

#[derive(Args, Clone, Debug)]
pub struct FileFlags {
    /// The snapshot
    file: PathBuf,
    #[command(flatten)]
    data: DataFlags,
}

pub async fn run(command: Command) -> anyhow::Result<()> {
    // All of them block on the disk, and there is nothing else to do.
    tokio::task::spawn_blocking(move || match command {
        Command::Check(flags) => check(&flags),
        Command::Snapshot(flags) => snapshot(&flags),
        Command::Restore(flags) => restore(&flags),
    })
    .await?
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
