//! From Services and EndpointSlices to rules, one Service at a time (upstream `syncProxyRules`).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use client::{
    ObjectKey,
    kinds::{core::v1::Service, discovery::v1::EndpointSlice},
};

use crate::{
    Affinity, Categories, Chain, Cidr, Container, Endpoint, Key, Name, Protocol, RulesConfig, Ruleset, ServicePort,
    SetSpec, UdpFrontend, Verdict, categorize, endpoints_of, ports_of,
    rules::{REJECT, base, from_pods, masquerade, ranges},
};

/// What the rules need to know of the node they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    pub name: String,
    /// Label topology.kubernetes.io/zone; empty where it has none.
    pub zone: String,
}

/// Everything that is observed.
#[derive(Clone, Debug, Default)]
pub struct ProxyState {
    pub node: NodeView,
    pub services: BTreeMap<ObjectKey, Arc<Service>>,
    /// By the Service that the label kubernetes.io/service-name names.
    pub slices: BTreeMap<ObjectKey, Vec<Arc<EndpointSlice>>>,
}

/// The whole table for a state.
pub fn plan(state: &ProxyState, config: &RulesConfig) -> Ruleset {
    let mut planner = Planner::new(config.clone());
    for (key, service) in &state.services {
        let slices = state.slices.get(key).map(Vec::as_slice).unwrap_or_default();
        planner.set(key, Some(service), slices, &state.node);
    }
    planner.ruleset
}

/// A Service with externalTrafficPolicy Local, as its health check reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub node_port: u16,
    pub local_endpoints: usize,
}

/// What one Service contributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fragment {
    pub sets: BTreeMap<Name, Arc<SetSpec>>,
    pub elements: BTreeMap<(Container, Key), Option<Verdict>>,
    pub chains: BTreeMap<Name, Arc<Chain>>,
    pub udp: Vec<UdpFrontend>,
    pub health_check: Option<HealthCheck>,
}

/// Who wants an element, and what it is to be. Two Services may claim one externalIP, and share a pod.
type Claims = BTreeMap<Arc<ObjectKey>, Option<Verdict>>;

/// The rules of all Services, kept up to date Service by Service.
pub struct Planner {
    config: RulesConfig,
    fragments: BTreeMap<ObjectKey, Fragment>,
    claims: BTreeMap<(Container, Key), Claims>,
    ruleset: Ruleset,
}

impl Planner {
    pub fn new(config: RulesConfig) -> Self {
        let ruleset = base(&config);
        Planner { config, fragments: BTreeMap::new(), claims: BTreeMap::new(), ruleset }
    }

    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    pub fn fragments(&self) -> &BTreeMap<ObjectKey, Fragment> {
        &self.fragments
    }

    /// Plans a Service anew; without one its rules go. Returns whether endpoints of a UDP port changed, so that
    /// conntrack may hold flows to what is gone.
    pub fn set(
        &mut self,
        key: &ObjectKey,
        service: Option<&Service>,
        slices: &[Arc<EndpointSlice>],
        node: &NodeView,
    ) -> bool {
        let new = service.map(|service| fragment(key, service, slices, node, &self.config)).unwrap_or_default();
        let old = self.fragments.remove(key).unwrap_or_default();
        self.replace(key, &old, &new);
        let is_stale = old.udp != new.udp;
        if new != Fragment::default() {
            self.fragments.insert(key.clone(), new);
        }
        is_stale
    }

    fn replace(&mut self, key: &ObjectKey, old: &Fragment, new: &Fragment) {
        let key = Arc::new(key.clone());
        for name in old.sets.keys().filter(|name| !new.sets.contains_key(*name)) {
            self.ruleset.sets.remove(name);
        }
        for (name, spec) in new.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name)) {
            self.ruleset.sets.insert(name.clone(), spec.clone());
        }
        for name in old.chains.keys().filter(|name| !new.chains.contains_key(*name)) {
            self.ruleset.chains.remove(name);
        }
        for (name, chain) in new.chains.iter().filter(|(name, chain)| old.chains.get(*name) != Some(chain)) {
            self.ruleset.chains.insert(name.clone(), chain.clone());
        }
        for element in old.elements.keys().filter(|element| !new.elements.contains_key(*element)) {
            self.claim(element, &key, None);
        }
        for (element, verdict) in new.elements.iter().filter(|(k, v)| old.elements.get(*k) != Some(v)) {
            self.claim(element, &key, Some(verdict));
        }
    }

    /// The Service that is first by name has its way.
    fn claim(&mut self, element: &(Container, Key), key: &Arc<ObjectKey>, verdict: Option<&Option<Verdict>>) {
        let claims = self.claims.entry(element.clone()).or_default();
        match verdict {
            Some(verdict) => drop(claims.insert(key.clone(), verdict.clone())),
            None => drop(claims.remove(key)),
        }
        match claims.values().next() {
            Some(verdict) if self.ruleset.elements.get(element) == Some(verdict) => {}
            Some(verdict) => drop(self.ruleset.elements.insert(element.clone(), verdict.clone())),
            None => {
                self.claims.remove(element);
                self.ruleset.elements.remove(element);
            }
        }
    }
}

