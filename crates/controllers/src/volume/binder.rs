//! Binds claims to volumes that are there (upstream persistentvolume/pv_controller.go).
//!
//! Keys with a namespace are claims, those without volumes.

use std::sync::Arc;

use api::quantity::Quantity;
use client::{
    Informer, Kind, ObjectKey, PatchKind,
    kinds::{
        core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec},
        storage::v1::StorageClass,
    },
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    manager::Setup,
    plan::{Plan, PlannedEvent},
    runtime::{Context, Controller},
    shared::{annotation, is_deleting, owners, selector},
};

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Index of volumes by the claim they are for; empty for those that are free.
const BY_CLAIM: &str = "claim";

fn claim_spec(claim: &PersistentVolumeClaim) -> PersistentVolumeClaimSpec {
    claim.spec.clone().unwrap_or_default()
}

fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

fn names(reference: &ObjectReference, claim: &PersistentVolumeClaim) -> bool {
    let has_uid = reference.uid.as_deref().is_none_or(|uid| uid.is_empty() || uid == claim.uid());
    has_uid
        && reference.name.as_deref() == Some(claim.name())
        && reference.namespace.as_deref() == Some(claim.namespace())
}

fn class_of<K: Kind>(object: &K, in_spec: Option<&String>) -> String {
    match annotation(object, CLASS) {
        "" => in_spec.cloned().unwrap_or_default(),
        class => class.to_owned(),
    }
}

fn capacity(volume: &PersistentVolume) -> Quantity {
    let capacity =
        volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()).and_then(|capacity| capacity.get("storage"));
    capacity.and_then(|text| Quantity::parse(&text.0).ok()).unwrap_or(Quantity::ZERO)
}

/// Why the volume does not do for the claim (`checkVolumeSatisfyClaim` and the filters of `FindMatchingVolume`).
fn unfit(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    let (wanted, offered) = (claim_spec(claim), volume.spec.clone().unwrap_or_default());
    let requested = wanted.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("storage"));
    let requested = requested.and_then(|text| Quantity::parse(&text.0).ok()).unwrap_or(Quantity::ZERO);
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    let modes = offered.access_modes.unwrap_or_default();
    if capacity(volume) < requested {
        Some("requested PV is too small")
    } else if class_of(claim, wanted.storage_class_name.as_ref())
        != class_of(volume, offered.storage_class_name.as_ref())
    {
        Some("storageClassName does not match")
    } else if mode(&wanted.volume_mode) != mode(&offered.volume_mode) {
        Some("incompatible volumeMode")
    } else if !wanted.access_modes.iter().flatten().all(|mode| modes.contains(mode)) {
        Some("incompatible accessMode")
    } else if wanted.volume_attributes_class_name.unwrap_or_default()
        != offered.volume_attributes_class_name.unwrap_or_default()
    {
        Some("volumeAttributesClassName does not match")
    } else {
        None
    }
}

pub struct ClaimInputs {
    pub claim: Arc<PersistentVolumeClaim>,
    /// The volume the claim names.
    pub named: Option<Arc<PersistentVolume>>,
    /// Volumes that name the claim, then free ones.
    pub candidates: Vec<Arc<PersistentVolume>>,
    /// The claim's class binds only once a pod is scheduled.
    pub waits_for_consumer: bool,
}

pub fn plan_claim(inputs: &ClaimInputs, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let claim = &*inputs.claim;
    let volume_name = claim_spec(claim).volume_name.unwrap_or_default();
    let is_bound = claim.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(BIND_COMPLETED));
    if is_bound {
        match inputs.named.as_ref().filter(|volume| claim_ref(volume).is_none_or(|reference| names(reference, claim))) {
            Some(volume) => bind(&mut plan, volume, claim, now),
            None => {
                if set_phase(&mut plan, claim, "Lost", now) {
                    let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
                    plan.event(PlannedEvent::warning(claim, "ClaimLost", message));
                }
            }
        }
        return plan;
    }
    if is_deleting(claim) {
        return plan;
    }
    if volume_name.is_empty() {
        match best(inputs) {
            Some(volume) => bind(&mut plan, volume, claim, now),
            None => {
                if set_phase(&mut plan, claim, "Pending", now) || claim.status.is_none() {
                    plan.event(waiting(inputs));
                }
            }
        }
        return plan;
    }
    match &inputs.named {
        Some(volume) if claim_ref(volume).is_some_and(|reference| !names(reference, claim)) => {
            set_phase(&mut plan, claim, "Pending", now);
            let message = format!("volume {volume_name:?} already bound to a different claim.");
            plan.event(PlannedEvent::warning(claim, "FailedBinding", message));
        }
        Some(volume) => match unfit(volume, claim).filter(|_| claim_ref(volume).is_none()) {
            Some(why) => {
                set_phase(&mut plan, claim, "Pending", now);
                let message = format!("Cannot bind to requested volume {volume_name:?}: {why}");
                plan.event(PlannedEvent::warning(claim, "VolumeMismatch", message));
            }
            None => bind(&mut plan, volume, claim, now),
        },
        None => {
            set_phase(&mut plan, claim, "Pending", now);
        }
    }
    plan
}

