//! Where a Service's traffic goes: EndpointSlices, the older Endpoints, and slices mirrored from Endpoints written by hand
//! (upstream staging/src/k8s.io/endpointslice, pkg/controller/endpoint, pkg/controller/endpointslicemirroring).

pub mod backends;
pub mod mirror;
pub mod slices;
pub mod slicing;
pub mod subsets;

use std::sync::Arc;

use client::{
    Delta, Informer, Kind, ObjectKey, WorkQueue,
    kinds::{
        core::v1::{Endpoints, Node, Pod, Service},
        discovery::v1::EndpointSlice,
    },
};

use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller},
    shared::{label, owners, selector},
};

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const HEADLESS: &str = "service.kubernetes.io/headless";
/// Index of slices by the service they are labelled with.
const BY_SERVICE: &str = "service";

fn selector_of(service: &Service) -> api::selector::LabelSelector {
    selector::exact(service.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
}

fn pods_of(pods: &Informer<Pod>, service: &Service) -> Vec<Arc<Pod>> {
    let selector = selector_of(service);
    if selector.is_nothing() {
        return Vec::new();
    }
    pods.list_namespace(service.namespace()).into_iter().filter(|pod| selector::matches(&selector, &**pod)).collect()
}

/// Queues the services a pod belongs or belonged to, where something an endpoint shows has changed.
fn enqueue_services(pods: &Informer<Pod>, services: &Informer<Service>, queue: &WorkQueue<ObjectKey>) {
    let (services, queue) = (services.clone(), queue.clone());
    pods.on_event(move |delta| {
        let pod = owners::newest(delta);
        let old = match delta {
            Delta::Updated { old, .. } if !backends::differ(old, pod) => return,
            Delta::Updated { old, .. } if old.metadata.labels != pod.metadata.labels => Some(old),
            _ => None,
        };
        for service in services.list_namespace(pod.namespace()) {
            let selector = selector_of(&service);
            if selector::matches(&selector, &**pod) || old.is_some_and(|old| selector::matches(&selector, &**old)) {
                queue.add(service.key());
            }
        }
    });
}

fn index_slices(slices: &Informer<EndpointSlice>) {
    slices.add_index(BY_SERVICE, |slice| {
        let service = label(slice, SERVICE_NAME);
        service.map(|service| format!("{}/{service}", slice.namespace())).into_iter().collect()
    });
}

/// Slices of the service `key` written by `manager`.
fn slices_of(slices: &Informer<EndpointSlice>, key: &ObjectKey, manager: &str) -> Vec<Arc<EndpointSlice>> {
    let all = slices.by_index(BY_SERVICE, &key.to_string());
    all.into_iter().filter(|slice| label(&**slice, MANAGED_BY) == Some(manager)).collect()
}

/// Queues the service (or Endpoints) of a slice that `manager` keeps.
fn enqueue_by_slice(slices: &Informer<EndpointSlice>, queue: &WorkQueue<ObjectKey>, manager: &'static str) {
    let queue = queue.clone();
    slices.on_event(move |delta| {
        let slice = owners::newest(delta);
        if let (Some(service), true) = (label(&**slice, SERVICE_NAME), label(&**slice, MANAGED_BY) == Some(manager)) {
            queue.add(ObjectKey::new(slice.namespace(), service));
        }
    });
}

struct SliceController {
    services: Informer<Service>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    slices: Informer<EndpointSlice>,
}

impl Controller for SliceController {
    fn name(&self) -> &'static str {
        "endpointslice-controller"
    }

    fn plan(&self, key: &ObjectKey, _: &Context) -> Plan {
        let Some(service) = self.services.get(&key.namespace, &key.name) else {
            return Plan::default();
        };
        let pods = pods_of(&self.pods, &service);
        let zone = |pod: &Pod| {
            let node = self.nodes.get("", crate::shared::pods::node_name(pod))?;
            label(&*node, "topology.kubernetes.io/zone").filter(|zone| !zone.is_empty()).map(str::to_owned)
        };
        let zones = pods.iter().map(|pod| zone(pod)).collect();
        slices::plan(&slices::Inputs { slices: slices_of(&self.slices, key, slices::MANAGER), service, pods, zones })
    }
}

pub fn register_slices(setup: &mut Setup) {
    let services = setup.informer::<Service>();
    let pods = setup.informer::<Pod>();
    let nodes = setup.informer::<Node>();
    let slices = setup.informer::<EndpointSlice>();
    let queue = setup.queue("endpointslice-controller");
    index_slices(&slices);
    owners::enqueue_self(&services, &queue);
    enqueue_services(&pods, &services, &queue);
    enqueue_by_slice(&slices, &queue, slices::MANAGER);
    setup.run(SliceController { services, pods, nodes, slices }, queue, 5);
}

struct EndpointsController {
    services: Informer<Service>,
    pods: Informer<Pod>,
    endpoints: Informer<Endpoints>,
}

impl Controller for EndpointsController {
    fn name(&self) -> &'static str {
        "endpoints-controller"
    }

    fn plan(&self, key: &ObjectKey, _: &Context) -> Plan {
        let current = self.endpoints.get(&key.namespace, &key.name);
        match self.services.get(&key.namespace, &key.name) {
            Some(service) => {
                let pods = pods_of(&self.pods, &service);
                subsets::plan(&subsets::Inputs { service, pods, current })
            }
            None => subsets::plan_deleted(current.as_deref()),
        }
    }
}

pub fn register_endpoints(setup: &mut Setup) {
    let services = setup.informer::<Service>();
    let pods = setup.informer::<Pod>();
    let endpoints = setup.informer::<Endpoints>();
    let queue = setup.queue("endpoints-controller");
    owners::enqueue_self(&services, &queue);
    owners::enqueue_self(&endpoints, &queue);
    enqueue_services(&pods, &services, &queue);
    setup.run(EndpointsController { services, pods, endpoints }, queue, 5);
}

struct MirrorController {
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
}

impl Controller for MirrorController {
    fn name(&self) -> &'static str {
        "endpointslice-mirroring-controller"
    }

    fn plan(&self, key: &ObjectKey, _: &Context) -> Plan {
        mirror::plan(&mirror::Inputs {
            service: self.services.get(&key.namespace, &key.name),
            endpoints: self.endpoints.get(&key.namespace, &key.name),
            slices: slices_of(&self.slices, key, mirror::MANAGER),
        })
    }
}

pub fn register_mirroring(setup: &mut Setup) {
    let services = setup.informer::<Service>();
    let endpoints = setup.informer::<Endpoints>();
    let slices = setup.informer::<EndpointSlice>();
    let queue = setup.queue("endpointslice-mirroring-controller");
    index_slices(&slices);
    owners::enqueue_self(&services, &queue);
    owners::enqueue_self(&endpoints, &queue);
    enqueue_by_slice(&slices, &queue, mirror::MANAGER);
    setup.run(MirrorController { services, endpoints, slices }, queue, 5);
}
