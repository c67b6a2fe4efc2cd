//! Endpoints into slices: as few writes as possible, at most so many endpoints per slice
//! (upstream endpointslice/reconciler.go `reconcileByPortMapping`, `finalize`).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use client::{
    Kind,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
    kinds::discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
};

use crate::plan::Plan;

/// What all slices of one service have in common.
pub struct Parent {
    pub namespace: String,
    /// Name of the service; slices are called after it.
    pub name: String,
    pub owner: OwnerReference,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// No slices are created any more.
    pub is_deleting: bool,
    pub max_per_slice: usize,
}

/// Ports with their endpoints. Order and `None`s are made canonical, so that equal sets compare equal.
#[derive(Default)]
pub struct Desired(Vec<(Vec<EndpointPort>, Vec<Endpoint>)>);

impl Desired {
    pub fn add(&mut self, mut ports: Vec<EndpointPort>, endpoint: Endpoint) {
        ports.sort_by_key(port_key);
        match self.0.iter_mut().find(|(known, _)| *known == ports) {
            Some((_, endpoints)) => endpoints.push(endpoint),
            None => self.0.push((ports, vec![endpoint])),
        }
    }
}

fn port_key(port: &EndpointPort) -> (String, Option<i32>, String, String) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&port.name), port.port, text(&port.protocol), text(&port.app_protocol))
}

fn same_ports(a: &[EndpointPort], b: &[EndpointPort]) -> bool {
    let keys = |ports: &[EndpointPort]| ports.iter().map(port_key).collect::<BTreeSet<_>>();
    a.len() == b.len() && keys(a) == keys(b)
}

/// What makes an endpoint the same one, whatever its conditions.
fn identity(endpoint: &Endpoint) -> (Vec<String>, Option<String>, Option<String>) {
    let target = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone().or(target.name.clone()));
    (endpoint.addresses.clone(), endpoint.hostname.clone(), target)
}

fn without_revision(endpoint: &Endpoint) -> Endpoint {
    let mut endpoint = endpoint.clone();
    if let Some(target) = &mut endpoint.target_ref {
        target.resource_version = None;
    }
    endpoint
}

#[derive(Default)]
struct Changes {
    create: Vec<EndpointSlice>,
    update: Vec<EndpointSlice>,
    delete: Vec<Arc<EndpointSlice>>,
}

/// Brings the slices of one address type in line with `desired`. With none desired one empty slice stays, unless
/// `placeholder` is off.
pub fn reconcile(
    plan: &mut Plan,
    parent: &Parent,
    address_type: &str,
    existing: &[Arc<EndpointSlice>],
    desired: Desired,
    placeholder: bool,
) {
    let mut changes = Changes::default();
    let mut used = BTreeSet::new();
    for (ports, endpoints) in desired.0 {
        let matching = |slice: &&Arc<EndpointSlice>| same_ports(slice.ports.as_deref().unwrap_or_default(), &ports);
        let slices: Vec<Arc<EndpointSlice>> = existing.iter().filter(matching).cloned().collect();
        used.extend(slices.iter().map(|slice| slice.name().to_owned()));
        let empty = new_slice(parent, address_type, ports);
        fill(&mut changes, parent, slices, endpoints, &empty);
    }
    changes.delete.extend(existing.iter().filter(|slice| !used.contains(slice.name())).cloned());
    if placeholder && existing.len() == changes.delete.len() && changes.create.is_empty() {
        let empty = new_slice(parent, address_type, Vec::new());
        let is_placeholder = |slice: &EndpointSlice| {
            slice.endpoints.as_ref().is_none_or(Vec::is_empty)
                && slice.ports.as_ref().is_none_or(Vec::is_empty)
                && slice.metadata.labels == empty.metadata.labels
        };
        if changes.delete.len() == 1 && is_placeholder(&changes.delete[0]) {
            changes.delete.clear();
        } else {
            changes.create.push(empty);
        }
    }
    write(plan, parent, changes);
}

fn new_slice(parent: &Parent, address_type: &str, ports: Vec<EndpointPort>) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            namespace: Some(parent.namespace.clone()),
            generate_name: Some(format!("{}-", parent.name)),
            labels: Some(parent.labels.clone()),
            annotations: (!parent.annotations.is_empty()).then(|| parent.annotations.clone()),
            owner_references: Some(vec![parent.owner.clone()]),
            ..ObjectMeta::default()
        },
        address_type: address_type.into(),
        endpoints: Some(Vec::new()),
        ports: Some(ports),
    }
}

fn fill(
    changes: &mut Changes,
    parent: &Parent,
    slices: Vec<Arc<EndpointSlice>>,
    endpoints: Vec<Endpoint>,
    empty: &EndpointSlice,
) {
    let mut left: BTreeMap<_, Endpoint> =
        endpoints.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
    let mut updated: Vec<EndpointSlice> = Vec::new();
    let mut unchanged: Vec<Arc<EndpointSlice>> = Vec::new();
    for slice in slices {
        let before = slice.endpoints.as_deref().unwrap_or_default();
        let mut kept = Vec::new();
        let mut is_changed = false;
        for endpoint in before {
            match left.remove(&identity(endpoint)) {
                Some(wanted) => {
                    is_changed |= without_revision(&wanted) != without_revision(endpoint);
                    kept.push(wanted);
                }
                None => is_changed = true,
            }
        }
        let has_labels = slice.metadata.labels.as_ref() == Some(&parent.labels);
        if is_changed && kept.is_empty() {
            changes.delete.push(slice);
        } else if is_changed || !has_labels {
            let mut slice = (*slice).clone();
            slice.endpoints = Some(kept);
            slice.metadata.labels = Some(parent.labels.clone());
            updated.push(slice);
        } else {
            unchanged.push(slice);
        }
    }
    let mut left: Vec<Endpoint> = left.into_values().collect();
    let count = |slice: &EndpointSlice| slice.endpoints.as_ref().map_or(0, Vec::len);
    updated.sort_by_key(|slice| Reverse(count(slice)));
    for slice in &mut updated {
        let room = parent.max_per_slice.saturating_sub(count(slice)).min(left.len());
        slice.endpoints.get_or_insert_default().extend(left.drain(..room));
    }
    changes.update.extend(updated);
    while !left.is_empty() {
        let fits = |slice: &EndpointSlice| count(slice) + left.len() <= parent.max_per_slice;
        let fullest = (0..unchanged.len()).filter(|at| fits(&unchanged[*at])).max_by_key(|at| count(&unchanged[*at]));
        let mut slice = match fullest {
            Some(at) => (*unchanged.remove(at)).clone(),
            None => empty.clone(),
        };
        let room = parent.max_per_slice.saturating_sub(count(&slice)).clamp(1, left.len());
        slice.endpoints.get_or_insert_default().extend(left.drain(..room));
        if slice.name().is_empty() { changes.create.push(slice) } else { changes.update.push(slice) }
    }
}

/// A slice to delete becomes one to create where it can: one write instead of two.
fn write(plan: &mut Plan, parent: &Parent, mut changes: Changes) {
    while !changes.delete.is_empty() {
        let Some(new) = changes.create.pop() else { break };
        let slice = changes.delete.remove(0);
        let mut reused = (*slice).clone();
        reused.metadata.labels = new.metadata.labels;
        reused.endpoints = new.endpoints;
        reused.ports = new.ports;
        changes.update.push(reused);
    }
    if !parent.is_deleting {
        for slice in &changes.create {
            plan.create(slice);
        }
    }
    for slice in &changes.update {
        plan.update(slice);
    }
    for slice in &changes.delete {
        plan.delete(&**slice);
    }
}
