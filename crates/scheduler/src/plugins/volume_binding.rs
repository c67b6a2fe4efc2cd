//! VolumeBinding: bound claims go where their volume can be reached; unbound ones wait for the node, and get a volume that
//! is there already or have one provisioned.

use std::collections::HashSet;

use api::quantity::Quantity;
use client::{
    Kind,
    kinds::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, TopologySelectorTerm},
    kinds::storage::v1::StorageClass,
};

use super::names;
use crate::{
    event::ClusterEvent,
    framework::{Cycle, Filter, Plugin, PreBind, PreFilter, Rejection},
    labels::{self, node_selector_matches},
    node::NodeInfo,
    objects::Objects,
    pod::PodInfo,
    snapshot::Snapshot,
};

const NODE_CONFLICT: &str = "node(s) didn't match PersistentVolume's node affinity";
const BIND_CONFLICT: &str = "node(s) didn't find available persistent volumes to bind";
const VOLUME_MISSING: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

pub struct VolumeBinding;

/// The pod's claims, by what is to be done about them.
#[derive(Clone)]
struct Claims<'a> {
    objects: &'a Objects,
    /// With the volume, where it exists.
    bound: Vec<Option<&'a PersistentVolume>>,
    /// Wait for the node to be chosen.
    delayed: Vec<&'a PersistentVolumeClaim>,
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        names::VOLUME_BINDING
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        if cycle.pod.claims.is_empty() {
            return PreFilter::Skip;
        }
        match Claims::new(cycle) {
            Ok(claims) => PreFilter::Filter(Box::new(claims)),
            Err(reason) => PreFilter::Reject(Rejection::unresolvable(self.name(), reason)),
        }
    }

    fn pre_bind(&self, cycle: Cycle<'_>, node: &NodeInfo) -> Vec<PreBind> {
        let plan = Claims::new(cycle).ok().and_then(|claims| claims.place(&node.node));
        plan.unwrap_or_default()
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo, _: &Snapshot) -> bool {
        match event {
            ClusterEvent::ClaimChanged { namespace, name } => {
                namespace == pod.namespace() && pod.claims.iter().any(|claim| claim.name == *name)
            }
            ClusterEvent::VolumeChanged
            | ClusterEvent::StorageClassChanged
            | ClusterEvent::CsiNodeChanged
            | ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::NodeUpdated { old, new } => labels::of(&old.metadata) != labels::of(&new.metadata),
            _ => false,
        }
    }
}

impl<'a> Claims<'a> {
    fn new(cycle: Cycle<'a>) -> Result<Claims<'a>, String> {
        let objects = &cycle.snapshot.objects;
        let mut claims = Claims { objects, bound: Vec::new(), delayed: Vec::new() };
        let mut immediate = false;
        for reference in &cycle.pod.claims {
            let name = &reference.name;
            let Some(claim) = objects.claims.get(cycle.pod.namespace(), name) else {
                return Err(match reference.ephemeral {
                    true => {
                        format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
                    }
                    false => format!("persistentvolumeclaim {name:?} not found"),
                });
            };
            check(cycle.pod, claim, reference.ephemeral)?;
            if is_bound(claim) {
                claims.bound.push(objects.volumes.get("", volume_name(claim)).map(|volume| &**volume));
            } else if volume_name(claim).is_empty() && waits_for_consumer(claim, objects)? {
                claims.delayed.push(claim);
            } else {
                immediate = true;
            }
        }
        if immediate { Err("pod has unbound immediate PersistentVolumeClaims".into()) } else { Ok(claims) }
    }

    fn bound_conflict(&self, node: &Node) -> Option<&'static str> {
        let conflict = |volume: &Option<&PersistentVolume>| match volume {
            None => Some(VOLUME_MISSING),
            Some(volume) => (!reaches(volume, node)).then_some(NODE_CONFLICT),
        };
        self.bound.iter().find_map(conflict)
    }

    /// What to do for the delayed claims on this node; `None` where there is neither a volume nor a provisioner for one.
    fn place(&self, node: &Node) -> Option<Vec<PreBind>> {
        let mut taken = HashSet::new();
        let place = |claim: &&PersistentVolumeClaim| {
            let key = claim.key();
            if let Some(volume) = self.find_volume(claim, node, &taken) {
                taken.insert(volume.name().to_owned());
                return Some(PreBind::BindVolume { volume: volume.name().to_owned(), claim: key });
            }
            let class = class(claim, self.objects)?;
            let allowed =
                |terms: &Vec<TopologySelectorTerm>| terms.is_empty() || terms.iter().any(|term| allows(term, node));
            let provisioned = !class.provisioner.is_empty()
                && class.provisioner != NO_PROVISIONER
                && class.allowed_topologies.as_ref().is_none_or(allowed);
            provisioned.then(|| PreBind::ProvisionVolume { claim: key, node: node.name().to_owned() })
        };
        self.delayed.iter().map(place).collect()
    }

