//! Evicts pods before the node runs out of memory, disk or process ids, and pods that outgrow their own storage limits
//! (upstream `pkg/kubelet/eviction`). Observed here, decided in [`plan`], [`rank`] and [`local`].

pub mod config;
pub mod local;
pub mod plan;
pub mod rank;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use api::quantity::{Format, Quantity};
use client::{EventType, Kind, kinds::core::v1::Pod};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::{
    housekeeping::images::ImageCollector,
    manager::PodTable,
    plan::Verdict,
    stats::{StatsCollector, StatsError, file_system, summary::NodeStats},
    worker::{Node, Signal as ToWorker},
};
use config::{EvictionConfig, Signal};
use plan::{Condition, Observation, Observations, Reclaim, State};
use rank::Usage;

/// The reason in the status of evicted pods.
pub const REASON: &str = "Evicted";
/// Upstream's evictionMonitoringPeriod.
const EVERY: Duration = Duration::from_secs(10);
/// How long an eviction may take before the next round looks again (podCleanupTimeout).
const CLEAN_UP: Duration = Duration::from_secs(30);
/// Upstream's immediateEvictionGracePeriodSeconds.
const IMMEDIATE_SECONDS: i64 = 1;

/// The node's pressure conditions, shared with node status and admission. Cheap to clone.
#[derive(Clone)]
pub struct Pressure {
    conditions: Arc<watch::Sender<BTreeSet<Condition>>>,
}

impl Default for Pressure {
    fn default() -> Pressure {
        Pressure { conditions: Arc::new(watch::Sender::default()) }
    }
}

impl Pressure {
    pub fn conditions(&self) -> BTreeSet<Condition> {
        self.conditions.borrow().clone()
    }

    pub fn has(&self, condition: Condition) -> bool {
        self.conditions.borrow().contains(&condition)
    }

    /// Sees every change from now on.
    pub fn watch(&self) -> watch::Receiver<BTreeSet<Condition>> {
        self.conditions.subscribe()
    }

    pub fn set(&self, conditions: BTreeSet<Condition>) {
        self.conditions.send_if_modified(|known| {
            let changed = *known != conditions;
            *known = conditions;
            changed
        });
    }
}

/// One per kubelet.
pub struct EvictionManager {
    pub node: Arc<Node>,
    pub table: PodTable,
    pub stats: Arc<StatsCollector>,
    pub images: Arc<ImageCollector>,
    pub config: EvictionConfig,
    pub pressure: Pressure,
    /// The kubelet's directory, which lies on the node's file system.
    pub root: PathBuf,
    pub state: RwLock<State>,
}

impl EvictionManager {
    /// Runs until it is dropped.
    pub async fn run(self) {
        loop {
            match self.round().await {
                Ok(evicted) if !evicted.is_empty() => self.wait_for(&evicted).await,
                Ok(_) => tokio::time::sleep(EVERY).await,
                Err(error) => {
                    tracing::warn!(%error, "cannot look for node pressure");
                    tokio::time::sleep(EVERY).await;
                }
            }
        }
    }

    /// Gives back the UIDs of the pods that were evicted.
    async fn round(&self) -> Result<Vec<String>, StatsError> {
        let node = self.stats.node_summary().await;
        let observations = observe(&node);
        let plan = {
            let mut state = self.state.write();
            plan::plan(&self.config, &mut state, &observations, self.node.clock.now())
        };
        self.pressure.set(plan.conditions);
        let pods = self.active_pods();
        // Measuring pods costs more than the node does: only where it decides something.
        let limited = pods.iter().any(|pod| local::is_limited(pod));
        if plan.reclaim.is_none() && !limited {
            return Ok(Vec::new());
        }
        let summary = self.stats.summary(false).await?;
        let usage: Usage = summary.pods.into_iter().map(|stats| (stats.pod_ref.uid.clone(), stats)).collect();
        let dedicated = self.dedicated_image_fs(&node);
        let mut evicted = Vec::new();
        for pod in &pods {
            let Some(stats) = usage.get(pod.uid()) else { continue };
            if let Some(message) = local::exceeded(pod, stats, dedicated)
                && self.evict(pod, IMMEDIATE_SECONDS, message, false)
            {
                evicted.push(pod.uid().to_owned());
            }
        }
        match plan.reclaim {
            Some(reclaim) if evicted.is_empty() => {
                Ok(self.reclaim(&reclaim, &observations, &pods, &usage, dedicated).await)
            }
            _ => Ok(evicted),
        }
    }

    async fn reclaim(
        &self,
        reclaim: &Reclaim,
        observations: &Observations,
        pods: &[Arc<Pod>],
        usage: &Usage,
        dedicated_image_fs: bool,
    ) -> Vec<String> {
        let signal = reclaim.threshold.signal;
        let text = format!("Attempting to reclaim {}", signal.resource());
        tracing::warn!(%signal, "the node is short of {}", signal.resource());
        self.node.node_event(EventType::Warning, "EvictionThresholdMet", text);
        if self.reclaim_images(signal, dedicated_image_fs).await {
            return Vec::new();
        }
        for pod in rank::rank(pods, usage, signal, dedicated_image_fs) {
            let own = crate::plan::spec::grace_seconds(&pod);
            let grace = match reclaim.threshold.is_hard() {
                true => IMMEDIATE_SECONDS,
                false => self.config.max_pod_grace_seconds.min(own),
            };
            let message = rank::message(&pod, usage, reclaim, observations);
            if self.evict(&pod, grace, message, true) {
                return vec![pod.uid().to_owned()];
            }
        }
        tracing::warn!(%signal, "there is no pod to evict");
        Vec::new()
    }

