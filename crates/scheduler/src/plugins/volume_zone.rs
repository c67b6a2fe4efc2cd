//! VolumeZone: a volume labelled with zones or regions is used in those.

use client::kinds::core::v1::PersistentVolume;

use super::{names, volume_binding::volume_name};
use crate::{
    event::ClusterEvent,
    framework::{Cycle, Filter, Plugin, PreFilter, Rejection},
    labels::{self, Labels},
    node::NodeInfo,
    pod::PodInfo,
    snapshot::Snapshot,
};

const KEYS: [&str; 4] = [
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

pub struct VolumeZone;

/// A topology label and the values that a volume allows.
#[derive(Clone)]
struct Zones<'a>(Vec<(&'static str, Vec<&'a str>)>);

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        names::VOLUME_ZONE
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        let objects = &cycle.snapshot.objects;
        let volume = |claim: &crate::pod::Claim| {
            let claim = objects.claims.get(cycle.pod.namespace(), &claim.name)?;
            Some(&**objects.volumes.get("", volume_name(claim))?)
        };
        let zones: Vec<_> = cycle.pod.claims.iter().filter_map(volume).flat_map(zones).collect();
        if zones.is_empty() { PreFilter::Skip } else { PreFilter::Filter(Box::new(Zones(zones))) }
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo, _: &Snapshot) -> bool {
        match event {
            ClusterEvent::ClaimChanged { namespace, name } => {
                namespace == pod.namespace() && pod.claims.iter().any(|claim| claim.name == *name)
            }
            ClusterEvent::VolumeChanged | ClusterEvent::StorageClassChanged | ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::NodeUpdated { old, new } => labels::of(&old.metadata) != labels::of(&new.metadata),
            _ => false,
        }
    }
}

/// Several zones stand in one label, with `__` between them.
fn zones(volume: &PersistentVolume) -> Vec<(&'static str, Vec<&str>)> {
    let labels: &Labels = labels::of(&volume.metadata);
    KEYS.iter().filter_map(|key| Some((*key, labels.get(*key)?.split("__").collect()))).collect()
}

impl Filter for Zones<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let labels = node.labels();
        // A cluster of one zone need not label its nodes.
        if !KEYS.iter().any(|key| labels.contains_key(*key)) {
            return Ok(());
        }
        let allowed =
            |key: &str, values: &[&str]| labels.get(key).is_some_and(|value| values.contains(&value.as_str()));
        // The old and the new name of a label say the same.
        let other = |key: &'static str| match key {
            "failure-domain.beta.kubernetes.io/zone" => KEYS[2],
            "failure-domain.beta.kubernetes.io/region" => KEYS[3],
            "topology.kubernetes.io/zone" => KEYS[0],
            _ => KEYS[1],
        };
        if self.0.iter().all(|(key, values)| allowed(key, values) || allowed(other(key), values)) {
            return Ok(());
        }
        Err(Rejection::unresolvable(names::VOLUME_ZONE, "node(s) had no available volume zone"))
    }

    fn duplicate<'b>(&self) -> Box<dyn Filter + 'b>
    where
        Self: 'b,
    {
        Box::new(self.clone())
    }
}
