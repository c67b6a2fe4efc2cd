//! Carries image garbage collection out: every five minutes by the disk's thresholds, and for the eviction manager when
//! the node is short of disk.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use client::{Clock, EventType};
use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::{
    cri::{Runtime, RuntimeError},
    images::gc::{Disk, GcPlan, ImageGcPolicy, Ledger, Need, observe, plan},
    stats::file_system,
    worker::Node,
};

/// Upstream's ImageGCPeriod.
const EVERY: Duration = Duration::from_secs(300);

#[derive(Debug, thiserror::Error)]
pub enum ImageGcError {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("failed to get the image file system's usage: {0}")]
    Disk(String),
    #[error("cannot read which images are to be kept, so none is removed: {}: {source}", path.display())]
    Kept { path: PathBuf, source: std::io::Error },
    #[error("invalid capacity 0 on image filesystem")]
    NoCapacity,
    #[error("wanted to free {wanted} bytes, but freed {freed} bytes space with errors in image deletion: {errors}")]
    Removal { wanted: u64, freed: u64, errors: String },
    #[error(
        "Insufficient free disk space on the node's image filesystem ({usage_percent}% of {capacity} used). Failed to free sufficient space by deleting unused images (freed {freed} bytes). Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
    )]
    NotEnough { usage_percent: u64, capacity: String, freed: u64 },
}

/// Images that stay whatever the disk says.
#[derive(Clone, Debug, Default)]
pub struct KeptImages {
    /// Beginnings of names.
    pub names: Vec<String>,
    /// A file with further ones, one per line, that may grow while the kubelet runs: images that were imported from
    /// archives can be pulled from nowhere.
    pub file: Option<PathBuf>,
}

impl KeptImages {
    async fn read(&self) -> Result<Vec<String>, ImageGcError> {
        let mut names = self.names.clone();
        if let Some(path) = &self.file {
            match tokio::fs::read_to_string(path).await {
                Ok(text) => names.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(ImageGcError::Kept { path: path.clone(), source }),
            }
        }
        Ok(names)
    }
}

/// The images of a node with the time they were last used. One per kubelet.
pub struct ImageCollector {
    runtime: Arc<dyn Runtime>,
    clock: Arc<dyn Clock>,
    policy: ImageGcPolicy,
    kept: KeptImages,
    since: Timestamp,
    ledger: Mutex<Ledger>,
}

impl ImageCollector {
    pub fn new(
        runtime: Arc<dyn Runtime>,
        clock: Arc<dyn Clock>,
        policy: ImageGcPolicy,
        kept: KeptImages,
    ) -> ImageCollector {
        ImageCollector { since: clock.now(), runtime, clock, policy, kept, ledger: Mutex::default() }
    }

    /// Removes what the thresholds ask for.
    pub async fn collect(&self) -> Result<(), ImageGcError> {
        let mut ledger = self.ledger.lock().await;
        self.observe(&mut ledger).await?;
        let disk = self.disk().await?;
        if disk.capacity_bytes == 0 {
            return Err(ImageGcError::NoCapacity);
        }
        let plan = plan(&ledger, Need::Thresholds(disk), &self.policy, self.since, self.clock.now());
        let freed = self.carry_out(&mut ledger, &plan).await?;
        if freed < plan.bytes {
            let capacity = size(disk.capacity_bytes);
            return Err(ImageGcError::NotEnough { usage_percent: plan.usage_percent, capacity, freed });
        }
        Ok(())
    }

    /// Removes every image that is not in use (`DeleteUnusedImages`).
    pub async fn remove_unused(&self) -> Result<(), ImageGcError> {
        let mut ledger = self.ledger.lock().await;
        self.observe(&mut ledger).await?;
        let plan = plan(&ledger, Need::Everything, &self.policy, self.since, self.clock.now());
        self.carry_out(&mut ledger, &plan).await.map(drop)
    }

    async fn observe(&self, ledger: &mut Ledger) -> Result<(), ImageGcError> {
        // Containers last: what is created meanwhile has its image in use.
        let images = self.runtime.list_images().await?;
        let containers = self.runtime.list_containers().await?;
        observe(ledger, &images, &containers, &self.kept.read().await?, self.clock.now());
        Ok(())
    }

    async fn disk(&self) -> Result<Disk, ImageGcError> {
        let usage = self.runtime.image_fs_info().await?.into_iter().next();
        let path = usage.and_then(|usage| usage.fs_id).map(|id| id.mountpoint);
        let path = path.ok_or_else(|| ImageGcError::Disk("the runtime names none".into()))?;
        let fs = file_system(Path::new(&path)).map_err(|error| ImageGcError::Disk(error.to_string()))?;
        Ok(Disk { capacity_bytes: fs.capacity_bytes, available_bytes: fs.available_bytes })
    }

    /// Gives back the bytes that were freed for space.
    async fn carry_out(&self, ledger: &mut Ledger, plan: &GcPlan) -> Result<u64, ImageGcError> {
        let (mut freed, mut errors) = (0_u64, Vec::new());
        let old = plan.too_old.iter().map(|id| (id, None));
        let space = plan.space.iter().map(|(id, bytes)| (id, Some(*bytes)));
        for (id, bytes) in old.chain(space) {
            if bytes.is_some() && freed >= plan.bytes {
                break;
            }
            tracing::info!(image = id, bytes, "removing an unused image");
            match self.runtime.remove_image(id).await {
                Ok(()) => {
                    ledger.remove(id);
                    freed = freed.saturating_add(bytes.unwrap_or(0));
                }
                Err(error) => errors.push(error.to_string()),
            }
        }
        if errors.is_empty() {
            return Ok(freed);
        }
        Err(ImageGcError::Removal { wanted: plan.bytes, freed, errors: errors.join(", ") })
    }
}

/// Runs until it is dropped.
pub async fn run(node: Arc<Node>, collector: Arc<ImageCollector>) {
    let mut failed_before = false;
    loop {
        let result = collector.collect().await;
        if let Err(error) = &result {
            tracing::warn!(%error, "image garbage collection failed");
            let reason = match error {
                ImageGcError::NoCapacity => Some("InvalidDiskCapacity"),
                ImageGcError::NotEnough { .. } => Some("FreeDiskSpaceFailed"),
                _ => None,
            };
            if let Some(reason) = reason {
                node.node_event(EventType::Warning, reason, error.to_string());
            }
            // As upstream, which does not speak of a single failure: the first one often has to do with the start.
            if failed_before {
                node.node_event(EventType::Warning, "ImageGCFailed", error.to_string());
            }
        }
        failed_before = result.is_err();
        tokio::time::sleep(EVERY).await;
    }
}

/// A size as people read it.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut unit = None;
    for name in units {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = Some(name);
    }
    unit.map_or_else(|| format!("{bytes} B"), |unit| format!("{amount:.1} {unit}"))
}
