//! Puts the summary together.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use client::{Kind, kinds::core::v1::Pod};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;
use volumes::{Layout, layout::Plugin};

use super::{
    files::{DiskUsage, disk_usage, file_system},
    parts::{add, empty_fs, interfaces, memory_stats, part_of, rlimit, started_at, whole},
    rates::Rates,
    summary::{
        ContainerStats, CpuStats, FsStats, MemoryStats, NetworkStats, NodeStats, PodReference, PodStats, ProcessStats,
        RuntimeStats, Summary, SwapStats, VolumeStats,
    },
};
use crate::{
    access::PodAccess,
    cgroups::{Cgroups, Usage, usage::MemInfo},
    cri::{Runtime, RuntimeError, v1},
};

/// Upstream's `volumeStatsAggPeriod`: measuring directories is dear.
const DISK_USAGE_PERIOD: Duration = Duration::from_secs(60);
const RATE_MEMORY: SignedDuration = SignedDuration::from_mins(10);

const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";
const LABEL_CONTAINER: &str = "io.kubernetes.container.name";

#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    #[error("failed to list container stats: {0}")]
    Runtime(#[from] RuntimeError),
    #[error("measuring was interrupted")]
    Interrupted,
}

pub struct StatsConfig {
    pub node_name: String,
    pub cgroups: Cgroups,
    pub runtime: Arc<dyn Runtime>,
    pub access: Arc<dyn PodAccess>,
    pub layout: Layout,
    /// When the node was booted.
    pub boot_time: Timestamp,
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

pub struct StatsCollector {
    config: StatsConfig,
    rates: Mutex<Rates>,
    disk: Mutex<HashMap<PathBuf, (DiskUsage, Instant)>>,
}

impl StatsCollector {
    pub fn new(config: StatsConfig) -> StatsCollector {
        StatsCollector { config, rates: Mutex::default(), disk: Mutex::default() }
    }

    /// The node and every pod. `brief`: CPU and memory alone (`only_cpu_and_memory`), which touches no file system.
    pub async fn summary(&self, brief: bool) -> Result<Summary, StatsError> {
        let now = (self.config.now)();
        let listed = self.config.runtime.list_container_stats().await?;
        let mut by_pod: HashMap<&str, Vec<&v1::ContainerStats>> = HashMap::new();
        for stats in &listed {
            let uid = stats.attributes.as_ref().and_then(|attributes| attributes.labels.get(LABEL_POD_UID));
            by_pod.entry(uid.map_or("", String::as_str)).or_default().push(stats);
        }
        let image_fs = if brief { None } else { self.image_fs(now).await };
        let pods = self.config.access.pods();
        let mut stats = Vec::with_capacity(pods.len());
        for pod in &pods {
            let containers = by_pod.get(pod.uid()).map(Vec::as_slice).unwrap_or_default();
            if containers.is_empty() && self.pod_usage(pod) == Usage::default() {
                continue;
            }
            stats.push(self.pod(pod, containers, image_fs, brief, now).await?);
        }
        self.disk.lock().retain(|_, (_, measured)| measured.elapsed() < DISK_USAGE_PERIOD * 2);
        if let Ok(old) = now.checked_sub(RATE_MEMORY) {
            self.rates.lock().forget_before(old);
        }
        Ok(Summary { node: self.node(image_fs, brief, now), pods: stats })
    }

    /// The node alone: a handful of files, and one question to the runtime.
    pub async fn node_summary(&self) -> NodeStats {
        let now = (self.config.now)();
        self.node(self.image_fs(now).await, false, now)
    }

    fn pod_usage(&self, pod: &Pod) -> Usage {
        self.config.cgroups.pod(pod).map(|name| self.config.cgroups.usage(&name)).unwrap_or_default()
    }