fn fragment(
    key: &ObjectKey,
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    node: &NodeView,
    config: &RulesConfig,
) -> Fragment {
    let mut fragment = Fragment::default();
    let mut local_ready = BTreeSet::new();
    let mut health_check_node_port = None;
    for port in ports_of(service, config.family) {
        let slices = slices.iter().map(AsRef::as_ref);
        let endpoints = endpoints_of(slices, &port.name, port.protocol, config.family, node);
        health_check_node_port = port.health_check_node_port;
        let local = endpoints.iter().filter(|endpoint| endpoint.is_local && endpoint.ready);
        local_ready.extend(local.map(|endpoint| endpoint.address));
        if port.protocol == Protocol::Udp {
            fragment.udp.extend(UdpFrontend::all_of(&port, &endpoints));
        }
        let categories = categorize(&endpoints, &port, node);
        PortRules::new(key, &port, &categories, config).write(&mut fragment);
    }
    fragment.health_check =
        health_check_node_port.map(|node_port| HealthCheck { node_port, local_endpoints: local_ready.len() });
    fragment
}

/// The rules of one port of a Service.
struct PortRules<'a> {
    port: &'a ServicePort,
    endpoints: &'a Categories<'a>,
    config: &'a RulesConfig,
    /// `NAMESPACE/NAME/PROTOCOL/PORT`: no part can have a slash in it, so it is unique.
    base: String,
}

impl<'a> PortRules<'a> {
    fn new(key: &ObjectKey, port: &'a ServicePort, endpoints: &'a Categories<'a>, config: &'a RulesConfig) -> Self {
        let base = format!("{}/{}/{}/{}", key.namespace, key.name, port.protocol, port.name);
        PortRules { port, endpoints, config, base }
    }

    fn cluster_chain(&self) -> String {
        format!("service-{}", self.base)
    }

    fn local_chain(&self) -> String {
        format!("local-{}", self.base)
    }

    fn external_chain(&self) -> String {
        format!("external-{}", self.base)
    }

    fn firewall_chain(&self) -> String {
        format!("firewall-{}", self.base)
    }

    fn endpoint_chain(&self, endpoint: &Endpoint) -> String {
        // Colons of IPv6 addresses are not for names.
        let address = endpoint.address.to_string().replace(':', ".");
        format!("endpoint-{}__{address}/{}", self.base, endpoint.port)
    }

    /// The time-out is part of the name, so that another time-out is another set.
    fn affinity_set(&self, endpoint: &Endpoint, seconds: u32) -> String {
        let address = endpoint.address.to_string().replace(':', ".");
        format!("affinity-{}__{address}/{}/{seconds}", self.base, endpoint.port)
    }

    fn write(&self, fragment: &mut Fragment) {
        let port = self.port;
        if port.uses_cluster_endpoints() && !self.endpoints.cluster.is_empty() {
            self.write_policy_chain(fragment, self.cluster_chain(), &self.endpoints.cluster);
        }
        if port.uses_local_endpoints() && !self.endpoints.local.is_empty() {
            self.write_policy_chain(fragment, self.local_chain(), &self.endpoints.local);
        }
        for endpoint in self.endpoints.reachable() {
            if endpoint.is_local {
                let key = Key::Hairpin(endpoint.address, port.protocol, endpoint.port);
                fragment.elements.insert((Container::HairpinConnections, key), None);
            }
            if let Affinity::ClientIp { seconds } = port.affinity {
                self.write_affinity(fragment, endpoint, seconds);
            }
        }
        self.write_cluster_ip(fragment);
        if port.is_external() {
            self.write_external(fragment);
        }
    }

    /// A chain that sends what reaches it to one of `endpoints`.
    fn write_policy_chain(&self, fragment: &mut Fragment, name: String, endpoints: &[&Endpoint]) {
        let ip = self.config.family;
        let count = endpoints.len();
        let mut rules = Vec::new();
        if let Affinity::ClientIp { seconds } = self.port.affinity {
            let remembered = |endpoint: &&Endpoint| {
                format!("{ip} saddr @{} goto {}", self.affinity_set(endpoint, seconds), self.endpoint_chain(endpoint))
            };
            rules.extend(endpoints.iter().map(remembered));
            let gotos = list(endpoints, |endpoint| format!("goto {}", self.endpoint_chain(endpoint)));
            rules.push(format!("numgen random mod {count} vmap {{ {gotos} }}"));
        } else if let [only] = endpoints {
            // A set for each rule makes a table of many Services slow to write.
            rules.push(self.translation(only));
        } else {
            let targets = list(endpoints, |endpoint| format!("{} . {}", endpoint.address, endpoint.port));
            let protocol = self.port.protocol;
            rules.push(format!(
                "meta l4proto {protocol} dnat {ip} addr . port to numgen random mod {count} map {{ {targets} }}"
            ));
        }
        chain(fragment, name, rules);
    }

