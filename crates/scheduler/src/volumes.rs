//! Volumes between the decision and the binding of a pod (upstream `plugins/volumebinding/assume_cache.go`).

use std::sync::Arc;

use client::{Kind, kinds::core::v1::ObjectReference};

use crate::{framework::PreBind, objects::Objects, plugins::is_bound, pod::PodInfo};

/// Counts volumes as taken that are about to be bound to a claim, so that the next pod does not choose them. The watch
/// brings the truth.
pub fn assume(steps: &[PreBind], objects: &mut Objects) {
    for step in steps {
        let PreBind::BindVolume { volume, claim } = step else { continue };
        let Some(volume) = objects.volumes.get("", volume) else { continue };
        let mut volume = (**volume).clone();
        volume.spec.get_or_insert_default().claim_ref = Some(ObjectReference {
            namespace: Some(claim.namespace.clone()),
            name: Some(claim.name.clone()),
            uid: objects.claims.get(&claim.namespace, &claim.name).map(|claim| claim.uid().to_owned()),
            ..ObjectReference::default()
        });
        objects.volumes.insert(Arc::new(volume));
    }
}

pub fn all_bound(pod: &PodInfo, objects: &Objects) -> bool {
    let bound = |name: &str| objects.claims.get(pod.namespace(), name).is_some_and(|claim| is_bound(claim));
    pod.claims.iter().all(|claim| bound(&claim.name))
}
