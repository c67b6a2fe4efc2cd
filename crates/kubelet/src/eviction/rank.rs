//! Which pod goes first, and what it is told (upstream `pkg/kubelet/eviction/helpers.go: rank*Pressure, evictionMessage`).
//! Pure.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use api::quantity::{Format, Quantity};
use client::{Kind, kinds::core::v1::Pod};
use volumes::resources::{amount, pod_requests};

use super::{
    config::Signal,
    plan::{Observations, Reclaim},
};
use crate::{
    plan::spec,
    stats::summary::{ContainerStats, FsStats, PodStats},
};

/// Pods' usage by UID.
pub type Usage = HashMap<String, PodStats>;

/// `IsCriticalPod`: static pods (which nobody would make again) and pods of a system priority class.
pub fn is_critical(pod: &Pod) -> bool {
    const SYSTEM: i32 = 2_000_000_000;
    spec::is_static(pod) || spec::is_mirror(pod) || priority(pod) >= SYSTEM
}

fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

/// What of a pod counts on a file system.
#[derive(Clone, Copy)]
struct Parts {
    root: bool,
    logs_and_volumes: bool,
}

impl Parts {
    /// Where images have a file system of their own, writable layers lie on that one, logs and volumes on the node's.
    fn of(signal: Signal, dedicated_image_fs: bool) -> Parts {
        let image = matches!(signal, Signal::ImageFsAvailable | Signal::ImageFsInodesFree);
        Parts { root: !dedicated_image_fs || image, logs_and_volumes: !dedicated_image_fs || !image }
    }
}

/// The pods, first to be evicted first.
pub fn rank(pods: &[Arc<Pod>], usage: &Usage, signal: Signal, dedicated_image_fs: bool) -> Vec<Arc<Pod>> {
    let mut ranked = pods.to_vec();
    ranked.sort_by_cached_key(|pod| {
        let stats = usage.get(pod.uid());
        let used = stats.map(|stats| used(pod, stats, signal, Parts::of(signal, dedicated_image_fs)));
        let requests = pod_requests(pod);
        let request = |resource: &str| requests.get(resource).map_or(0, |quantity| quantity.value());
        let (exceeds, over) = match (signal, used) {
            // PIDs cannot be asked for: nobody exceeds anything.
            (Signal::PidAvailable, used) => (true, used.unwrap_or(0)),
            (_, None) => (true, 0),
            (signal, Some(used)) => (used > request(signal.resource()), used - request(amount_resource(signal))),
        };
        // A pod of which nothing is known goes before all others.
        let unknown = used.is_none() && signal != Signal::PidAvailable;
        (Reverse(unknown), Reverse(exceeds), priority(pod), Reverse(over))
    });
    ranked
}

/// As upstream, which measures inodes against the request for storage.
fn amount_resource(signal: Signal) -> &'static str {
    if signal.is_disk() { "ephemeral-storage" } else { signal.resource() }
}

fn used(pod: &Pod, stats: &PodStats, signal: Signal, parts: Parts) -> i64 {
    let inodes = matches!(signal, Signal::NodeFsInodesFree | Signal::ImageFsInodesFree);
    let of = |fs: &FsStats| if inodes { fs.inodes_used } else { fs.used_bytes };
    let total: u64 = match signal {
        Signal::MemoryAvailable => stats.memory.as_ref().and_then(|memory| memory.working_set_bytes).unwrap_or(0),
        Signal::PidAvailable => stats.process_stats.as_ref().and_then(|stats| stats.process_count).unwrap_or(0),
        _ => {
            let roots = stats.containers.iter().filter(|_| parts.root).filter_map(|stats| stats.rootfs.as_ref());
            let logs =
                stats.containers.iter().filter(|_| parts.logs_and_volumes).filter_map(|stats| stats.logs.as_ref());
            let local = stats.volumes.iter().filter(|volume| parts.logs_and_volumes && is_local(pod, &volume.name));
            roots.chain(logs).chain(local.map(|volume| &volume.fs)).filter_map(of).sum()
        }
    };
    i64::try_from(total).unwrap_or(i64::MAX)
}

/// Whether a volume lies on the node's disk and is counted as the pod's.
fn is_local(pod: &Pod, name: &str) -> bool {
    let mut volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.find(|volume| volume.name == name).is_some_and(|volume| {
        let disk = |medium: &Option<String>| medium.as_deref().unwrap_or_default().is_empty();
        volume.config_map.is_some() || volume.empty_dir.as_ref().is_some_and(|dir| disk(&dir.medium))
    })
}

/// Why the pod has to go, in upstream's words.
pub fn message(pod: &Pod, usage: &Usage, reclaim: &Reclaim, observations: &Observations) -> String {
    let resource = reclaim.threshold.signal.resource();
    let mut text = format!("The node was low on resource: {resource}. ");
    let of_resource = reclaim.met.iter().filter(|threshold| threshold.signal.resource() == resource);
    let known = of_resource.filter_map(|threshold| Some((threshold, observations.get(&threshold.signal)?))).next();
    if let Some((threshold, observed)) = known {
        let quantity = threshold.value.of(observed.capacity);
        text += &format!("Threshold quantity: {quantity}, available: {}. ", observed.available);
    }
    let Some(stats) = usage.get(pod.uid()) else { return text };
    let plain = spec::regular_containers(pod).iter().chain(spec::init_containers(pod));
    for container in plain {
        let Some(stats) = stats.containers.iter().find(|stats| stats.name == container.name) else { continue };
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let request = requests.and_then(|requests| requests.get(resource)).map(amount).unwrap_or_default();
        let Some(used) = container_usage(stats, resource).filter(|used| *used > request) else { continue };
        text += &format!(
            "Container {} was using {used}, request is {request}, has larger consumption of {resource}. ",
            container.name
        );
    }
    text
}

fn container_usage(stats: &ContainerStats, resource: &str) -> Option<Quantity> {
    let bytes = match resource {
        "memory" => stats.memory.as_ref()?.working_set_bytes?,
        "ephemeral-storage" => stats.rootfs.as_ref()?.used_bytes? + stats.logs.as_ref()?.used_bytes?,
        _ => return None,
    };
    Some(Quantity::new(i64::try_from(bytes).unwrap_or(i64::MAX), Format::BinarySI))
}
