//! Claims: made before their pod, and owned so that they go when the retention policy says
//! (upstream stateful_pod_control.go, stateful_set_utils.go `updateClaimOwnerRefForSetAndPod`).

use client::{
    Kind,
    apimachinery::pkg::apis::meta::v1::OwnerReference,
    kinds::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, Pod},
    },
};

use super::{
    identity::{claim, claim_name, claim_templates, ordinals},
    plan::Inputs,
};
use crate::{
    plan::{Plan, PlannedEvent},
    shared::{is_deleting, owners},
};

/// Creates what the ordinal's pod needs. False where a claim is being deleted: its pod must wait for the next one.
pub fn create_missing(plan: &mut Plan, inputs: &Inputs, ordinal: i32) -> bool {
    let set = &*inputs.set;
    for template in claim_templates(set) {
        let name = claim_name(set, template, ordinal);
        match inputs.claims.iter().find(|claim| claim.name() == name) {
            Some(claim) if is_deleting(&**claim) => return false,
            Some(_) => {}
            None => {
                let mut wanted = claim(set, template, ordinal);
                let references = references(set, None, ordinal);
                wanted.metadata.owner_references = (!references.is_empty()).then_some(references);
                let message =
                    format!("create Claim {name} Pod {}-{ordinal} in StatefulSet {} success", set.name(), set.name());
                plan.create(&wanted)
                    .ignore_already_exists()
                    .then(PlannedEvent::normal(set, "SuccessfulCreate", message))
                    .on_failure(PlannedEvent::warning(set, "FailedCreate", "create Claim failed: "));
            }
        }
    }
    true
}

/// Whether the policy deletes the claims of ordinals scaled away, and those of a deleted set.
fn policy(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |value: Option<&String>| value.is_some_and(|value| value == "Delete");
    (
        deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
        deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
    )
}

/// The set's reference, unless the ordinal is on its way out under a policy of its own: then the pod's.
fn references(set: &StatefulSet, pod: Option<&Pod>, ordinal: i32) -> Vec<OwnerReference> {
    let (when_scaled, when_deleted) = policy(set);
    let is_condemned = !ordinals(set).contains(&ordinal);
    let mut references = Vec::new();
    if when_deleted && !(when_scaled && is_condemned) {
        references.push(owners::controller_ref(set));
    }
    if let Some(pod) = pod.filter(|_| when_scaled && is_condemned) {
        references.push(owners::controller_ref(pod));
    }
    references
}

/// Corrects the owners of the pod's claims; others' references stay.
pub fn retain(plan: &mut Plan, inputs: &Inputs, pod: &Pod, ordinal: i32) {
    let set = &*inputs.set;
    let wanted = references(set, Some(pod), ordinal);
    for template in claim_templates(set) {
        let name = claim_name(set, template, ordinal);
        let Some(claim) = inputs.claims.iter().find(|claim| claim.name() == name) else {
            continue;
        };
        let current = claim.metadata.owner_references.clone().unwrap_or_default();
        let is_ours = |reference: &OwnerReference| {
            reference.uid == set.uid()
                || reference.uid == pod.uid()
                || owners::names_kind::<Pod>(reference) && reference.name == pod.name()
        };
        let uids = |references: &[OwnerReference]| {
            references.iter().filter(|one| is_ours(one)).map(|one| one.uid.clone()).collect::<Vec<_>>()
        };
        if uids(&current) == uids(&wanted) {
            continue;
        }
        let mut references: Vec<OwnerReference> = current.into_iter().filter(|reference| !is_ours(reference)).collect();
        references.extend(wanted.iter().cloned());
        let mut claim: PersistentVolumeClaim = (**claim).clone();
        claim.metadata.owner_references = (!references.is_empty()).then_some(references);
        plan.update(&claim);
    }
}
