//! A Service's ports as the rules need them (upstream `pkg/proxy/serviceport.go`).

use std::net::IpAddr;

use client::{
    Kind,
    kinds::core::v1::{LoadBalancerIngress, Service, ServiceSpec},
};

use crate::{Cidr, Family, Protocol};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    None,
    /// The same client goes to the same endpoint for this many seconds after its last connection.
    ClientIp {
        seconds: u32,
    },
}

/// One port of a Service that has a ClusterIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty where the Service has one port without a name.
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
    pub cluster_ip: IpAddr,
    pub external_ips: Vec<IpAddr>,
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may reach the load balancer's addresses; empty: everyone.
    pub source_ranges: Vec<Cidr>,
    pub affinity: Affinity,
    pub internal_local: bool,
    pub external_local: bool,
    pub health_check_node_port: Option<u16>,
}

impl ServicePort {
    /// Reachable by another address than the ClusterIP.
    pub fn is_external(&self) -> bool {
        self.node_port.is_some() || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }

    /// Pods and the node itself reach external addresses of a Service with externalTrafficPolicy Local as if it were
    /// Cluster.
    pub fn uses_cluster_endpoints(&self) -> bool {
        !self.internal_local || self.is_external()
    }

    pub fn uses_local_endpoints(&self) -> bool {
        self.internal_local || (self.external_local && self.is_external())
    }
}

/// The ports of `service` that this proxy has rules for: none of a headless Service, of one without an address of the
/// family, or of one that another proxy cares for.
pub fn ports_of(service: &Service, family: Family) -> Vec<ServicePort> {
    let Some(spec) = service.spec.as_ref().filter(|spec| spec.type_.as_deref() != Some("ExternalName")) else {
        return Vec::new();
    };
    let labels = service.metadata.labels.as_ref();
    let is_foreign = labels.is_some_and(|labels| labels.contains_key("service.kubernetes.io/service-proxy-name"));
    let Some(cluster_ip) = cluster_ip(spec, family).filter(|_| !is_foreign && is_plain(service)) else {
        return Vec::new();
    };
    let type_ = spec.type_.as_deref().unwrap_or("ClusterIP");
    let is_exposed = matches!(type_, "NodePort" | "LoadBalancer") || spec.external_ips.is_some();
    let external_local = is_exposed && spec.external_traffic_policy.as_deref() == Some("Local");
    let common = ServicePort {
        name: String::new(),
        protocol: Protocol::Tcp,
        port: 0,
        node_port: None,
        cluster_ip,
        external_ips: addresses(spec.external_ips.iter().flatten(), family),
        load_balancer_ips: load_balancer_ips(service, family),
        source_ranges: source_ranges(spec, family),
        affinity: affinity(spec),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local,
        health_check_node_port: port(spec.health_check_node_port).filter(|_| type_ == "LoadBalancer" && external_local),
    };
    let port = |from: &client::kinds::core::v1::ServicePort| {
        Some(ServicePort {
            name: from.name.clone().unwrap_or_default(),
            protocol: Protocol::of(from.protocol.as_deref())?,
            port: port(Some(from.port))?,
            node_port: port(from.node_port),
            ..common.clone()
        })
    };
    spec.ports.iter().flatten().filter_map(port).filter(|port| is_name(&port.name)).collect()
}

/// Names become part of chains' names: what no API server admits as a name must not reach nft.
fn is_plain(service: &Service) -> bool {
    is_name(service.name()) && is_name(service.namespace())
}

fn is_name(name: &str) -> bool {
    name.len() <= 63 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn port(number: Option<i32>) -> Option<u16> {
    u16::try_from(number?).ok().filter(|port| *port != 0)
}

fn cluster_ip(spec: &ServiceSpec, family: Family) -> Option<IpAddr> {
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    all.filter_map(|address| family.parse(address)).next()
}

fn addresses<'a>(from: impl Iterator<Item = &'a String>, family: Family) -> Vec<IpAddr> {
    from.filter_map(|address| family.parse(address)).collect()
}

fn load_balancer_ips(service: &Service, family: Family) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let is_vip = |ingress: &&LoadBalancerIngress| ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP");
    let ingress = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    addresses(ingress.filter(is_vip).filter_map(|ingress| ingress.ip.as_ref()), family)
}

fn source_ranges(spec: &ServiceSpec, family: Family) -> Vec<Cidr> {
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    let ranges = ranges.filter_map(|range| range.trim().parse().ok()).filter(|range: &Cidr| range.is_of(family));
    let mut ranges: Vec<Cidr> = ranges.collect();
    ranges.sort();
    ranges.dedup();
    if ranges.iter().any(Cidr::is_everything) { Vec::new() } else { ranges }
}

fn affinity(spec: &ServiceSpec) -> Affinity {
    const DEFAULT_SECONDS: u32 = 10_800;
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return Affinity::None;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|client| client.timeout_seconds).and_then(|seconds| u32::try_from(seconds).ok());
    Affinity::ClientIp { seconds: seconds.unwrap_or(DEFAULT_SECONDS) }
}
