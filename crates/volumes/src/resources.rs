//! What a pod asks for as a whole and its QoS class (upstream `k8s.io/component-helpers/resource/helpers.go` and
//! `pkg/apis/core/v1/helper/qos/qos.go`).

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use api::quantity::Quantity as Amount;

pub type Amounts = BTreeMap<String, Amount>;

/// The number of a quantity the API server has validated; one that is not a number counts as nothing.
pub fn amount(quantity: &Quantity) -> Amount {
    Amount::parse(&quantity.0).unwrap_or_default()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    /// The API's spelling, as in `status.qosClass`.
    pub fn as_str(self) -> &'static str {
        match self {
            QosClass::Guaranteed => "Guaranteed",
            QosClass::Burstable => "Burstable",
            QosClass::BestEffort => "BestEffort",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Requests,
    Limits,
}

/// `PodRequests`: containers, restartable init containers, the largest init step, pod-level resources, overhead.
pub fn pod_requests(pod: &Pod) -> Amounts {
    total(pod, Side::Requests)
}

/// `PodLimits`: as [`pod_requests`]; overhead is added only where a limit is set.
pub fn pod_limits(pod: &Pod) -> Amounts {
    total(pod, Side::Limits)
}

fn total(pod: &Pod, side: Side) -> Amounts {
    let Some(spec) = &pod.spec else {
        return Amounts::new();
    };
    let mut total = Amounts::new();
    for container in &spec.containers {
        add(&mut total, &of(container.resources.as_ref(), side));
    }
    let (mut restartable, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut step = of(container.resources.as_ref(), side);
        if is_restartable_init(container) {
            add(&mut total, &step);
            add(&mut restartable, &step);
            step = restartable.clone();
        } else {
            add(&mut step, &restartable);
        }
        max(&mut peak, &step);
    }
    max(&mut total, &peak);
    for (name, value) in of(spec.resources.as_ref(), side) {
        if is_pod_level_resource(&name) {
            total.insert(name, value);
        }
    }
    for (name, value) in spec.overhead.iter().flatten() {
        let value = amount(value);
        match total.get_mut(name) {
            Some(present) if side == Side::Requests || !present.is_zero() => *present += value,
            None if side == Side::Requests => drop(total.insert(name.clone(), value)),
            _ => {}
        }
    }
    total
}

/// An init container that keeps running beside the others (a sidecar).
pub fn is_restartable_init(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn is_pod_level_resource(name: &str) -> bool {
    name == "cpu" || name == "memory" || name.starts_with("hugepages-")
}

fn of(resources: Option<&ResourceRequirements>, side: Side) -> Amounts {
    let list = resources.and_then(|resources| match side {
        Side::Requests => resources.requests.as_ref(),
        Side::Limits => resources.limits.as_ref(),
    });
    list.into_iter().flatten().map(|(name, quantity)| (name.clone(), amount(quantity))).collect()
}

fn add(to: &mut Amounts, from: &Amounts) {
    for (name, value) in from {
        let entry = to.entry(name.clone()).or_default();
        *entry += *value;
    }
}

fn max(to: &mut Amounts, from: &Amounts) {
    for (name, value) in from {
        let entry = to.entry(name.clone()).or_default();
        *entry = (*entry).max(*value);
    }
}

/// Whether every container (init containers too) sets a limit of this resource, or the pod does so for all of them.
pub fn limits_declared(spec: &PodSpec, resource: &str) -> bool {
    let set = |resources: Option<&ResourceRequirements>| {
        let limit = resources.and_then(|r| r.limits.as_ref()).and_then(|limits| limits.get(resource));
        limit.is_some_and(|limit| !amount(limit).is_zero())
    };
    if set(spec.resources.as_ref()) {
        return true;
    }
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).all(|c| set(c.resources.as_ref()))
}

/// `GetPodQOS`: the class in the pod's status where there is one, else computed.
pub fn qos_class(pod: &Pod) -> QosClass {
    match pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        Some("Guaranteed") => QosClass::Guaranteed,
        Some("Burstable") => QosClass::Burstable,
        Some("BestEffort") => QosClass::BestEffort,
        _ => compute_qos_class(pod),
    }
}

/// `ComputePodQOS`: cpu and memory of all containers and init containers; pod-level resources stand for all of them.
pub fn compute_qos_class(pod: &Pod) -> QosClass {
    let Some(spec) = &pod.spec else {
        return QosClass::BestEffort;
    };
    let empty = BTreeMap::new();
    let pod_level = spec.resources.as_ref().filter(|r| r.requests.is_some() || r.limits.is_some());
    let parts: Vec<Option<&ResourceRequirements>> = match pod_level {
        Some(resources) => vec![Some(resources)],
        None => {
            let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            containers.map(|container| container.resources.as_ref()).collect()
        }
    };
    let (mut requests, mut limits, mut guaranteed) = (Amounts::new(), Amounts::new(), true);
    for part in parts {
        let list = |side: Side| match side {
            Side::Requests => part.and_then(|r| r.requests.as_ref()).unwrap_or(&empty),
            Side::Limits => part.and_then(|r| r.limits.as_ref()).unwrap_or(&empty),
        };
        collect_qos(&mut requests, list(Side::Requests));
        let named = collect_qos(&mut limits, list(Side::Limits));
        guaranteed &= named == 2;
    }
    if requests.is_empty() && limits.is_empty() {
        QosClass::BestEffort
    } else if guaranteed && requests == limits {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

/// Adds the resources that decide the class; answers how many of them the list sets.
fn collect_qos(to: &mut Amounts, list: &BTreeMap<String, Quantity>) -> usize {
    let mut named = 0;
    for resource in ["cpu", "memory"] {
        if let Some(value) = list.get(resource).map(amount).filter(|value| *value > Amount::ZERO) {
            named += 1;
            let entry = to.entry(resource.to_owned()).or_default();
            *entry += value;
        }
    }
    named
}
