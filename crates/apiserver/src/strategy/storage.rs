//! Volumes and claims (`pkg/registry/core/persistentvolume`, `persistentvolumeclaim`: strategy.go).

use api::{Resource, Value};
use jiff::Timestamp;

use super::Strategy;

pub struct Volumes;

impl Strategy for Volumes {
    /// Its phase begins with it.
    fn prepare_create(&self, object: &mut Value) {
        let now = object.str_at(&["metadata", "creationTimestamp"]).to_owned();
        object.set(&["status", "lastPhaseTransitionTime"], now);
    }

    /// Who changes the phase need not say when; who changes something else keeps when it last did.
    fn prepare_status(&self, object: &mut Value, old: &Value, now: Timestamp) {
        let (phase, time) = (["status", "phase"], ["status", "lastPhaseTransitionTime"]);
        if object.str_at(&phase) != old.str_at(&phase) {
            if object.at(&time).is_none() || object.at(&time) == old.at(&time) {
                object.set(&time, api::time::format(now));
            }
        } else if object.at(&time).is_none()
            && let Some(before) = old.at(&time)
        {
            object.set(&time, before.clone());
        }
    }

    fn counts_generations(&self, _resource: &Resource) -> bool {
        false
    }
}

/// Their generation counts changes, of which being made is none.
pub struct Drivers;

impl Strategy for Drivers {
    fn prepare_update(&self, object: &mut Value, old: &Value) {
        if object.get("spec") != old.get("spec") {
            let generation = old.at(&["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
            object.set(&["metadata", "generation"], generation + 1);
        }
    }

    fn counts_generations(&self, _resource: &Resource) -> bool {
        false
    }
}

pub struct Claims;

impl Strategy for Claims {
    fn prepare_create(&self, object: &mut Value) {
        drop_foreign_reference(object);
        drop_other_sources(object);
        join_sources(object);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        if old.at(&["spec", "dataSourceRef"]).is_none() {
            drop_foreign_reference(object);
        }
        let is_in_use = ["dataSource", "dataSourceRef"].iter().any(|name| old.at(&["spec", name]).is_some());
        if !is_in_use {
            drop_other_sources(object);
        }
        join_sources(object);
    }

    fn counts_generations(&self, _resource: &Resource) -> bool {
        false
    }
}

/// Sources in other namespaces are behind a feature gate, CrossNamespaceVolumeDataSource, which is off by default.
fn drop_foreign_reference(claim: &mut Value) {
    if !claim.str_at(&["spec", "dataSourceRef", "namespace"]).is_empty() {
        claim.take(&["spec", "dataSourceRef"]);
    }
}

/// `dataSource` means claims and snapshots; what else it names is dropped (EnforceDataSourceBackwardsCompatibility).
fn drop_other_sources(claim: &mut Value) {
    let Some(source) = claim.at(&["spec", "dataSource"]) else { return };
    let known = [("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")];
    if !known.contains(&(source.str_at(&["apiGroup"]), source.str_at(&["kind"]))) {
        claim.take(&["spec", "dataSource"]);
    }
}

/// The old field and the new one say the same (NormalizeDataSources).
fn join_sources(claim: &mut Value) {
    let (source, reference) = (["spec", "dataSource"], ["spec", "dataSourceRef"]);
    match (claim.at(&source).cloned(), claim.at(&reference).cloned()) {
        (Some(only), None) => {
            claim.set(&reference, only);
        }
        (None, Some(mut only)) if only.str_at(&["namespace"]).is_empty() => {
            only.take(&["namespace"]);
            claim.set(&source, only);
        }
        _ => {}
    }
}
