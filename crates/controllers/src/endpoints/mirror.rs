//! EndpointSlices from Endpoints that someone else keeps for a service without a selector
//! (upstream pkg/controller/endpointslicemirroring).

use std::{collections::BTreeMap, sync::Arc};

use client::{
    Kind,
    apimachinery::pkg::apis::meta::v1::OwnerReference,
    kinds::{
        core::v1::{EndpointAddress, Endpoints, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
};

use super::{
    HEADLESS, MANAGED_BY, SERVICE_NAME,
    backends::is_v6,
    slicing::{Desired, Parent, reconcile},
};
use crate::{
    plan::Plan,
    shared::{annotation, is_deleting, label, owners},
};

pub const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// `--mirroring-max-endpoints-per-subset`.
const MAX_PER_SUBSET: usize = 1000;

pub struct Inputs {
    pub service: Option<Arc<Service>>,
    pub endpoints: Option<Arc<Endpoints>>,
    /// Slices mirrored before.
    pub slices: Vec<Arc<EndpointSlice>>,
}

pub fn plan(inputs: &Inputs) -> Plan {
    let mut plan = Plan::default();
    let is_mirrored = |endpoints: &&Arc<Endpoints>| {
        label(&***endpoints, SKIP) != Some("true") && annotation(&***endpoints, LEADER).is_empty()
    };
    let has_no_selector = inputs.service.as_ref().is_some_and(|service| {
        service
            .spec
            .as_ref()
            .is_some_and(|spec| spec.selector.is_none() && spec.type_.as_deref() != Some("ExternalName"))
    });
    let Some(endpoints) = inputs.endpoints.as_ref().filter(is_mirrored).filter(|_| has_no_selector) else {
        for slice in &inputs.slices {
            plan.delete(&**slice);
        }
        return plan;
    };
    let parent = parent(endpoints);
    for (family, wants_v6) in [("IPv4", false), ("IPv6", true)] {
        let existing: Vec<_> = inputs.slices.iter().filter(|slice| slice.address_type == family).cloned().collect();
        reconcile(&mut plan, &parent, family, &existing, desired(endpoints, wants_v6), false);
    }
    plan
}

fn parent(endpoints: &Endpoints) -> Parent {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.remove("endpoints.kubernetes.io/managed-by");
    labels.insert(SERVICE_NAME.into(), endpoints.name().into());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let mut annotations: BTreeMap<String, String> = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations.remove("endpoints.kubernetes.io/last-change-trigger-time");
    Parent {
        namespace: endpoints.namespace().into(),
        name: endpoints.name().into(),
        owner: OwnerReference { ..owners::controller_ref(endpoints) },
        labels,
        annotations,
        is_deleting: is_deleting(endpoints),
        max_per_slice: MAX_PER_SUBSET,
    }
}

fn desired(endpoints: &Endpoints, wants_v6: bool) -> Desired {
    let mut desired = Desired::default();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<EndpointPort> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(port.port),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        let family = ready.chain(not_ready).filter(|(address, _)| is_v6(&address.ip) == wants_v6);
        for (address, is_ready) in family.take(MAX_PER_SUBSET) {
            desired.add(ports.clone(), endpoint(address, is_ready));
        }
    }
    desired
}

fn endpoint(address: &EndpointAddress, is_ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(is_ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}
