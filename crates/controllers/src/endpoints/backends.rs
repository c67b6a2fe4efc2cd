//! Which pods stand behind a service, on which addresses and ports.

use std::net::IpAddr;

use client::{
    Kind,
    apimachinery::pkg::util::intstr::IntOrString,
    kinds::core::v1::{ObjectReference, Pod, Service, ServicePort},
};

use crate::shared::{is_deleting, pods};

/// Whether a change of the pod shows in its endpoints (endpointslice/util `podEndpointsChanged`).
pub fn differ(old: &Pod, new: &Pod) -> bool {
    let shows = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        (
            pod.metadata.uid.clone(),
            is_deleting(pod),
            pods::is_terminal(pod),
            pods::is_ready(pod),
            pods::node_name(pod).to_owned(),
            addresses(pod),
            spec.and_then(|spec| spec.hostname.clone()),
            spec.and_then(|spec| spec.subdomain.clone()),
        )
    };
    old.metadata.labels != new.metadata.labels || shows(old) != shows(new)
}

pub fn addresses(pod: &Pod) -> Vec<String> {
    let status = pod.status.as_ref();
    let listed: Vec<String> =
        status.iter().flat_map(|status| status.pod_ips.iter().flatten()).map(|ip| ip.ip.clone()).collect();
    match status.and_then(|status| status.pod_ip.clone()) {
        Some(ip) if listed.is_empty() && !ip.is_empty() => vec![ip],
        _ => listed,
    }
}

pub fn is_v6(address: &str) -> bool {
    matches!(address.parse(), Ok(IpAddr::V6(_)))
}

/// Running (or about to) with an address; `with_terminating` also while it is being deleted.
pub fn belongs(pod: &Pod, with_terminating: bool) -> bool {
    !pods::is_terminal(pod) && !addresses(pod).is_empty() && (with_terminating || !is_deleting(pod))
}

/// The pod's hostname, where the service is the subdomain that publishes it.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let is_published = spec.subdomain.as_deref() == Some(service.name()) && pod.namespace() == service.namespace();
    spec.hostname.clone().filter(|hostname| is_published && !hostname.is_empty())
}

pub fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The number a service's port has in this pod (endpointslice `FindPort`).
pub fn port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars =
        spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let protocol = |protocol: &Option<String>| protocol.clone().unwrap_or_else(|| "TCP".into());
    let mut ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .find(|candidate| {
            candidate.name.as_ref() == Some(name) && protocol(&candidate.protocol) == protocol(&port.protocol)
        })
        .map(|found| found.container_port)
}

/// Whether the service has a cluster IP of its own (`IsServiceIPSet`).
pub fn has_cluster_ip(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or("");
    !ip.is_empty() && ip != "None"
}

pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// A service whose endpoints are made from pods.
pub fn selects_pods(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|spec| spec.selector.is_some() && spec.type_.as_deref() != Some("ExternalName"))
}
