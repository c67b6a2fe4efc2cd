//! Owner references: who controls an object, and taking or leaving that control by patch
//! (upstream controller_ref_manager.go).

use std::sync::Arc;

use api::{model::split_api_version, selector::LabelSelector as Selector};
use client::{
    Delta, Informer, Kind, ObjectKey, PatchKind, WorkQueue, apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use serde_json::json;

use super::{is_deleting, selector};
use crate::plan::Plan;

/// A controlling owner reference to `owner` (metav1 `NewControllerRef`).
pub fn controller_ref<K: Kind>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.into(),
        kind: K::KIND.into(),
        name: owner.name().into(),
        uid: owner.uid().into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

pub fn controller_of<K: Kind>(object: &K) -> Option<&OwnerReference> {
    object.meta().owner_references.iter().flatten().find(|reference| reference.controller == Some(true))
}

pub fn is_controlled_by<K: Kind>(object: &K, uid: &str) -> bool {
    controller_of(object).is_some_and(|reference| reference.uid == uid)
}

/// Whether the reference names this kind, in whatever version of its group.
pub fn names_kind<K: Kind>(reference: &OwnerReference) -> bool {
    let (group, _) = split_api_version(&reference.api_version);
    reference.kind == K::KIND && group == K::GROUP
}

/// Index by controller: the controller's UID, or for an object without one `orphan/NAMESPACE`.
pub const BY_CONTROLLER: &str = "controller";

pub fn index_by_controller<K: Kind>(informer: &Informer<K>) {
    informer.add_index(BY_CONTROLLER, |object| match controller_of(object) {
        Some(reference) => vec![reference.uid.clone()],
        None => vec![format!("orphan/{}", object.namespace())],
    });
}

/// Everything `owner` controls or could adopt.
pub fn candidates<K: Kind, O: Kind>(informer: &Informer<K>, owner: &O) -> Vec<Arc<K>> {
    let mut found = informer.by_index(BY_CONTROLLER, owner.uid());
    found.extend(informer.by_index(BY_CONTROLLER, &format!("orphan/{}", owner.namespace())));
    found.sort_by(|a, b| a.name().cmp(b.name()));
    found
}

/// Candidates sorted by what the owner does with each.
pub struct Claimed<K> {
    /// Controlled and matching, with what is adopted.
    pub owned: Vec<Arc<K>>,
    pub adopt: Vec<Arc<K>>,
    pub release: Vec<Arc<K>>,
}

/// Sorts candidates: controlled ones that no longer match are released, matching orphans adopted. An owner being deleted
/// does neither.
pub fn claim<K: Kind, O: Kind>(owner: &O, selector: &Selector, candidates: Vec<Arc<K>>) -> Claimed<K> {
    let mut claimed = Claimed { owned: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    let leaving = is_deleting(owner);
    for object in candidates {
        let matches = selector::matches(selector, &*object);
        match controller_of(&*object) {
            Some(reference) if reference.uid != owner.uid() => {}
            Some(_) if matches => claimed.owned.push(object),
            Some(_) if leaving || is_deleting(&*object) => {}
            Some(_) => claimed.release.push(object),
            None if !matches || leaving || is_deleting(&*object) || object.namespace() != owner.namespace() => {}
            None => {
                claimed.adopt.push(object.clone());
                claimed.owned.push(object);
            }
        }
    }
    claimed
}

/// The patches that make a claim true. A vanished object is none of the owner's business any more.
pub fn write_claim<K: Kind, O: Kind>(plan: &mut Plan, owner: &O, claimed: &Claimed<K>) {
    for object in &claimed.adopt {
        let patch = json!({"metadata": {"uid": object.uid(), "ownerReferences": [controller_ref(owner)]}});
        plan.patch(&**object, PatchKind::Strategic, &patch).ignore_not_found().while_alive(owner);
    }
    for object in &claimed.release {
        let reference = json!({"$patch": "delete", "uid": owner.uid()});
        let patch = json!({"metadata": {"uid": object.uid(), "ownerReferences": [reference]}});
        plan.patch(&**object, PatchKind::Strategic, &patch).ignore_not_found();
    }
}

/// Queues the object itself at every change.
pub fn enqueue_self<K: Kind>(informer: &Informer<K>, queue: &WorkQueue<ObjectKey>) {
    let queue = queue.clone();
    informer.on_event(move |delta| queue.add(newest(delta).key()));
}

/// Queues the controller of kind `O`, before and after the change.
pub fn enqueue_controller<K: Kind, O: Kind>(informer: &Informer<K>, queue: &WorkQueue<ObjectKey>) {
    let queue = queue.clone();
    informer.on_event(move |delta| {
        let enqueue = |object: &K| {
            if let Some(reference) = controller_of(object).filter(|reference| names_kind::<O>(reference)) {
                queue.add(ObjectKey::new(object.namespace(), &reference.name));
            }
        };
        if let Delta::Updated { old, new } = delta
            && controller_of(&**old).map(|reference| &reference.uid)
                != controller_of(&**new).map(|reference| &reference.uid)
        {
            enqueue(old);
        }
        enqueue(newest(delta));
    });
}

/// Queues every owner whose selector matches an object that nobody controls (it may be adopted).
pub fn enqueue_adopters<K: Kind, O: Kind>(
    informer: &Informer<K>,
    owners: &Informer<O>,
    queue: &WorkQueue<ObjectKey>,
    selector_of: fn(&O) -> Selector,
) {
    let (queue, owners) = (queue.clone(), owners.clone());
    informer.on_event(move |delta| {
        let object = newest(delta);
        if matches!(delta, Delta::Deleted(_)) || controller_of(&**object).is_some() {
            return;
        }
        for owner in owners.list_namespace(object.namespace()) {
            if selector::matches(&selector_of(&owner), &**object) {
                queue.add(owner.key());
            }
        }
    });
}

pub fn newest<K>(delta: &Delta<K>) -> &Arc<K> {
    match delta {
        Delta::Added(object) | Delta::Deleted(object) | Delta::Updated { new: object, .. } => object,
    }
}