    fn translation(&self, endpoint: &Endpoint) -> String {
        // Displayed with brackets where nft wants them.
        let target = SocketAddr::new(endpoint.address, endpoint.port);
        format!("meta l4proto {} dnat to {target}", self.port.protocol)
    }

    fn write_affinity(&self, fragment: &mut Fragment, endpoint: &Endpoint, seconds: u32) {
        let ip = self.config.family;
        let set = self.affinity_set(endpoint, seconds);
        let rules = vec![format!("update @{set} {{ {ip} saddr }}"), self.translation(endpoint)];
        chain(fragment, self.endpoint_chain(endpoint), rules);
        let body = format!("type {}; flags dynamic,timeout; timeout {seconds}s;", ip.nft_type());
        fragment.sets.insert(set.into(), Arc::new(SetSpec { is_map: false, body }));
    }

    /// Nobody serves: the client is told. Somebody serves, but not for this node's traffic: it is dropped, so that a
    /// load balancer may try elsewhere.
    fn refusal(&self) -> Verdict {
        if self.endpoints.any { Verdict::Drop } else { Verdict::Goto(REJECT.into()) }
    }

    fn write_cluster_ip(&self, fragment: &mut Fragment) {
        let port = self.port;
        let (usable, target) = match port.internal_local {
            true => (!self.endpoints.local.is_empty(), self.local_chain()),
            false => (self.endpoints.any, self.cluster_chain()),
        };
        fragment.elements.insert((Container::ClusterIps, Key::Address(port.cluster_ip)), None);
        let key = Key::Destination(port.cluster_ip, port.protocol, port.port);
        let (container, verdict) = match usable {
            true => (Container::ServiceIps, Verdict::Goto(target.into())),
            false => (Container::NoEndpointServices, self.refusal()),
        };
        fragment.elements.insert((container, key), Some(verdict));
    }

    /// External addresses and the NodePort: all go through one chain that masquerades and applies the policy.
    fn write_external(&self, fragment: &mut Fragment) {
        let port = self.port;
        let usable = if port.external_local { !self.endpoints.local.is_empty() } else { self.endpoints.any };
        let chain_name: Name = self.external_chain().into();
        let mut add = |serving: Container, refusing: Container, key: Key| {
            if self.endpoints.any {
                let verdict = Some(Verdict::Goto(chain_name.clone()));
                fragment.elements.insert((serving, key.clone()), verdict);
            }
            if !usable {
                fragment.elements.insert((refusing, key), Some(self.refusal()));
            }
        };
        for address in port.external_ips.iter().chain(&port.load_balancer_ips) {
            let key = Key::Destination(*address, port.protocol, port.port);
            add(Container::ServiceIps, Container::NoEndpointServices, key);
        }
        if let Some(node_port) = port.node_port {
            let key = Key::NodePort(port.protocol, node_port);
            add(Container::ServiceNodePorts, Container::NoEndpointNodePorts, key);
        }
        if self.endpoints.any {
            chain(fragment, self.external_chain(), self.external_rules(usable));
        }
        if !port.load_balancer_ips.is_empty() && !port.source_ranges.is_empty() {
            self.write_firewall(fragment);
        }
    }

    fn external_rules(&self, usable: bool) -> Vec<String> {
        let mark = masquerade(self.config);
        let cluster = self.cluster_chain();
        if !self.port.external_local {
            return vec![mark, format!("goto {cluster}")];
        }
        // Pods and the node itself reach the Service as if they went out to a load balancer and came back.
        let mut rules = Vec::new();
        rules.extend(from_pods(self.config, "==").map(|pods| format!("{pods} goto {cluster}")));
        rules.push(format!("fib saddr type local {mark}"));
        rules.push(format!("fib saddr type local goto {cluster}"));
        if usable {
            rules.push(format!("goto {}", self.local_chain()));
        }
        rules
    }

    fn write_firewall(&self, fragment: &mut Fragment) {
        let port = self.port;
        let mut sources = port.source_ranges.clone();
        let admits_node =
            self.config.node_ip.is_some_and(|node| port.source_ranges.iter().any(|range| range.contains(node)));
        if admits_node {
            // What the node sends to the load balancer's address may have that address as its source.
            sources.extend(port.load_balancer_ips.iter().copied().map(Cidr::host));
        }
        let rule = format!("{} saddr != {} drop", self.config.family, ranges(&sources));
        chain(fragment, self.firewall_chain(), vec![rule]);
        for address in &port.load_balancer_ips {
            let key = Key::Destination(*address, port.protocol, port.port);
            let verdict = Verdict::Goto(self.firewall_chain().into());
            fragment.elements.insert((Container::FirewallIps, key), Some(verdict));
        }
    }
}

fn chain(fragment: &mut Fragment, name: String, rules: Vec<String>) {
    fragment.chains.insert(name.into(), Arc::new(Chain { hook: None, rules }));
}

/// `0 : A, 1 : B`
fn list(endpoints: &[&Endpoint], value: impl Fn(&Endpoint) -> String) -> String {
    let numbered = endpoints.iter().enumerate().map(|(number, endpoint)| format!("{number} : {}", value(endpoint)));
    numbered.collect::<Vec<String>>().join(", ")
}
