//! What happens to one object, from what is known of it, its owners and its dependents
//! (upstream garbagecollector.go `attemptToDeleteItem`, `processDeletingDependentsItem`, `attemptToOrphan`).

use std::{sync::Arc, time::Duration};

use client::{DeleteParams, PatchKind, Propagation, apimachinery::pkg::apis::meta::v1::OwnerReference};
use serde_json::{Value, json};

use super::graph::{FOREGROUND, ORPHAN};
use crate::{
    metadata::Meta,
    plan::{Plan, ResourceId, Target, Verb, Write},
};

pub struct Item {
    pub resource: Arc<ResourceId>,
    /// The object as the API has it now.
    pub latest: Meta,
    pub work: Work,
}

pub enum Work {
    /// Being deleted, leaving these dependents behind.
    Orphan(Vec<(Arc<ResourceId>, Meta)>),
    /// Being deleted once blocking dependents are gone.
    AwaitDependents(Vec<Dependent>),
    /// Not being deleted: is there an owner left?
    Collect { owners: Vec<(OwnerReference, OwnerState)>, dependents: Vec<Dependent> },
}

pub struct Dependent {
    pub uid: String,
    pub blocks: bool,
    pub awaits_dependents: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    Solid,
    /// There, but not yet in the graph.
    Unseen,
    Gone,
    /// Being deleted in the foreground.
    AwaitsDependents,
    /// A namespaced owner of an object without a namespace: never resolves.
    Invalid,
}

/// The writes, and the UIDs of other objects to look at.
pub fn decide(item: &Item) -> (Plan, Vec<String>) {
    let mut plan = Plan::default();
    let mut look = Vec::new();
    match &item.work {
        Work::Orphan(dependents) => orphan(&mut plan, item, dependents),
        Work::AwaitDependents(dependents) => {
            let blocking = dependents.iter().filter(|dependent| dependent.blocks);
            let waiting: Vec<_> = blocking.collect();
            if waiting.is_empty() {
                remove_finalizer(&mut plan, item, FOREGROUND);
            }
            look.extend(
                waiting.iter().filter(|dependent| !dependent.awaits_dependents).map(|dependent| dependent.uid.clone()),
            );
        }
        Work::Collect { owners, dependents } => collect(&mut plan, item, owners, dependents),
    }
    (plan, look)
}

fn collect(plan: &mut Plan, item: &Item, owners: &[(OwnerReference, OwnerState)], dependents: &[Dependent]) {
    let is = |state: OwnerState| owners.iter().any(|(_, owner)| *owner == state);
    if owners.is_empty() || is(OwnerState::Invalid) {
        return;
    }
    if is(OwnerState::Solid) || is(OwnerState::Unseen) {
        let kept: Vec<&OwnerReference> = owners
            .iter()
            .filter(|(_, state)| matches!(state, OwnerState::Solid | OwnerState::Unseen))
            .map(|(reference, _)| reference)
            .collect();
        if kept.len() < owners.len() {
            set_owners(plan, &item.resource, &item.latest, json!(kept));
        }
        if is(OwnerState::Unseen) {
            plan.requeue_after(Duration::from_secs(1));
        }
        return;
    }
    if is(OwnerState::AwaitsDependents) && !dependents.is_empty() {
        if dependents.iter().any(|dependent| dependent.awaits_dependents) {
            // Its own dependent waits in turn: a cycle would never end, so this object stops blocking its owners.
            let unblocked: Vec<OwnerReference> = owners
                .iter()
                .map(|(reference, _)| OwnerReference { block_owner_deletion: Some(false), ..reference.clone() })
                .collect();
            set_owners(plan, &item.resource, &item.latest, json!(unblocked));
            delete(plan, item, Propagation::Foreground, false);
        } else {
            delete(plan, item, Propagation::Foreground, true);
        }
        return;
    }
    let has = |finalizer: &str| item.latest.finalizers.iter().any(|one| one == finalizer);
    let propagation = match () {
        () if has(ORPHAN) => Propagation::Orphan,
        () if has(FOREGROUND) => Propagation::Foreground,
        () => Propagation::Background,
    };
    delete(plan, item, propagation, true);
}

/// `exactly`: only while the object still is as it was read, so that an owner added since saves it.
fn delete(plan: &mut Plan, item: &Item, propagation: Propagation, exactly: bool) {
    let params = DeleteParams {
        uid: Some(item.latest.uid.clone()),
        resource_version: exactly.then(|| item.latest.resource_version.clone()),
        propagation: Some(propagation),
        ..DeleteParams::default()
    };
    plan.push(Write::new(Verb::Delete(params), target(&item.resource, &item.latest), "")).ignore_not_found();
}

fn orphan(plan: &mut Plan, item: &Item, dependents: &[(Arc<ResourceId>, Meta)]) {
    for (resource, dependent) in dependents {
        let kept: Vec<_> = dependent.owner_references.iter().filter(|owner| owner.uid != item.latest.uid).collect();
        if kept.len() < dependent.owner_references.len() {
            set_owners(plan, resource, dependent, json!(kept));
        }
    }
    remove_finalizer(plan, item, ORPHAN);
}

fn target(resource: &ResourceId, meta: &Meta) -> Target {
    Target { resource: resource.clone(), namespace: meta.namespace.clone(), name: meta.name.clone() }
}

/// Merge patches of whole lists, held to the resourceVersion read: they work on custom resources too.
fn patch(plan: &mut Plan, resource: &ResourceId, meta: &Meta, field: &str, value: Value) {
    let mut metadata = json!({"uid": meta.uid, "resourceVersion": meta.resource_version});
    metadata[field] = value;
    let verb = Verb::Patch { kind: PatchKind::Merge, subresource: None };
    let body = json!({"metadata": metadata}).to_string();
    plan.push(Write::new(verb, target(resource, meta), body)).ignore_not_found();
}

fn set_owners(plan: &mut Plan, resource: &ResourceId, meta: &Meta, owners: Value) {
    patch(plan, resource, meta, "ownerReferences", owners);
}

fn remove_finalizer(plan: &mut Plan, item: &Item, finalizer: &str) {
    let kept: Vec<&String> = item.latest.finalizers.iter().filter(|one| *one != finalizer).collect();
    if kept.len() < item.latest.finalizers.len() {
        patch(plan, &item.resource, &item.latest, "finalizers", json!(kept));
    }
}
