//! EndpointSlices of a service from its pods (upstream endpointslice/utils.go, pkg/controller/endpointslice).

use std::{collections::BTreeMap, sync::Arc};

use client::{
    Kind,
    kinds::{
        core::v1::{Pod, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone},
    },
};

use super::{
    HEADLESS, MANAGED_BY, SERVICE_NAME,
    backends::{addresses, belongs, has_cluster_ip, hostname, is_headless, is_v6, port, reference, selects_pods},
    slicing::{Desired, Parent, reconcile},
};
use crate::{
    plan::Plan,
    shared::{is_deleting, owners, pods},
};

pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// `--max-endpoints-per-slice`.
const MAX_PER_SLICE: usize = 100;

pub struct Inputs {
    pub service: Arc<Service>,
    /// The pods the service selects.
    pub pods: Vec<Arc<Pod>>,
    /// The zone of each pod's node.
    pub zones: Vec<Option<String>>,
    /// The service's slices that this controller wrote.
    pub slices: Vec<Arc<EndpointSlice>>,
}

pub fn plan(inputs: &Inputs) -> Plan {
    let mut plan = Plan::default();
    let service = &*inputs.service;
    if !selects_pods(service) {
        for slice in &inputs.slices {
            plan.delete(&**slice);
        }
        return plan;
    }
    let parent = Parent {
        namespace: service.namespace().into(),
        name: service.name().into(),
        owner: owners::controller_ref(service),
        labels: labels(service),
        annotations: BTreeMap::new(),
        is_deleting: is_deleting(service),
        max_per_slice: MAX_PER_SLICE,
    };
    let owned: Vec<_> =
        inputs.slices.iter().filter(|slice| owners::is_controlled_by(&***slice, service.uid())).cloned().collect();
    let families = families(service);
    for slice in owned.iter().filter(|slice| !families.contains(&&*slice.address_type)) {
        plan.delete(&**slice);
    }
    for family in families {
        let existing: Vec<_> = owned.iter().filter(|slice| slice.address_type == family).cloned().collect();
        reconcile(&mut plan, &parent, family, &existing, desired(inputs, family), true);
    }
    plan
}

fn desired(inputs: &Inputs, family: &str) -> Desired {
    let service = &*inputs.service;
    let mut desired = Desired::default();
    for (pod, zone) in inputs.pods.iter().zip(&inputs.zones) {
        if !belongs(pod, true) {
            continue;
        }
        let endpoint = endpoint(pod, zone.clone(), service, family);
        let ports = ports(pod, service);
        let may_lack_ports = is_headless(service) && service_ports(service).is_empty();
        if !endpoint.addresses.is_empty() && (may_lack_ports || !ports.is_empty()) {
            desired.add(ports, endpoint);
        }
    }
    desired
}

fn service_ports(service: &Service) -> &[client::kinds::core::v1::ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

fn ports(pod: &Pod, service: &Service) -> Vec<EndpointPort> {
    let resolve = |service_port: &client::kinds::core::v1::ServicePort| {
        Some(EndpointPort {
            name: Some(service_port.name.clone().unwrap_or_default()),
            port: Some(port(pod, service_port)?),
            protocol: Some(service_port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: service_port.app_protocol.clone(),
        })
    };
    service_ports(service).iter().filter_map(resolve).collect()
}

fn endpoint(pod: &Pod, zone: Option<String>, service: &Service, family: &str) -> Endpoint {
    let spec = service.spec.as_ref();
    let publishes_unready = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let serving = pods::is_ready(pod);
    let terminating = is_deleting(pod);
    let ready = publishes_unready || serving && !terminating;
    let node = Some(pods::node_name(pod)).filter(|name| !name.is_empty()).map(str::to_owned);
    let distribution = spec.and_then(|spec| spec.traffic_distribution.as_deref()).filter(|_| ready);
    Endpoint {
        addresses: addresses(pod).into_iter().filter(|address| is_v6(address) == (family == "IPv6")).collect(),
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        target_ref: Some(reference(pod)),
        hostname: hostname(pod, service),
        hints: hints(distribution, zone.as_ref(), node.as_ref()),
        node_name: node,
        zone,
        deprecated_topology: None,
    }
}

/// Whom an endpoint is for, by spec.trafficDistribution (endpointslice/trafficdist).
fn hints(distribution: Option<&str>, zone: Option<&String>, node: Option<&String>) -> Option<EndpointHints> {
    let for_zones = zone.map(|name| vec![ForZone { name: name.clone() }]);
    match distribution? {
        "PreferClose" | "PreferSameZone" => {
            for_zones.map(|zones| EndpointHints { for_zones: Some(zones), for_nodes: None })
        }
        "PreferSameNode" => {
            let for_nodes = node.map(|name| vec![ForNode { name: name.clone() }]);
            (for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints { for_zones, for_nodes })
        }
        _ => None,
    }
}

/// The service's own labels with the reserved ones set.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if !has_cluster_ip(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), service.name().into());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

fn families(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.as_ref();
    let listed = spec.iter().flat_map(|spec| spec.ip_families.iter().flatten());
    let listed: Vec<&str> = listed.map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" }).collect();
    let ip = spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or("");
    match (listed.is_empty(), ip) {
        (false, _) => listed.into_iter().map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" }).collect(),
        (true, ip) if is_v6(ip) => vec!["IPv6"],
        (true, "None") => vec!["IPv4", "IPv6"],
        (true, _) => vec!["IPv4"],
    }
}