    /// The smallest free volume that serves the claim on this node, or the one reserved for it
    /// (component-helpers `storage/volume/pv_helpers.go`, `FindMatchingVolume`).
    fn find_volume(
        &self,
        claim: &PersistentVolumeClaim,
        node: &Node,
        taken: &HashSet<String>,
    ) -> Option<&'a PersistentVolume> {
        let free = |volume: &&PersistentVolume| {
            !taken.contains(volume.name()) && serves(volume, claim) && reaches(volume, node)
        };
        let size = |volume: &&PersistentVolume| (!is_reserved_for(volume, claim), capacity(volume));
        self.objects.volumes.all().map(|volume| &**volume).filter(free).min_by_key(size)
    }
}

impl Filter for Claims<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let conflict =
            self.bound_conflict(&node.node).or_else(|| self.place(&node.node).is_none().then_some(BIND_CONFLICT));
        conflict.map_or(Ok(()), |reason| Err(Rejection::unresolvable(names::VOLUME_BINDING, reason)))
    }

    fn duplicate<'b>(&self) -> Box<dyn Filter + 'b>
    where
        Self: 'b,
    {
        Box::new(self.clone())
    }
}

fn check(pod: &PodInfo, claim: &PersistentVolumeClaim, ephemeral: bool) -> Result<(), String> {
    let name = claim.name();
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
        let volume = volume_name(claim);
        return Err(format!("persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
    }
    let mut owners = claim.metadata.owner_references.iter().flatten();
    if ephemeral && !owners.any(|owner| owner.controller == Some(true) && owner.uid == pod.uid()) {
        let (namespace, pod) = (pod.namespace(), pod.name());
        return Err(format!("PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"));
    }
    Ok(())
}

fn annotation<'a>(claim: &'a PersistentVolumeClaim, name: &str) -> Option<&'a String> {
    claim.metadata.annotations.as_ref()?.get(name)
}

pub(super) fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

/// Bound, and the volume controller has finished with it.
pub(crate) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    !volume_name(claim).is_empty() && annotation(claim, "pv.kubernetes.io/bind-completed").is_some()
}

fn class_name(claim: &PersistentVolumeClaim) -> &str {
    let old = annotation(claim, "volume.beta.kubernetes.io/storage-class");
    let new = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    old.or(new).map(String::as_str).unwrap_or_default()
}

pub(super) fn class<'a>(claim: &PersistentVolumeClaim, objects: &'a Objects) -> Option<&'a StorageClass> {
    objects.classes.get("", class_name(claim)).map(|class| &**class)
}

fn waits_for_consumer(claim: &PersistentVolumeClaim, objects: &Objects) -> Result<bool, String> {
    if class_name(claim).is_empty() {
        return Ok(false);
    }
    let Some(class) = class(claim, objects) else {
        return Err(format!("storageclass.storage.k8s.io {:?} not found", class_name(claim)));
    };
    Ok(class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

fn reaches(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    affinity.is_none_or(|required| node_selector_matches(required, node))
}

fn allows(term: &TopologySelectorTerm, node: &Node) -> bool {
    let labels = labels::of(&node.metadata);
    let mut expressions = term.match_label_expressions.iter().flatten();
    expressions.all(|expression| labels.get(&expression.key).is_some_and(|value| expression.values.contains(value)))
}

fn capacity(volume: &PersistentVolume) -> Quantity {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage"));
    capacity.and_then(|size| Quantity::parse(&size.0).ok()).unwrap_or_default()
}

fn is_reserved_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    reference.is_some_and(|reference| {
        reference.name.as_deref() == Some(claim.name())
            && reference.namespace.as_deref() == Some(claim.namespace())
            && reference.uid.as_deref().is_none_or(|uid| uid.is_empty() || uid == claim.uid())
    })
}

fn serves(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(spec), Some(wanted)) = (&volume.spec, &claim.spec) else { return false };
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let requested = wanted.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("storage"));
    let requested = requested.and_then(|size| Quantity::parse(&size.0).ok()).unwrap_or_default();
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    let selector = wanted
        .selector
        .as_ref()
        .is_none_or(|selector| labels::selector(Some(selector)).matches(labels::of(&volume.metadata)));
    volume.metadata.deletion_timestamp.is_none()
        && capacity(volume) >= requested
        && mode(&spec.volume_mode) == mode(&wanted.volume_mode)
        && wanted.access_modes.iter().flatten().all(|mode| modes.contains(mode))
        && (is_reserved_for(volume, claim)
            || (spec.claim_ref.is_none()
                && phase == Some("Available")
                && selector
                && spec.storage_class_name.as_deref().unwrap_or_default() == class_name(claim)))
}