    fn node(&self, image_fs: Option<FsStats>, brief: bool, now: Timestamp) -> NodeStats {
        let usage = self.config.cgroups.usage(self.config.cgroups.node());
        let memory = MemInfo::read().unwrap_or_default();
        let kubepods = self.config.cgroups.kubepods();
        let pods = self.config.cgroups.usage(&kubepods);
        let system = ContainerStats {
            name: "pods".into(),
            start_time: self.config.boot_time,
            cpu: self.cpu(&kubepods.to_string(), pods.cpu_nanoseconds, now),
            memory: Some(memory_stats(&pods, Some(memory.total_bytes), now)),
            rootfs: None,
            logs: None,
            swap: None,
        };
        let root = file_system(self.config.layout.root()).ok().filter(|_| !brief);
        NodeStats {
            node_name: self.config.node_name.clone(),
            system_containers: vec![system],
            start_time: self.config.boot_time,
            cpu: self.cpu("/", usage.cpu_nanoseconds, now),
            memory: Some(memory_stats(&usage, Some(memory.total_bytes), now)),
            network: if brief { None } else { interfaces(Path::new("/proc/1/net"), now) },
            fs: root.map(|fs| whole(&fs, now)),
            runtime: image_fs.map(|fs| RuntimeStats { image_fs: Some(fs), container_fs: Some(fs) }),
            rlimit: if brief { None } else { rlimit(now) },
            swap: Some(SwapStats {
                time: now,
                swap_available_bytes: Some(memory.swap_free_bytes),
                swap_usage_bytes: Some(memory.swap_total_bytes.saturating_sub(memory.swap_free_bytes)),
            }),
        }
    }

    async fn pod(
        &self,
        pod: &Arc<Pod>,
        listed: &[&v1::ContainerStats],
        image_fs: Option<FsStats>,
        brief: bool,
        now: Timestamp,
    ) -> Result<PodStats, StatsError> {
        let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map_or(now, |time| time.0);
        let usage = self.pod_usage(pod);
        let mut containers: Vec<ContainerStats> =
            listed.iter().filter_map(|stats| self.container(pod, stats, image_fs, started, now)).collect();
        let (mut volumes, mut storage) = (Vec::new(), None);
        if !brief {
            let mut total = DiskUsage::default();
            for container in &mut containers {
                container.logs = self.logs(pod, &container.name, now).await?;
                for part in [&container.logs, &container.rootfs].into_iter().flatten() {
                    add(&mut total, part);
                }
            }
            for (volume, is_disk) in self.volumes(pod, now).await? {
                if is_disk {
                    add(&mut total, &volume.fs);
                }
                volumes.push(volume);
            }
            storage = file_system(self.config.layout.root()).ok().map(|fs| part_of(&fs, &total, now));
        }
        let host_network = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        Ok(PodStats {
            pod_ref: PodReference { name: pod.name().into(), namespace: pod.namespace().into(), uid: pod.uid().into() },
            start_time: started,
            containers,
            cpu: self.cpu(pod.uid(), usage.cpu_nanoseconds, now),
            memory: Some(memory_stats(&usage, usage.memory_limit_bytes, now)),
            network: if brief || host_network { None } else { self.pod_network(pod, now) },
            volumes,
            ephemeral_storage: storage,
            process_stats: Some(ProcessStats { process_count: usage.processes }),
            swap: usage.swap_bytes.map(|bytes| SwapStats {
                time: now,
                swap_available_bytes: None,
                swap_usage_bytes: Some(bytes),
            }),
        })
    }

    fn container(
        &self,
        pod: &Pod,
        stats: &v1::ContainerStats,
        image_fs: Option<FsStats>,
        pod_started: Timestamp,
        now: Timestamp,
    ) -> Option<ContainerStats> {
        let attributes = stats.attributes.as_ref()?;
        let name = attributes.labels.get(LABEL_CONTAINER)?;
        let total = stats.cpu.as_ref().and_then(|cpu| cpu.usage_core_nano_seconds.as_ref()).map(|v| v.value);
        let value = |field: Option<&v1::UInt64Value>| field.map(|value| value.value);
        let memory = stats.memory.as_ref().map(|memory| MemoryStats {
            time: now,
            available_bytes: value(memory.available_bytes.as_ref()),
            usage_bytes: value(memory.usage_bytes.as_ref()),
            working_set_bytes: value(memory.working_set_bytes.as_ref()),
            rss_bytes: value(memory.rss_bytes.as_ref()),
            page_faults: value(memory.page_faults.as_ref()),
            major_page_faults: value(memory.major_page_faults.as_ref()),
        });
        let rootfs = stats.writable_layer.as_ref().map(|layer| FsStats {
            used_bytes: value(layer.used_bytes.as_ref()),
            inodes_used: value(layer.inodes_used.as_ref()),
            ..image_fs.unwrap_or(empty_fs(now))
        });
        Some(ContainerStats {
            name: name.clone(),
            start_time: started_at(pod, name).unwrap_or(pod_started),
            cpu: self.cpu(&attributes.id, total, now),
            memory,
            rootfs,
            logs: None,
            swap: stats.swap.as_ref().map(|swap| SwapStats {
                time: now,
                swap_available_bytes: value(swap.swap_available_bytes.as_ref()),
                swap_usage_bytes: value(swap.swap_usage_bytes.as_ref()),
            }),
        })
    }