fn waiting(inputs: &ClaimInputs) -> PlannedEvent {
    let claim = &*inputs.claim;
    if inputs.waits_for_consumer {
        return PlannedEvent::normal(
            claim,
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding",
        );
    }
    let class = class_of(claim, claim_spec(claim).storage_class_name.as_ref());
    let message = if class.is_empty() {
        "no persistent volumes available for this claim and no storage class is set".to_owned()
    } else {
        format!(
            "Waiting for a volume to be created either by the external provisioner of class {class:?} or manually by the system administrator."
        )
    };
    PlannedEvent::normal(claim, if class.is_empty() { "FailedBinding" } else { "ExternalProvisioning" }, message)
}

/// A volume made for the claim; else the smallest that fits (`findBestMatchForClaim`).
fn best(inputs: &ClaimInputs) -> Option<&Arc<PersistentVolume>> {
    let claim = &*inputs.claim;
    let fits = |volume: &&Arc<PersistentVolume>| !is_deleting(&***volume) && unfit(volume, claim).is_none();
    let meant = inputs
        .candidates
        .iter()
        .find(|volume| claim_ref(volume).is_some_and(|reference| names(reference, claim)) && fits(volume));
    if meant.is_some() || inputs.waits_for_consumer {
        return meant;
    }
    let wanted = claim_spec(claim).selector;
    let selector = wanted.as_ref().map(|selector| selector::compile(Some(selector)));
    let is_free = |volume: &&Arc<PersistentVolume>| {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        claim_ref(volume).is_none()
            && matches!(phase, None | Some("Available" | "Pending"))
            && selector.as_ref().is_none_or(|selector| selector::matches(selector, &***volume))
    };
    let free = inputs.candidates.iter().filter(is_free).filter(fits);
    free.min_by(|a, b| capacity(a).cmp(&capacity(b)).then_with(|| a.name().cmp(b.name())))
}

/// Volume first, held to its resourceVersion: of two claims that want it one gets it.
fn bind(plan: &mut Plan, volume: &PersistentVolume, claim: &PersistentVolumeClaim, now: Timestamp) {
    let spec = volume.spec.clone().unwrap_or_default();
    let is_ours = claim_ref(volume).is_some_and(|reference| reference.uid.as_deref() == Some(claim.uid()));
    if !is_ours {
        let mut metadata = json!({"resourceVersion": volume.resource_version()});
        if spec.claim_ref.is_none() {
            metadata["annotations"] = json!({BOUND_BY_CONTROLLER: "yes"});
        }
        let reference = client::reference(claim);
        plan.patch(volume, PatchKind::Merge, &json!({"metadata": metadata, "spec": {"claimRef": reference}}));
    }
    set_volume_phase(plan, volume, "Bound", now);
    let has = |key: &str| claim.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(key));
    let named = claim_spec(claim).volume_name.unwrap_or_default();
    if named != volume.name() || !has(BIND_COMPLETED) {
        let mut annotations = json!({BIND_COMPLETED: "yes"});
        if named != volume.name() {
            annotations[BOUND_BY_CONTROLLER] = "yes".into();
        }
        let metadata = json!({"uid": claim.uid(), "annotations": annotations});
        plan.patch(claim, PatchKind::Merge, &json!({"metadata": metadata, "spec": {"volumeName": volume.name()}}));
    }
    let status = claim.status.clone().unwrap_or_default();
    let is_bound = status.phase.as_deref() == Some("Bound");
    if !is_bound || status.access_modes != spec.access_modes || status.capacity.is_none() {
        let mut status = json!({"phase": "Bound", "accessModes": spec.access_modes, "capacity": spec.capacity});
        if !is_bound {
            // Afterwards it is the one who changes volumes that says what class they have.
            status["currentVolumeAttributesClassName"] = json!(spec.volume_attributes_class_name);
        }
        write_status(plan, claim, status);
    }
}

fn write_status<K: Kind>(plan: &mut Plan, object: &K, status: Value) {
    let patch = json!({"metadata": {"uid": object.uid()}, "status": status});
    plan.patch_status(object, PatchKind::Merge, &patch).ignore_not_found();
}

