//! Pods that use more of the node's disk than their own limits allow (upstream `eviction_manager.go:
//! localStorageEviction`). Pure.

use api::quantity::{Format, Quantity};
use client::kinds::core::v1::Pod;
use volumes::resources::{amount, pod_limits};

use crate::{
    plan::spec,
    stats::summary::{FsStats, PodStats},
};

const STORAGE: &str = "ephemeral-storage";

/// Whether the pod has any limit that has to be watched: measuring directories is dear.
pub fn is_limited(pod: &Pod) -> bool {
    let mut volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.any(|volume| volume.empty_dir.as_ref().is_some_and(|dir| dir.size_limit.is_some()))
        || pod_limits(pod).contains_key(STORAGE)
}

/// Which limit the pod exceeds, as the message of its eviction.
pub fn exceeded(pod: &Pod, stats: &PodStats, dedicated_image_fs: bool) -> Option<String> {
    empty_dir(pod, stats).or_else(|| whole_pod(pod, stats)).or_else(|| container(pod, stats, dedicated_image_fs))
}

fn bytes(fs: Option<&FsStats>) -> Quantity {
    let used = fs.and_then(|fs| fs.used_bytes).unwrap_or(0);
    Quantity::new(i64::try_from(used).unwrap_or(i64::MAX), Format::BinarySI)
}

fn empty_dir(pod: &Pod, stats: &PodStats) -> Option<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let limited = volumes.filter_map(|volume| {
        let limit = amount(volume.empty_dir.as_ref()?.size_limit.as_ref()?);
        let used = stats.volumes.iter().find(|stats| stats.name == volume.name)?;
        (limit.is_positive() && bytes(Some(&used.fs)) > limit).then_some((&volume.name, limit))
    });
    let (name, limit) = limited.into_iter().next()?;
    Some(format!("Usage of EmptyDir volume {name:?} exceeds the limit \"{limit}\". "))
}

fn whole_pod(pod: &Pod, stats: &PodStats) -> Option<String> {
    let limit = *pod_limits(pod).get(STORAGE)?;
    let exceeds = bytes(stats.ephemeral_storage.as_ref()) > limit;
    exceeds.then(|| format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "))
}

fn container(pod: &Pod, stats: &PodStats, dedicated_image_fs: bool) -> Option<String> {
    let limited = spec::regular_containers(pod).iter().filter_map(|container| {
        let limits = container.resources.as_ref()?.limits.as_ref()?;
        let limit = amount(limits.get(STORAGE)?);
        let stats = stats.containers.iter().find(|stats| stats.name == container.name)?;
        let root = stats.rootfs.as_ref().filter(|_| !dedicated_image_fs);
        let used = bytes(stats.logs.as_ref()) + bytes(root);
        (!limit.is_zero() && used > limit).then_some((&container.name, limit))
    });
    let (name, limit) = limited.into_iter().next()?;
    Some(format!("Container {name} exceeded its local ephemeral storage limit \"{limit}\". "))
}
