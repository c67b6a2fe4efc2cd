//! The Endpoints object of a service (upstream pkg/controller/endpoint).

use std::{collections::BTreeMap, sync::Arc};

use client::{
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    kinds::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service},
};

use super::{
    HEADLESS,
    backends::{addresses, belongs, has_cluster_ip, hostname, is_headless, is_v6, port, reference, selects_pods},
};
use crate::{
    plan::{Plan, PlannedEvent},
    shared::pods,
};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses one object may have.
const MAX: usize = 1000;

pub struct Inputs {
    pub service: Arc<Service>,
    pub pods: Vec<Arc<Pod>>,
    pub current: Option<Arc<Endpoints>>,
}

/// The service is gone: so are the Endpoints this controller wrote for it.
pub fn plan_deleted(current: Option<&Endpoints>) -> Plan {
    let mut plan = Plan::default();
    let is_ours = |endpoints: &&Endpoints| {
        endpoints.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(MANAGED_BY))
    };
    if let Some(current) = current.filter(is_ours) {
        plan.delete(current);
    }
    plan
}

pub fn plan(inputs: &Inputs) -> Plan {
    let mut plan = Plan::default();
    let service = &*inputs.service;
    if !selects_pods(service) {
        return plan;
    }
    let (subsets, is_truncated) = truncate(subsets(inputs));
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if !has_cluster_ip(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), "endpoint-controller".into());

    let mut wanted = match &inputs.current {
        Some(current) => (**current).clone(),
        None => Endpoints {
            metadata: ObjectMeta {
                name: service.metadata.name.clone(),
                namespace: service.metadata.namespace.clone(),
                ..ObjectMeta::default()
            },
            subsets: None,
        },
    };
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    wanted.metadata.labels = Some(labels);
    if is_truncated {
        wanted.metadata.annotations.get_or_insert_default().insert(OVER_CAPACITY.into(), "truncated".into());
    } else if let Some(annotations) = &mut wanted.metadata.annotations {
        annotations.remove(OVER_CAPACITY);
    }
    match &inputs.current {
        None => {
            plan.create(&wanted).on_failure(PlannedEvent::warning(
                service,
                "FailedToCreateEndpoint",
                "Failed to create endpoint: ",
            ));
        }
        Some(current) if is_same(current, &wanted) => {}
        Some(_) => {
            plan.update(&wanted).on_failure(PlannedEvent::warning(
                service,
                "FailedToUpdateEndpoint",
                "Failed to update endpoint: ",
            ));
        }
    }
    plan
}

fn is_same(current: &Endpoints, wanted: &Endpoints) -> bool {
    let plain = |endpoints: &Endpoints| {
        let mut subsets = endpoints.subsets.clone().unwrap_or_default();
        let addresses = subsets.iter_mut().flat_map(|subset| {
            subset.addresses.iter_mut().flatten().chain(subset.not_ready_addresses.iter_mut().flatten())
        });
        for target in addresses.filter_map(|address| address.target_ref.as_mut()) {
            target.resource_version = None;
        }
        subsets
    };
    let noted =
        |endpoints: &Endpoints| endpoints.metadata.annotations.as_ref().and_then(|all| all.get(OVER_CAPACITY).cloned());
    current.metadata.labels == wanted.metadata.labels
        && noted(current) == noted(wanted)
        && plain(current) == plain(wanted)
}

fn address(pod: &Pod, service: &Service) -> Option<EndpointAddress> {
    let spec = service.spec.as_ref()?;
    let wants_v6 = match spec.ip_families.as_deref() {
        Some([first, ..]) => first == "IPv6",
        _ => is_v6(spec.cluster_ip.as_deref().unwrap_or("")),
    };
    Some(EndpointAddress {
        ip: addresses(pod).into_iter().find(|address| is_v6(address) == wants_v6)?,
        hostname: hostname(pod, service),
        node_name: Some(pods::node_name(pod).to_owned()),
        target_ref: Some(reference(pod)),
    })
}

type PortKey = (Option<String>, i32, Option<String>, Option<String>);

/// Addresses grouped by the ports they have (api/v1/endpoints `RepackSubsets`), sorted.
fn subsets(inputs: &Inputs) -> Vec<EndpointSubset> {
    let service = &*inputs.service;
    let spec = service.spec.as_ref();
    let publishes_unready = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let service_ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let mut groups: BTreeMap<Vec<PortKey>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    for pod in inputs.pods.iter().filter(|pod| belongs(pod, publishes_unready)) {
        let Some(address) = address(pod, service) else {
            continue;
        };
        let key = |service_port: &client::kinds::core::v1::ServicePort| {
            let name = service_port.name.clone().filter(|name| !name.is_empty());
            Some((name, port(pod, service_port)?, service_port.protocol.clone(), service_port.app_protocol.clone()))
        };
        let mut ports: Vec<PortKey> = service_ports.iter().filter_map(key).collect();
        ports.sort();
        if ports.is_empty() && !(service_ports.is_empty() && is_headless(service)) {
            continue;
        }
        let (ready, not_ready) = groups.entry(ports).or_default();
        if publishes_unready || pods::is_ready(pod) { ready.push(address) } else { not_ready.push(address) }
    }
    let some = |mut addresses: Vec<EndpointAddress>| {
        addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
        (!addresses.is_empty()).then_some(addresses)
    };
    let ports = |keys: Vec<PortKey>| {
        let port = |(name, port, protocol, app_protocol)| EndpointPort { name, port, protocol, app_protocol };
        (!keys.is_empty()).then(|| keys.into_iter().map(port).collect())
    };
    groups
        .into_iter()
        .map(|(keys, (ready, not_ready))| EndpointSubset {
            addresses: some(ready),
            not_ready_addresses: some(not_ready),
            ports: ports(keys),
        })
        .collect()
}

/// Ready addresses have precedence.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let count = |addresses: &Option<Vec<EndpointAddress>>| addresses.as_ref().map_or(0, Vec::len);
    let total: usize = subsets.iter().map(|subset| count(&subset.addresses) + count(&subset.not_ready_addresses)).sum();
    if total <= MAX {
        return (subsets, false);
    }
    let mut room = MAX;
    let mut cut = |addresses: &mut Option<Vec<EndpointAddress>>| {
        if let Some(list) = addresses {
            list.truncate(room);
            room -= list.len();
            if list.is_empty() {
                *addresses = None;
            }
        }
    };
    subsets.iter_mut().for_each(|subset| cut(&mut subset.addresses));
    subsets.iter_mut().for_each(|subset| cut(&mut subset.not_ready_addresses));
    subsets.retain(|subset| subset.addresses.is_some() || subset.not_ready_addresses.is_some());
    (subsets, true)
}