    /// Removes what nobody uses; true where that was enough. (Containers of the past are removed as soon as they may be.)
    async fn reclaim_images(&self, signal: Signal, dedicated_image_fs: bool) -> bool {
        let on_image_fs = matches!(signal, Signal::ImageFsAvailable | Signal::ImageFsInodesFree) || !dedicated_image_fs;
        if !signal.is_disk() || !on_image_fs {
            return false;
        }
        if let Err(error) = self.images.remove_unused().await {
            tracing::warn!(%error, "cannot remove unused images");
        }
        let observations = observe(&self.stats.node_summary().await);
        plan::met(&self.config.thresholds, &observations, true).is_empty()
    }

    /// False for pods that are not evicted whatever happens.
    fn evict(&self, pod: &Pod, grace_seconds: i64, message: String, disruption: bool) -> bool {
        if rank::is_critical(pod) {
            tracing::warn!(pod = pod.name(), namespace = pod.namespace(), "cannot evict a critical pod");
            return false;
        }
        tracing::warn!(pod = pod.name(), namespace = pod.namespace(), message, "evicting");
        self.node.event(pod, None, EventType::Warning, REASON, message.clone());
        let verdict = Verdict { reason: REASON.to_owned(), message, grace_seconds: Some(grace_seconds), disruption };
        self.table.tell(pod.uid(), ToWorker::Verdict(verdict))
    }

    /// Pods that have not ended and are not about to.
    fn active_pods(&self) -> Vec<Arc<Pod>> {
        let views = self.table.views().into_iter().filter(|view| !view.over).map(|view| view.pod);
        views
            .filter(|pod| {
                let status = pod.status.as_ref();
                let ended = matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
                let evicted = status.and_then(|status| status.reason.as_deref()) == Some(REASON);
                !ended && !evicted && pod.metadata.deletion_timestamp.is_none()
            })
            .collect()
    }

    async fn wait_for(&self, evicted: &[String]) {
        let gone = async {
            while self.table.views().iter().any(|view| {
                let failed = view.pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed");
                evicted.iter().any(|uid| uid == view.pod.uid()) && !view.over && !failed
            }) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        if tokio::time::timeout(CLEAN_UP, gone).await.is_err() {
            tracing::warn!(pods = ?evicted, "timed out waiting for evicted pods to end");
        }
    }

    /// Whether images lie on a file system of their own.
    fn dedicated_image_fs(&self, node: &NodeStats) -> bool {
        let image = node.runtime.as_ref().and_then(|runtime| runtime.image_fs);
        let root = file_system(Path::new(&self.root)).ok();
        let same = |image: crate::stats::summary::FsStats, root: crate::stats::FileSystem| {
            image.capacity_bytes == Some(root.capacity_bytes) && image.inodes == Some(root.inodes)
        };
        image.zip(root).is_some_and(|(image, root)| !same(image, root))
    }
}

/// The node's statistics as signals.
fn observe(node: &NodeStats) -> Observations {
    let quantity = |value: u64, format| Quantity::new(i64::try_from(value).unwrap_or(i64::MAX), format);
    let mut observations = Observations::new();
    let mut add = |signal, available: Option<u64>, capacity: Option<u64>, format| {
        if let Some((available, capacity)) = available.zip(capacity) {
            let (available, capacity) = (quantity(available, format), quantity(capacity, format));
            observations.insert(signal, Observation { available, capacity });
        }
    };
    if let Some(memory) = &node.memory {
        let capacity = memory.available_bytes.zip(memory.working_set_bytes).map(|(free, used)| free + used);
        add(Signal::MemoryAvailable, memory.available_bytes, capacity, Format::BinarySI);
    }
    if let Some(fs) = &node.fs {
        add(Signal::NodeFsAvailable, fs.available_bytes, fs.capacity_bytes, Format::BinarySI);
        // File systems without a fixed number of inodes say that they have none.
        add(Signal::NodeFsInodesFree, fs.inodes_free, fs.inodes.filter(|all| *all > 0), Format::DecimalSI);
    }
    if let Some(fs) = node.runtime.as_ref().and_then(|runtime| runtime.image_fs.as_ref()) {
        add(Signal::ImageFsAvailable, fs.available_bytes, fs.capacity_bytes, Format::BinarySI);
        add(Signal::ImageFsInodesFree, fs.inodes_free, fs.inodes.filter(|all| *all > 0), Format::DecimalSI);
    }
    if let Some(limit) = &node.rlimit {
        let available = limit.maxpid.zip(limit.curproc).map(|(most, now)| most.saturating_sub(now));
        add(Signal::PidAvailable, available, limit.maxpid, Format::DecimalSI);
    }
    observations
}