fn set_phase(plan: &mut Plan, claim: &PersistentVolumeClaim, phase: &str, _: Timestamp) -> bool {
    let is_new = claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some(phase);
    if is_new {
        write_status(plan, claim, json!({"phase": phase}));
    }
    is_new
}

fn set_volume_phase(plan: &mut Plan, volume: &PersistentVolume, phase: &str, now: Timestamp) {
    if volume.status.as_ref().and_then(|status| status.phase.as_deref()) != Some(phase) {
        write_status(plan, volume, json!({"phase": phase, "lastPhaseTransitionTime": now.to_string()}));
    }
}

/// A volume's phase, from the claim it names (`syncVolume`).
pub fn plan_volume(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(reference) = claim_ref(volume) else {
        set_volume_phase(&mut plan, volume, "Available", now);
        return plan;
    };
    if reference.uid.as_deref().unwrap_or("").is_empty() {
        set_volume_phase(&mut plan, volume, "Available", now);
        return plan;
    }
    match claim.filter(|claim| names(reference, claim)) {
        None => set_volume_phase(&mut plan, volume, "Released", now),
        Some(claim) => {
            let named = claim_spec(claim).volume_name.unwrap_or_default();
            if named == volume.name() {
                set_volume_phase(&mut plan, volume, "Bound", now);
            } else if !named.is_empty() && !annotation(volume, BOUND_BY_CONTROLLER).is_empty() {
                // Its claim went elsewhere.
                let metadata =
                    json!({"resourceVersion": volume.resource_version(), "annotations": {BOUND_BY_CONTROLLER: null}});
                plan.patch(volume, PatchKind::Merge, &json!({"metadata": metadata, "spec": {"claimRef": null}}));
            }
        }
    }
    plan
}

struct Binder {
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
}

impl Controller for Binder {
    fn name(&self) -> &'static str {
        "persistentvolume-binder-controller"
    }

    fn plan(&self, key: &ObjectKey, context: &Context) -> Plan {
        if key.namespace.is_empty() {
            let Some(volume) = self.volumes.get("", &key.name) else {
                return Plan::default();
            };
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let claim = claim_ref(&volume)
                .and_then(|reference| self.claims.get(&text(&reference.namespace), &text(&reference.name)));
            return plan_volume(&volume, claim.as_deref(), context.now);
        }
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else {
            return Plan::default();
        };
        let class = self.classes.get("", &class_of(&*claim, claim_spec(&claim).storage_class_name.as_ref()));
        let is_late = class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
        let mut candidates = self.volumes.by_index(BY_CLAIM, &key.to_string());
        candidates.extend(self.volumes.by_index(BY_CLAIM, ""));
        let inputs = ClaimInputs {
            named: self.volumes.get("", claim_spec(&claim).volume_name.as_deref().unwrap_or("")),
            waits_for_consumer: is_late && annotation(&*claim, SELECTED_NODE).is_empty(),
            candidates,
            claim,
        };
        plan_claim(&inputs, context.now)
    }
}

pub fn register(setup: &mut Setup) {
    let claims = setup.informer::<PersistentVolumeClaim>();
    let volumes = setup.informer::<PersistentVolume>();
    let classes = setup.informer::<StorageClass>();
    let queue = setup.queue("persistentvolume-binder-controller");
    let claim_key = |volume: &PersistentVolume| {
        let reference = claim_ref(volume)?;
        Some(ObjectKey::new(reference.namespace.clone()?, reference.name.clone()?))
    };
    volumes.add_index(BY_CLAIM, |volume| match claim_ref(volume) {
        Some(reference) => vec![format!(
            "{}/{}",
            reference.namespace.as_deref().unwrap_or(""),
            reference.name.as_deref().unwrap_or("")
        )],
        None => vec![String::new()],
    });
    claims.add_index("unbound", |claim| {
        let is_bound = claim.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(BIND_COMPLETED));
        if is_bound { Vec::new() } else { vec![String::new()] }
    });
    let (to, known) = (queue.clone(), volumes.clone());
    claims.on_event(move |delta| {
        let claim = owners::newest(delta);
        to.add(claim.key());
        known.by_index(BY_CLAIM, &claim.key().to_string()).iter().for_each(|volume| to.add(volume.key()));
    });
    let (to, known) = (queue.clone(), claims.clone());
    volumes.on_event(move |delta| {
        let volume = owners::newest(delta);
        to.add(volume.key());
        match claim_key(volume) {
            Some(claim) => to.add(claim),
            None => known.by_index("unbound", "").iter().for_each(|claim| to.add(claim.key())),
        }
    });
    setup.run(Binder { claims, volumes, classes }, queue, 2);
}
