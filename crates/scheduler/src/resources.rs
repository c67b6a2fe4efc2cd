//! What pods ask for and nodes have, in the units the scheduler counts in.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use client::{
    apimachinery::pkg::api::resource::Quantity as Text,
    kinds::core::v1::{Container, ContainerStatus, Pod, ResourceRequirements},
};

/// A request of a container that names none, where nodes are scored (upstream `DefaultMilliCPURequest`).
pub const DEFAULT_MILLI_CPU: i64 = 100;
/// Bytes (upstream `DefaultMemoryRequest`).
pub const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts of resources: thousandths of a CPU, bytes, and counts of everything else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Extended resources, huge pages and other resources of a node, by name.
    pub scalar: BTreeMap<String, i64>,
}

type List = BTreeMap<String, Quantity>;

impl Resources {
    fn new(list: &List) -> Resources {
        let mut resources = Resources::default();
        for (name, quantity) in list {
            match name.as_str() {
                "cpu" => resources.milli_cpu = quantity.milli_value(),
                "memory" => resources.memory = quantity.value(),
                "ephemeral-storage" => resources.ephemeral_storage = quantity.value(),
                name if is_scalar(name) => {
                    resources.scalar.insert(name.to_owned(), quantity.value());
                }
                _ => {}
            }
        }
        resources
    }

    /// A node's allocatable resources with its number of pods.
    pub fn allocatable(list: Option<&BTreeMap<String, Text>>) -> (Resources, i64) {
        let list = parse(list);
        (Resources::new(&list), list.get("pods").map_or(0, |pods| pods.value()))
    }

    pub fn add(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_add);
    }

    pub fn subtract(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_sub);
    }

    fn combine(&mut self, other: &Resources, with: fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            match self.scalar.get_mut(name) {
                Some(sum) => *sum = with(*sum, *amount),
                None => drop(self.scalar.insert(name.clone(), with(0, *amount))),
            }
        }
    }

    pub fn scalar(&self, name: &str) -> i64 {
        self.scalar.get(name).copied().unwrap_or(0)
    }

    pub fn is_zero(&self) -> bool {
        self.milli_cpu == 0 && self.memory == 0 && self.ephemeral_storage == 0 && self.scalar.is_empty()
    }
}

/// Extended resources, huge pages, attachable volumes and resources in Kubernetes' own namespace
/// (`pkg/scheduler/util/utils.go`, `IsScalarResourceName`).
fn is_scalar(name: &str) -> bool {
    name.contains('/') || name.starts_with("hugepages-") || name.starts_with("attachable-volumes-")
}

/// Text that is no quantity counts as nothing: the API server refuses it.
fn parse(list: Option<&BTreeMap<String, Text>>) -> List {
    let parse = |(name, text): (&String, &Text)| Some((name.clone(), Quantity::parse(&text.0).ok()?));
    list.into_iter().flatten().filter_map(parse).collect()
}

fn add(sum: &mut List, other: &List) {
    for (name, quantity) in other {
        *sum.entry(name.clone()).or_default() += *quantity;
    }
}

fn raise(floor: &mut List, other: &List) {
    for (name, quantity) in other {
        let entry = floor.entry(name.clone()).or_insert(*quantity);
        *entry = (*entry).max(*quantity);
    }
}

/// What a pod asks of its node: containers together, or an init container beside the sidecars started before it, whichever
/// is more; resources of the pod itself in place of their sum; overhead on top
/// (component-helpers `resource/helpers.go`, `PodRequests`).
pub fn pod_requests(pod: &Pod) -> Resources {
    Resources::new(&requests(pod, false))
}

/// CPU and memory of a pod where containers that name no request count with a default: what scoring looks at.
pub fn non_zero_requests(pod: &Pod) -> (i64, i64) {
    let resources = Resources::new(&requests(pod, true));
    (resources.milli_cpu, resources.memory)
}

fn requests(pod: &Pod, defaults: bool) -> List {
    let Some(spec) = &pod.spec else { return List::new() };
    let mut sum = List::new();
    for container in &spec.containers {
        add(&mut sum, &container_requests(pod, container, true, defaults));
    }
    let mut sidecars = List::new();
    let mut init = List::new();
    for container in spec.init_containers.iter().flatten() {
        let restarts = container.restart_policy.as_deref() == Some("Always");
        let mut own = container_requests(pod, container, restarts, defaults);
        if restarts {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            own = sidecars.clone();
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut init, &own);
    }
    raise(&mut sum, &init);
    for (name, quantity) in parse(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref())) {
        if name == "cpu" || name == "memory" || name.starts_with("hugepages-") {
            sum.insert(name, quantity);
        }
    }
    add(&mut sum, &parse(spec.overhead.as_ref()));
    sum
}

/// A container's requests. While it is resized in place, what it holds and what it was promised count as well.
fn container_requests(pod: &Pod, container: &Container, resizable: bool, defaults: bool) -> List {
    let of =
        |resources: Option<&ResourceRequirements>| parse(resources.and_then(|resources| resources.requests.as_ref()));
    let mut requests = of(container.resources.as_ref());
    if resizable
        && let Some(status) = container_status(pod, &container.name)
        && status.resources.is_some()
    {
        if resize_is_infeasible(pod) {
            requests.clear();
        }
        raise(&mut requests, &of(status.resources.as_ref()));
        raise(&mut requests, &parse(status.allocated_resources.as_ref()));
    }
    if defaults {
        requests.entry("cpu".into()).or_insert(Quantity::milli(DEFAULT_MILLI_CPU, Default::default()));
        requests.entry("memory".into()).or_insert(Quantity::new(DEFAULT_MEMORY, Default::default()));
    }
    requests
}

fn container_status<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let mut statuses =
        status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    statuses.find(|status| status.name == name)
}

fn resize_is_infeasible(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "PodResizePending" && condition.reason.as_deref() == Some("Infeasible"))
}