    fn cpu(&self, key: &str, total: Option<u64>, now: Timestamp) -> Option<CpuStats> {
        let total = total?;
        let usage_nano_cores = self.rates.lock().observe(key, total, now);
        Some(CpuStats { time: now, usage_nano_cores, usage_core_nano_seconds: Some(total) })
    }

    /// Where images and writable layers lie.
    async fn image_fs(&self, now: Timestamp) -> Option<FsStats> {
        let usage = self.config.runtime.image_fs_info().await.ok()?.into_iter().next()?;
        let mount = usage.fs_id.as_ref().map(|id| PathBuf::from(&id.mountpoint))?;
        let fs = file_system(&mount).ok()?;
        Some(FsStats {
            used_bytes: usage.used_bytes.as_ref().map(|value| value.value),
            inodes_used: usage.inodes_used.as_ref().map(|value| value.value),
            ..whole(&fs, now)
        })
    }

    fn pod_network(&self, pod: &Pod, now: Timestamp) -> Option<NetworkStats> {
        let name = self.config.cgroups.pod(pod).ok()?;
        let process = crate::cgroups::usage::any_process(self.config.cgroups.hierarchy(), &name)?;
        interfaces(&PathBuf::from(format!("/proc/{process}/net")), now)
    }

    async fn logs(&self, pod: &Pod, container: &str, now: Timestamp) -> Result<Option<FsStats>, StatsError> {
        let Ok(handle) = self.config.access.container(pod, container, false) else {
            return Ok(None);
        };
        let Some(dir) = handle.log_path.parent().map(Path::to_owned) else {
            return Ok(None);
        };
        let Ok(fs) = file_system(&dir) else {
            return Ok(None);
        };
        Ok(self.measure(dir).await?.map(|usage| part_of(&fs, &usage, now)))
    }

    /// Volumes the kubelet keeps for the pod, and whether they lie on the node's disk.
    async fn volumes(&self, pod: &Pod, now: Timestamp) -> Result<Vec<(VolumeStats, bool)>, StatsError> {
        let spec = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let mut found = Vec::new();
        for volume in spec {
            let plugin = match volume {
                v if v.config_map.is_some() => Plugin::ConfigMap,
                v if v.secret.is_some() => Plugin::Secret,
                v if v.downward_api.is_some() => Plugin::DownwardApi,
                v if v.projected.is_some() => Plugin::Projected,
                v if v.empty_dir.is_some() => Plugin::EmptyDir,
                _ => continue,
            };
            let Ok(dir) = self.config.layout.volume(pod.uid(), plugin, &volume.name) else {
                continue;
            };
            let (Ok(fs), Ok(root)) = (file_system(&dir), file_system(self.config.layout.root())) else {
                continue;
            };
            let is_disk = fs.device == root.device;
            let stats = match is_disk {
                true => self.measure(dir).await?.map(|usage| part_of(&fs, &usage, now)),
                false => Some(whole(&fs, now)),
            };
            found.extend(stats.map(|fs| (VolumeStats { fs, name: volume.name.clone() }, is_disk)));
        }
        Ok(found)
    }

    /// What a directory takes, measured at most once a minute. `None` where it is gone.
    async fn measure(&self, dir: PathBuf) -> Result<Option<DiskUsage>, StatsError> {
        let known = self.disk.lock().get(&dir).copied();
        if let Some((usage, _)) = known.filter(|(_, measured)| measured.elapsed() < DISK_USAGE_PERIOD) {
            return Ok(Some(usage));
        }
        let path = dir.clone();
        let measured = tokio::task::spawn_blocking(move || disk_usage(&path)).await;
        let usage = measured.map_err(|_| StatsError::Interrupted)?.ok();
        if let Some(usage) = usage {
            self.disk.lock().insert(dir, (usage, Instant::now()));
        }
        Ok(usage)
    }
}
