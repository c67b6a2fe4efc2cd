//! `argosy image`: images in the node's containerd, without a registry.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use cluster::{containerd::Cri, files, images::ImageStore, layout::Settings};

use super::DataFlags;
use crate::{cli::TOOLS, node::socket_of};

#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Put images from archives (OCI, or as `docker save` writes them) into the node's containerd
    Import(Import),
    /// Put the images that the binary holds into the node's containerd: pause, and itself
    BuiltIn(BuiltIn),
    /// List the node's images
    List(List),
}

#[derive(Args, Clone, Debug)]
pub struct BuiltIn {
    #[command(flatten)]
    data: DataFlags,
}

#[derive(Args, Clone, Debug)]
pub struct Import {
    #[command(flatten)]
    data: DataFlags,
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct List {
    #[command(flatten)]
    data: DataFlags,
}

pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Import(flags) => import(flags).await,
        Command::BuiltIn(flags) => built_in(flags).await,
        Command::List(flags) => list(flags).await,
    }
}

async fn import(flags: Import) -> anyhow::Result<()> {
    let (socket, cri) = connect(&flags.data).await?;
    let store = ImageStore { cri: &cri, socket };
    for file in &flags.files {
        if !file.is_file() {
            bail!("{} is no file", file.display());
        }
        let names = store.import_file(file).await.with_context(|| format!("importing {}", file.display()))?;
        if names.is_empty() {
            bail!("{} holds no image with a name", file.display());
        }
        keep(&flags.data.layout()?.imported_images_file(), &names)?;
        for name in names {
            println!("{name}");
        }
    }
    Ok(())
}

async fn built_in(flags: BuiltIn) -> anyhow::Result<()> {
    let layout = flags.data.layout()?;
    let (socket, cri) = connect_soon(&flags.data).await?;
    for name in (ImageStore { cri: &cri, socket }).ensure_built_in(&layout, &TOOLS).await? {
        println!("{name}");
    }
    Ok(())
}

/// A service manager asks as soon as it has started containerd, which then needs a moment until it answers.
async fn connect_soon(data: &DataFlags) -> anyhow::Result<(PathBuf, Cri)> {
    const TRIES: usize = 100;
    const PAUSE: Duration = Duration::from_millis(100);
    for _ in 1..TRIES {
        if let Ok((socket, cri)) = connect(data).await
            && cri.version().await.is_ok()
        {
            return Ok((socket, cri));
        }
        tokio::time::sleep(PAUSE).await;
    }
    connect(data).await
}

/// Adds names to the list of those that the kubelet does not remove when the disk fills up.
fn keep(file: &Path, names: &[String]) -> anyhow::Result<()> {
    let known = String::from_utf8(files::read_optional(file)?.unwrap_or_default())
        .with_context(|| format!("{} is no text", file.display()))?;
    let mut all: BTreeSet<&str> = known.lines().collect();
    all.extend(names.iter().map(String::as_str));
    let text: String = all.iter().map(|name| format!("{name}\n")).collect();
    files::write_if_changed(file, text.as_bytes(), 0o644)?;
    Ok(())
}

async fn list(flags: List) -> anyhow::Result<()> {
    let (_, cri) = connect(&flags.data).await?;
    let mut rows: Vec<(String, String, u64)> = Vec::new();
    for image in cri.list_images().await? {
        let id: String = image.id.trim_start_matches("sha256:").chars().take(12).collect();
        let names = if image.tags.is_empty() { image.digests } else { image.tags };
        rows.extend(names.into_iter().map(|name| (name, id.clone(), image.size_bytes)));
    }
    rows.sort();
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0).max("IMAGE".len());
    println!("{:<width$}  {:<12}  {:>9}", "IMAGE", "ID", "SIZE");
    for (name, id, bytes) in rows {
        println!("{name:<width$}  {id:<12}  {:>9}", size(bytes));
    }
    Ok(())
}

fn size(bytes: u64) -> String {
    match bytes {
        0..=1023 => format!("{bytes} B"),
        1024..=1_048_575 => format!("{} KiB", bytes >> 10),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

async fn connect(data: &DataFlags) -> anyhow::Result<(PathBuf, Cri)> {
    let layout = data.layout()?;
    let endpoint = Settings::load(&layout)?.and_then(|settings| settings.runtime_endpoint);
    let socket = endpoint.map_or_else(|| layout.containerd_socket(), |endpoint| socket_of(&endpoint));
    let cri = Cri::connect(&socket).await.context("is the cluster up?")?;
    Ok((socket, cri))
}
