//! ImageLocality: prefers nodes that hold the pod's images already.

use super::names;
use crate::{
    framework::{Cycle, MAX_NODE_SCORE, Plugin, Score},
    node::NodeInfo,
};

const MB: i64 = 1024 * 1024;
/// Below this sum of bytes the score is 0.
const MIN: i64 = 23 * MB;
/// From this many bytes per container on the score is full.
const MAX_PER_CONTAINER: i64 = 1000 * MB;

pub struct ImageLocality;

struct Images {
    /// Name and the share of all nodes that hold the image: an image that one node alone holds counts little, or all its
    /// pods would land there.
    images: Vec<(String, f64)>,
    containers: i64,
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        names::IMAGE_LOCALITY
    }

    fn pre_score<'a>(&self, cycle: Cycle<'a>, _: &[&'a NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        let spec = cycle.pod.spec()?;
        let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
        let of_containers = containers().filter_map(|container| container.image.as_deref());
        let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
        let share = |image: &str| {
            let name = normalized(image);
            let nodes = cycle.snapshot.nodes_with_image(&name);
            let share = f64::from(nodes) / cycle.snapshot.nodes().len() as f64;
            (nodes > 0).then_some((name, share))
        };
        let images: Vec<_> = of_containers.chain(volumes).filter_map(share).collect();
        // Where no node holds any of them all nodes score 0.
        (!images.is_empty())
            .then(|| Box::new(Images { images, containers: containers().count() as i64 }) as Box<dyn Score>)
    }
}

/// The name with its tag: `latest` where it names none.
fn normalized(image: &str) -> String {
    if image.rfind(':') <= image.rfind('/') { format!("{image}:latest") } else { image.to_owned() }
}

impl Score for Images {
    fn score(&self, node: &NodeInfo) -> i64 {
        let size =
            |(name, share): &(String, f64)| node.images.get(name).map_or(0, |size| (*size as f64 * share) as i64);
        let sum: i64 = self.images.iter().map(size).sum();
        let max = MAX_PER_CONTAINER * self.containers;
        MAX_NODE_SCORE * (sum.clamp(MIN, max.max(MIN)) - MIN) / (max - MIN).max(1)
    }
}
