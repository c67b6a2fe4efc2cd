//! Every node gets its own range of pod addresses (upstream pkg/controller/nodeipam, range allocator).

use std::{collections::HashSet, sync::Arc};

use client::{Delta, Informer, Kind, ObjectKey, PatchKind, kinds::core::v1::Node};
use serde_json::json;

use crate::{
    manager::Setup,
    plan::{Plan, PlannedEvent},
    runtime::{Context, Controller},
    shared::{is_deleting, range::Range},
};

/// What there is to give out.
pub struct Pool {
    /// Per family: the cluster's range and the size of a node's.
    pub clusters: Vec<(Range, u8)>,
    /// Ranges that are the services'.
    pub reserved: Vec<Range>,
}

pub fn plan(nodes: &[Arc<Node>], pool: &Pool) -> Plan {
    let mut plan = Plan::default();
    let spec = |node: &Node| node.spec.clone().unwrap_or_default();
    let of = |node: &Node| spec(node).pod_cidrs.or(spec(node).pod_cidr.map(|one| vec![one])).unwrap_or_default();
    let mut used: HashSet<Range> =
        nodes.iter().flat_map(|node| of(node)).filter_map(|text| Range::parse(&text)).collect();
    let odd: Vec<Range> =
        used.iter().filter(|range| !pool.clusters.iter().any(|(_, bits)| range.bits == *bits)).copied().collect();
    for node in nodes.iter().filter(|node| of(node).is_empty() && !is_deleting(&***node)) {
        let mut ranges = Vec::new();
        for (cluster, bits) in &pool.clusters {
            let is_free = |range: &Range| {
                !used.contains(range) && !pool.reserved.iter().chain(&odd).any(|other| other.overlaps(range))
            };
            ranges.extend(cluster.parts(*bits).find(is_free));
        }
        if ranges.len() < pool.clusters.len() {
            let message = format!("Node {} status is now: CIDRNotAvailable", node.name());
            plan.event(PlannedEvent::normal(&**node, "CIDRNotAvailable", message));
            continue;
        }
        used.extend(&ranges);
        let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        let patch = json!({"metadata": {"uid": node.uid()}, "spec": {"podCIDR": texts.first(), "podCIDRs": texts}});
        plan.patch(&**node, PatchKind::Merge, &patch).ignore_not_found();
    }
    plan
}

/// All nodes are one key: two passes at once could give out one range twice.
struct NodeIpam {
    nodes: Informer<Node>,
    pool: Pool,
}

impl Controller for NodeIpam {
    fn name(&self) -> &'static str {
        "node-ipam-controller"
    }

    fn plan(&self, _: &ObjectKey, _: &Context) -> Plan {
        let mut nodes = self.nodes.list();
        nodes.sort_by_key(|node| (crate::shared::created_at(&**node), node.name().to_owned()));
        plan(&nodes, &self.pool)
    }
}

pub fn register(setup: &mut Setup) {
    let parse = |list: &str| -> Vec<Range> { list.split(',').filter_map(Range::parse).collect() };
    let v4_bits = setup.config.node_cidr_mask_size;
    let clusters = parse(&setup.config.cluster_cidr).into_iter();
    let clusters: Vec<_> = clusters.map(|range| (range, if range.is_v6 { 64 } else { v4_bits })).collect();
    if clusters.is_empty() {
        return;
    }
    let pool = Pool { clusters, reserved: parse(&setup.config.service_cidr) };
    let nodes = setup.informer::<Node>();
    let queue = setup.queue("node-ipam-controller");
    let to = queue.clone();
    nodes.on_event(move |delta| {
        if !matches!(delta, Delta::Updated { old, new } if old.spec.as_ref().map(|spec| &spec.pod_cidrs) == new.spec.as_ref().map(|spec| &spec.pod_cidrs)) {
            to.add(ObjectKey::default());
        }
    });
    setup.run(NodeIpam { nodes, pool }, queue, 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_print_as_they_parse() {
        for text in ["10.244.0.0/16", "10.244.255.0/24", "fd00:10:244::/56", "0.0.0.0/0"] {
            assert_eq!(Range::parse(text).map(|range| range.to_string()).as_deref(), Some(text));
        }
        let cluster = Range::parse("10.244.0.0/22").expect("range");
        let parts: Vec<String> = cluster.parts(24).map(|part| part.to_string()).collect();
        assert_eq!(parts, ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"]);
    }
}
