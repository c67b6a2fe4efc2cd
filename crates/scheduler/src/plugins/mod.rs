//! The default plugins. Adding one: a file here, an entry in [`default_plugins`], a row in the scenario tests.

mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_resources;
mod node_rules;
mod node_volume_limits;
mod taint_toleration;
mod topology_spread;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

use crate::framework::Plugin;

pub use topology_spread::default_selector;
pub(crate) use volume_binding::is_bound;

pub mod names {
    //! Upstream's names (`plugins/names/names.go`).
    pub const SCHEDULING_GATES: &str = "SchedulingGates";
    pub const NODE_UNSCHEDULABLE: &str = "NodeUnschedulable";
    pub const NODE_NAME: &str = "NodeName";
    pub const TAINT_TOLERATION: &str = "TaintToleration";
    pub const NODE_AFFINITY: &str = "NodeAffinity";
    pub const NODE_PORTS: &str = "NodePorts";
    pub const NODE_RESOURCES_FIT: &str = "NodeResourcesFit";
    pub const VOLUME_RESTRICTIONS: &str = "VolumeRestrictions";
    pub const NODE_VOLUME_LIMITS: &str = "NodeVolumeLimits";
    pub const VOLUME_BINDING: &str = "VolumeBinding";
    pub const VOLUME_ZONE: &str = "VolumeZone";
    pub const POD_TOPOLOGY_SPREAD: &str = "PodTopologySpread";
    pub const INTER_POD_AFFINITY: &str = "InterPodAffinity";
    pub const DEFAULT_PREEMPTION: &str = "DefaultPreemption";
    pub const BALANCED_ALLOCATION: &str = "NodeResourcesBalancedAllocation";
    pub const IMAGE_LOCALITY: &str = "ImageLocality";
}

/// A plugin with the weight of its scores.
pub struct Weighted {
    pub plugin: Box<dyn Plugin>,
    pub weight: i64,
}

/// Upstream's default plugins, order and weights (`apis/config/v1/default_plugins.go`). A weight of 0 marks those that
/// score nothing.
pub fn default_plugins() -> Vec<Weighted> {
    let list: Vec<(Box<dyn Plugin>, i64)> = vec![
        (Box::new(node_rules::NodeUnschedulable), 0),
        (Box::new(node_rules::NodeName), 0),
        (Box::new(taint_toleration::TaintToleration), 3),
        (Box::new(node_affinity::NodeAffinity), 2),
        (Box::new(node_rules::NodePorts), 0),
        (Box::new(node_resources::Fit), 1),
        (Box::new(volume_restrictions::VolumeRestrictions), 0),
        (Box::new(node_volume_limits::NodeVolumeLimits), 0),
        (Box::new(volume_binding::VolumeBinding), 0),
        (Box::new(volume_zone::VolumeZone), 0),
        (Box::new(topology_spread::PodTopologySpread), 2),
        (Box::new(inter_pod_affinity::InterPodAffinity), 2),
        (Box::new(node_resources::BalancedAllocation), 1),
        (Box::new(image_locality::ImageLocality), 1),
    ];
    list.into_iter().map(|(plugin, weight)| Weighted { plugin, weight }).collect()
}
