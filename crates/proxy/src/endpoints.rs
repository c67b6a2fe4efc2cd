//! A Service's endpoints, and which of them traffic may go to (upstream `pkg/proxy/topology.go`).

use std::{collections::BTreeMap, net::IpAddr};

use client::kinds::discovery::v1::EndpointSlice;

use crate::{Family, NodeView, Protocol, ServicePort};

/// Where traffic to one port of a Service can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: u16,
    pub is_local: bool,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub zone_hints: Vec<String>,
    pub node_hints: Vec<String>,
}

/// The endpoints of the port with this name and protocol, by address; one that several slices name is there once.
pub fn endpoints_of<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    name: &str,
    protocol: Protocol,
    family: Family,
    node: &NodeView,
) -> Vec<Endpoint> {
    let mut found: BTreeMap<(IpAddr, u16), Endpoint> = BTreeMap::new();
    for slice in slices.into_iter().filter(|slice| slice.address_type == family.address_type()) {
        let ports = slice.ports.iter().flatten().filter(|port| {
            port.name.as_deref().unwrap_or_default() == name && Protocol::of(port.protocol.as_deref()) == Some(protocol)
        });
        for port in ports.filter_map(|port| u16::try_from(port.port?).ok().filter(|port| *port != 0)) {
            for endpoint in slice.endpoints.iter().flatten().filter_map(|endpoint| read(endpoint, port, family, node)) {
                match found.entry((endpoint.address, port)) {
                    std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(endpoint)),
                    // A pod that moves from one slice to another is in both for a while.
                    std::collections::btree_map::Entry::Occupied(mut entry) if endpoint.ready && !entry.get().ready => {
                        entry.insert(endpoint);
                    }
                    std::collections::btree_map::Entry::Occupied(_) => {}
                }
            }
        }
    }
    found.into_values().collect()
}

fn read(from: &client::kinds::discovery::v1::Endpoint, port: u16, family: Family, node: &NodeView) -> Option<Endpoint> {
    let conditions = from.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let hints = from.hints.as_ref();
    let zones = hints.and_then(|hints| hints.for_zones.as_ref()).into_iter().flatten();
    let nodes = hints.and_then(|hints| hints.for_nodes.as_ref()).into_iter().flatten();
    Some(Endpoint {
        // All addresses of an endpoint are one backend, and upstream uses the first.
        address: family.parse(from.addresses.first()?)?,
        port,
        is_local: from.node_name.as_ref() == Some(&node.name),
        ready,
        serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(ready),
        terminating: conditions.and_then(|conditions| conditions.terminating).unwrap_or(false),
        zone_hints: zones.map(|zone| zone.name.clone()).collect(),
        node_hints: nodes.map(|node| node.name.clone()).collect(),
    })
}

/// Which endpoints each traffic policy uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Categories<'a> {
    pub cluster: Vec<&'a Endpoint>,
    pub local: Vec<&'a Endpoint>,
    /// Whether there is a usable endpoint on any node.
    pub any: bool,
}

impl<'a> Categories<'a> {
    /// The endpoints that this node sends traffic to, by address.
    pub fn reachable(&self) -> Vec<&'a Endpoint> {
        let mut all: Vec<_> = self.cluster.iter().chain(&self.local).copied().collect();
        all.sort_by_key(|endpoint| (endpoint.address, endpoint.port));
        all.dedup_by_key(|endpoint| (endpoint.address, endpoint.port));
        all
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Topology {
    Anywhere,
    SameZone,
    SameNode,
}

/// Ready endpoints; where there are none, those that still serve while they terminate. Hints narrow the cluster's
/// endpoints when every ready one has them and they leave at least one.
pub fn categorize<'a>(endpoints: &'a [Endpoint], port: &ServicePort, node: &NodeView) -> Categories<'a> {
    let draining = |endpoint: &&Endpoint| endpoint.serving && endpoint.terminating;
    let choose = |candidates: &dyn Fn(&Endpoint) -> bool| -> Vec<&'a Endpoint> {
        let among = || endpoints.iter().filter(|endpoint| candidates(endpoint));
        let ready: Vec<_> = among().filter(|endpoint| endpoint.ready).collect();
        if ready.is_empty() { among().filter(draining).collect() } else { ready }
    };
    let mut categories = Categories::default();
    if port.uses_cluster_endpoints() {
        let topology = topology(endpoints, node);
        categories.cluster = choose(&|endpoint| !endpoint.ready || is_near(endpoint, topology, node));
    }
    if port.uses_local_endpoints() {
        categories.local = choose(&|endpoint| endpoint.is_local);
    }
    categories.any = endpoints.iter().any(|endpoint| endpoint.ready || draining(&endpoint));
    categories
}

fn topology(endpoints: &[Endpoint], node: &NodeView) -> Topology {
    let ready = || endpoints.iter().filter(|endpoint| endpoint.ready);
    let hinted = |hints: fn(&Endpoint) -> &[String], value: &str| {
        ready().all(|endpoint| !hints(endpoint).is_empty())
            && ready().any(|endpoint| hints(endpoint).iter().any(|hint| hint == value))
    };
    if hinted(|endpoint| &endpoint.node_hints, &node.name) {
        Topology::SameNode
    } else if hinted(|endpoint| &endpoint.zone_hints, &node.zone) {
        Topology::SameZone
    } else {
        Topology::Anywhere
    }
}

fn is_near(endpoint: &Endpoint, topology: Topology, node: &NodeView) -> bool {
    match topology {
        Topology::Anywhere => true,
        Topology::SameNode => endpoint.node_hints.contains(&node.name),
        Topology::SameZone => endpoint.zone_hints.contains(&node.zone),
    }
}
