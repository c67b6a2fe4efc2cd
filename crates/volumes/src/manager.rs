//! The volumes of all pods of this node: collect, observe, plan, execute.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};
use parking_lot::Mutex;

use crate::{
    Cause, Layout, Mounter, ObjectSource, VolumeError,
    collect::{Collector, is_refreshed},
    execute,
    plan::{NodeLimits, Plan, plan_pod},
    resources::amount,
    subpath,
    tokens::TokenCache,
};

/// What a [`VolumeManager`] is made of. `now` is the only clock it knows.
#[derive(Clone)]
pub struct VolumeConfig {
    pub layout: Layout,
    pub source: Arc<dyn ObjectSource>,
    pub mounter: Arc<dyn Mounter>,
    /// Whether memory volumes can be kept out of swap here ([`crate::KernelMounter::supports_no_swap`]).
    pub tmpfs_no_swap: bool,
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// Where a pod's volumes are on this node, by their names in the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodMounts {
    pub volumes: BTreeMap<String, MountedVolume>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedVolume {
    pub host_path: PathBuf,
    /// The volume itself is read-only, whatever a container's mount says.
    pub read_only: bool,
}

/// One volume mount with a subPath.
#[derive(Clone, Copy, Debug)]
pub struct SubPath<'a> {
    pub pod_uid: &'a str,
    pub container: &'a str,
    /// The mount's place in the container's `volumeMounts`.
    pub index: usize,
    /// The volume's name in the pod.
    pub volume: &'a str,
    /// `subPath`, or `subPathExpr` expanded.
    pub sub_path: &'a str,
}

/// Methods may be called for different pods at the same time; for one pod they wait for each other.
pub struct VolumeManager {
    config: VolumeConfig,
    tokens: TokenCache,
    pods: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl VolumeManager {
    pub fn new(config: VolumeConfig) -> VolumeManager {
        VolumeManager { config, tokens: TokenCache::default(), pods: Mutex::default() }
    }

    pub fn layout(&self) -> &Layout {
        &self.config.layout
    }

    /// Brings all volumes of a pod into place. What is there already stays as it is, but for content that changed.
    pub async fn set_up(&self, pod: &Pod) -> Result<PodMounts, VolumeError> {
        self.apply(pod, |_| true).await
    }

    /// Renders again what comes from the API: config maps, secrets, tokens before they expire, labels and annotations.
    /// Call it when one of them changed, and every minute or so for tokens.
    pub async fn refresh(&self, pod: &Pod) -> Result<(), VolumeError> {
        self.apply(pod, is_refreshed).await.map(drop)
    }

    async fn apply(&self, pod: &Pod, wanted: fn(&Volume) -> bool) -> Result<PodMounts, VolumeError> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let lock = self.lock_of(&uid);
        let _alone = lock.lock().await;
        let now = (self.config.now)();
        let collector = Collector { source: &*self.config.source, tokens: &self.tokens, now };
        let (resolved, mut errors) = collector.pod(pod, wanted).await;
        if resolved.is_empty() && errors.is_empty() {
            return Ok(PodMounts::default());
        }
        let node = self.node_limits();
        let (layout, mounter, pod) = (self.config.layout.clone(), self.config.mounter.clone(), pod.clone());
        let work = move || -> Result<(Plan, Vec<VolumeError>), VolumeError> {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            let observed = execute::observe(&layout, &*mounter, uid).map_err(|cause| VolumeError::pod(uid, cause))?;
            let (plan, mut errors) = plan_pod(&layout, &pod, &resolved, &observed, &node);
            errors.extend(execute::execute(&plan, &*mounter, now));
            Ok((plan, errors))
        };
        let (plan, failed) = blocking(&uid, work).await??;
        errors.extend(failed);
        if let Some(error) = VolumeError::join(errors) {
            return Err(error);
        }
        let mounted =
            |v: crate::plan::VolumePlan| (v.volume, MountedVolume { host_path: v.host_path, read_only: v.read_only });
        Ok(PodMounts { volumes: plan.volumes.into_iter().map(mounted).collect() })
    }

    fn node_limits(&self) -> NodeLimits {
        let allocatable = self.config.source.node_allocatable();
        let memory = allocatable.get("memory").map(amount).filter(|memory| !memory.is_zero());
        NodeLimits { allocatable_memory: memory, tmpfs_no_swap: self.config.tmpfs_no_swap }
    }

    /// Binds a subPath of a volume that is set up; answers what the container mounts instead of the volume.
    pub async fn sub_path(&self, mounts: &PodMounts, request: SubPath<'_>) -> Result<PathBuf, VolumeError> {
        let failed = |cause: Cause| VolumeError::SubPath {
            volume: request.volume.to_owned(),
            container: request.container.to_owned(),
            cause,
        };
        let Some(volume) = mounts.volumes.get(request.volume) else {
            return Err(failed(Cause::NoVolume(request.volume.to_owned())));
        };
        let target = self
            .config
            .layout
            .sub_path(request.pod_uid, request.volume, request.container, request.index)
            .map_err(failed)?;
        let lock = self.lock_of(request.pod_uid);
        let _alone = lock.lock().await;
        let mounter = self.config.mounter.clone();
        let (host_path, sub_path, to) = (volume.host_path.clone(), request.sub_path.to_owned(), target.clone());
        blocking(request.pod_uid, move || subpath::bind(&*mounter, &host_path, &sub_path, &to))
            .await?
            .map_err(failed)?;
        Ok(target)
    }

    /// Unmounts and removes a pod's volumes. To be called once no container of it runs; safe to repeat.
    pub async fn tear_down(&self, uid: &str) -> Result<(), VolumeError> {
        let lock = self.lock_of(uid);
        let alone = lock.lock().await;
        let (layout, mounter, owned) = (self.config.layout.clone(), self.config.mounter.clone(), uid.to_owned());
        blocking(uid, move || execute::tear_down(&layout, &*mounter, &owned)).await??;
        self.tokens.forget_pod(uid);
        drop(alone);
        self.pods.lock().retain(|pod, lock| pod != uid || Arc::strong_count(lock) > 2);
        Ok(())
    }

    /// Removes what else the pod's directory holds (container directories, etc-hosts). Refused while volumes are left.
    pub async fn remove_pod(&self, uid: &str) -> Result<(), VolumeError> {
        let (layout, mounter, owned) = (self.config.layout.clone(), self.config.mounter.clone(), uid.to_owned());
        blocking(uid, move || execute::remove_pod(&layout, &*mounter, &owned)).await?
    }

    /// The UIDs of all pods that have a directory here.
    pub async fn pods_on_disk(&self) -> Result<Vec<String>, VolumeError> {
        let pods = self.config.layout.pods();
        blocking("", move || execute::names(&pods)).await?.map_err(|cause| VolumeError::pod("", cause))
    }

    fn lock_of(&self, uid: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.pods.lock().entry(uid.to_owned()).or_default().clone()
    }
}

async fn blocking<T: Send + 'static>(pod: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T, VolumeError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| VolumeError::pod(pod, Cause::Interrupted))
}
