//! `argosy store`: looking after the embedded store while the cluster is stopped.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use cluster::layout::Layout;
use store::embedded::{self, Embedded, EmbeddedOptions, FILE_NAME, Report};

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
    let report = embedded::check(&flags.file)?;
    let place = layout.store_dir().join(FILE_NAME);
    fs::create_dir_all(layout.store_dir()).with_context(|| format!("cannot make {}", layout.store_dir().display()))?;
    if place.exists() {
        // A damaged store is what restoring is for; one in use is not.
        if let Err(error @ store::Error::InUse { .. }) = embedded::check(&place) {
            return Err(stopped_first(error));
        }
        let kept = layout.store_dir().join(format!("{FILE_NAME}.{}", seconds()));
        fs::rename(&place, &kept).with_context(|| format!("cannot move {} aside", place.display()))?;
        println!("the store that was there is kept as {}", kept.display());
    }
    copy(&flags.file, &place)?;
    println!("restored from {}: {}; `argosy up` starts the cluster on it", flags.file.display(), contents(&report));
    Ok(())
}

/// Whole and on the disk before it has its name.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let partial = to.with_extension("restoring");
    let copied = fs::copy(from, &partial).and_then(|_| fs::File::open(&partial)?.sync_all());
    copied.with_context(|| format!("cannot copy {} to {}", from.display(), partial.display()))?;
    fs::rename(&partial, to).with_context(|| format!("cannot put {} in place", to.display()))?;
    let folder = to.parent().unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| folder.display().to_string())
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
