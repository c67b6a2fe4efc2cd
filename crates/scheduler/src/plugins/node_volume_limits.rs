//! NodeVolumeLimits: a CSI driver attaches only so many volumes to a node, as its CSINode says.

use std::collections::{HashMap, HashSet};

use super::{
    names,
    volume_binding::{class, volume_name},
};
use crate::{
    event::ClusterEvent,
    framework::{Cycle, Filter, Plugin, PreFilter, Rejection},
    node::NodeInfo,
    objects::Objects,
    pod::PodInfo,
    snapshot::Snapshot,
};

pub struct NodeVolumeLimits;

#[derive(Clone)]
struct Limits<'a> {
    objects: &'a Objects,
    /// Driver and handle.
    wanted: HashSet<(String, String)>,
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        names::NODE_VOLUME_LIMITS
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        let objects = &cycle.snapshot.objects;
        let mut wanted = HashSet::new();
        attached(cycle.pod, objects, &mut wanted);
        if wanted.is_empty() { PreFilter::Skip } else { PreFilter::Filter(Box::new(Limits { objects, wanted })) }
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo, _: &Snapshot) -> bool {
        match event {
            ClusterEvent::PodDeleted(deleted) => !deleted.claims.is_empty(),
            ClusterEvent::ClaimChanged { namespace, name } => {
                namespace == pod.namespace() && pod.claims.iter().any(|claim| claim.name == *name)
            }
            ClusterEvent::CsiNodeChanged | ClusterEvent::VolumeChanged | ClusterEvent::NodeAdded(_) => true,
            _ => false,
        }
    }
}

/// Adds the CSI volumes a pod has attached; one still to be provisioned counts under its claim's name.
fn attached(pod: &PodInfo, objects: &Objects, volumes: &mut HashSet<(String, String)>) {
    for reference in &pod.claims {
        let Some(claim) = objects.claims.get(pod.namespace(), &reference.name) else { continue };
        if let Some(volume) = objects.volumes.get("", volume_name(claim)) {
            if let Some(csi) = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()) {
                volumes.insert((csi.driver.clone(), csi.volume_handle.clone()));
            }
        } else if let Some(class) = class(claim, objects) {
            volumes.insert((class.provisioner.clone(), format!("{}/{}", pod.namespace(), reference.name)));
        }
    }
}

impl Filter for Limits<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(csi_node) = self.objects.csi_nodes.get("", node.name()) else { return Ok(()) };
        let limit = |driver: &client::kinds::storage::v1::CSINodeDriver| {
            Some((driver.name.clone(), driver.allocatable.as_ref()?.count?))
        };
        let limits: HashMap<String, i32> = csi_node.spec.drivers.iter().filter_map(limit).collect();
        if !self.wanted.iter().any(|(driver, _)| limits.contains_key(driver)) {
            return Ok(());
        }
        let mut present = HashSet::new();
        node.pods.iter().for_each(|pod| attached(pod, self.objects, &mut present));
        let mut counts: HashMap<&str, i32> = HashMap::new();
        for (driver, _) in present.union(&self.wanted) {
            *counts.entry(driver).or_default() += 1;
        }
        let new = self.wanted.difference(&present);
        for (driver, _) in new {
            if limits.get(driver).is_some_and(|limit| counts[driver.as_str()] > *limit) {
                return Err(Rejection::resolvable(names::NODE_VOLUME_LIMITS, "node(s) exceed max volume count"));
            }
        }
        Ok(())
    }

    fn duplicate<'b>(&self) -> Box<dyn Filter + 'b>
    where
        Self: 'b,
    {
        Box::new(self.clone())
    }
}
