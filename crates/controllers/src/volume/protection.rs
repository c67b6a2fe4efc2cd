//! Finalizers that keep a claim while a pod uses it, a volume while a claim does, and a class of volumes' attributes while any
//! of both names it (upstream pkg/controller/volume/pvcprotection, pvprotection, vacprotection).

use std::collections::HashSet;

use async_trait::async_trait;
use client::{
    Client, Delta, Informer, Kind, ListParams, ObjectKey, WorkQueue,
    kinds::{
        core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume},
        storage::v1::VolumeAttributesClass,
    },
};
use parking_lot::Mutex;

use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller, LiveController},
    shared::{claims::attributes_classes, finalizers, has_finalizer, is_deleting, owners, pods},
};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";
const CLASS: &str = "kubernetes.io/vac-protection";
pub const BY_CLAIM: &str = "claim";
const BY_CLASS: &str = "volumeAttributesClass";

/// Adds the finalizer to a living object, takes it from a dying one that is free.
fn plan<K: Kind>(object: &K, finalizer: &'static str, is_used: impl FnOnce() -> bool) -> Plan {
    let mut plan = Plan::default();
    if !is_deleting(object) && !has_finalizer(object, finalizer) {
        finalizers::keep(&mut plan, object, finalizer);
    } else if waits(object, finalizer) && !is_used() {
        finalizers::let_go(&mut plan, object, finalizer);
    }
    plan
}

/// Whether the object goes as soon as this finalizer does not keep it.
fn waits<K: Kind>(object: &K, finalizer: &str) -> bool {
    is_deleting(object) && has_finalizer(object, finalizer)
}

/// The claims a pod mounts, generic ephemeral ones included.
pub fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let named = volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(ephemeral_claim(pod, volume)),
        _ => None,
    });
    named.collect()
}

/// What the claim of a generic ephemeral volume is called.
pub fn ephemeral_claim(pod: &Pod, volume: &Volume) -> String {
    format!("{}-{}", pod.name(), volume.name)
}

/// Pods by the claims that they mount.
pub fn index_by_claim(pods: &Informer<Pod>) {
    pods.add_index(BY_CLAIM, |pod| {
        claims_of(pod).into_iter().map(|claim| format!("{}/{claim}", pod.namespace())).collect()
    });
}

/// The claims that `pod` keeps: with the pod's UID where it must have been made for the pod. A pod that was never bound to
/// a node mounts nothing, and one that ended keeps its claims until it is deleted.
fn kept(pod: &Pod) -> Vec<(String, Option<String>)> {
    let volumes = pod.spec.iter().filter(|_| !pods::node_name(pod).is_empty());
    let volumes = volumes.flat_map(|spec| spec.volumes.iter().flatten());
    let claims = volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some((claim.claim_name.clone(), None)),
        // A finalizer may keep the pod's object, and wait in turn for this claim to go.
        (None, Some(_)) if !is_shut_down(pod) => Some((ephemeral_claim(pod, volume), Some(pod.uid().to_owned()))),
        _ => None,
    });
    claims.collect()
}

/// The kubelet is done with the pod, or it was deleted by force.
fn is_shut_down(pod: &Pod) -> bool {
    is_deleting(pod) && pod.metadata.deletion_grace_period_seconds == Some(0)
}

/// The claims that the pods of a namespace keep, as a list showed them.
struct Listed {
    namespace: String,
    revision: u64,
    kept: HashSet<(String, Option<String>)>,
}

impl Listed {
    fn keeps(&self, claim: &PersistentVolumeClaim) -> bool {
        let owner = owners::controller_of(claim).map(|reference| reference.uid.clone());
        let name = || claim.name().to_owned();
        self.kept.contains(&(name(), None)) || owner.is_some_and(|uid| self.kept.contains(&(name(), Some(uid))))
    }

    /// Whether this was listed after `claim` was marked, so that whoever is not there will not mount it any more.
    fn is_after(&self, claim: &PersistentVolumeClaim) -> bool {
        let marked = claim.resource_version().parse::<u64>();
        self.namespace == claim.namespace() && marked.is_ok_and(|marked| marked <= self.revision)
    }
}

struct Claims {
    claims: Informer<PersistentVolumeClaim>,
    pods: Informer<Pod>,
    /// The newest list, for claims that are deleted together.
    listed: Mutex<Option<Listed>>,
}

impl Claims {
    /// The informer may not show yet a pod that was bound before the claim was marked: none is found only where a list
    /// of the API itself has none.
    async fn is_kept(&self, claim: &PersistentVolumeClaim, client: &Client) -> client::Result<bool> {
        let keeps = |pod: &Pod| {
            let mut claims = kept(pod).into_iter().filter(|(name, _)| name == claim.name());
            claims.any(|(_, owner)| owner.is_none_or(|uid| owners::is_controlled_by(claim, &uid)))
        };
        if self.pods.by_index(BY_CLAIM, &claim.key().to_string()).iter().any(|pod| keeps(pod)) {
            return Ok(true);
        }
        // What an older list has may be gone; what it has not is free.
        if self.listed.lock().as_ref().is_some_and(|listed| listed.is_after(claim) && !listed.keeps(claim)) {
            return Ok(false);
        }
        let page = client.namespaced::<Pod>(claim.namespace()).list(&ListParams::default()).await?;
        let listed = Listed {
            namespace: claim.namespace().to_owned(),
            revision: page.resource_version.parse().unwrap_or_default(),
            kept: page.items.iter().flat_map(kept).collect(),
        };
        let is_kept = listed.keeps(claim);
        *self.listed.lock() = Some(listed);
        Ok(is_kept)
    }
}

#[async_trait]
impl LiveController for Claims {
    fn name(&self) -> &'static str {
        "persistentvolumeclaim-protection-controller"
    }

    async fn plan(&self, key: &ObjectKey, _: &Context, client: &Client) -> client::Result<Plan> {
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else {
            return Ok(Plan::default());
        };
        let is_kept = waits(&*claim, CLAIM) && self.is_kept(&claim, client).await?;
        Ok(plan(&*claim, CLAIM, || is_kept))
    }
}

pub fn register_claims(setup: &mut Setup) {
    let claims = setup.informer::<PersistentVolumeClaim>();
    let pods = setup.informer::<Pod>();
    let queue = setup.queue("persistentvolumeclaim-protection-controller");
    index_by_claim(&pods);
    owners::enqueue_self(&claims, &queue);
    let to = queue.clone();
    pods.on_event(move |delta| {
        let pod = owners::newest(delta);
        if matches!(delta, Delta::Deleted(_)) || is_shut_down(pod) {
            claims_of(pod).into_iter().for_each(|claim| to.add(ObjectKey::new(pod.namespace(), claim)));
        }
    });
    setup.run(Claims { claims, pods, listed: Mutex::default() }, queue, 1);
}

struct Volumes(Informer<PersistentVolume>);

impl Controller for Volumes {
    fn name(&self) -> &'static str {
        "persistentvolume-protection-controller"
    }

    fn plan(&self, key: &ObjectKey, _: &Context) -> Plan {
        let is_bound = |volume: &PersistentVolume| {
            volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
        };
        self.0.get("", &key.name).map(|volume| plan(&*volume, VOLUME, || is_bound(&volume))).unwrap_or_default()
    }
}

pub fn register_volumes(setup: &mut Setup) {
    let volumes = setup.informer::<PersistentVolume>();
    let queue = setup.queue("persistentvolume-protection-controller");
    owners::enqueue_self(&volumes, &queue);
    setup.run(Volumes(volumes), queue, 1);
}

fn classes_of_volume(volume: &PersistentVolume) -> Vec<String> {
    let name = volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref());
    name.filter(|name| !name.is_empty()).cloned().into_iter().collect()
}

struct Classes {
    classes: Informer<VolumeAttributesClass>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
}

impl Controller for Classes {
    fn name(&self) -> &'static str {
        "volumeattributesclass-protection-controller"
    }

    fn plan(&self, key: &ObjectKey, _: &Context) -> Plan {
        let is_used = || {
            !self.volumes.by_index(BY_CLASS, &key.name).is_empty()
                || !self.claims.by_index(BY_CLASS, &key.name).is_empty()
        };
        self.classes.get("", &key.name).map(|class| plan(&*class, CLASS, is_used)).unwrap_or_default()
    }
}

pub fn register_classes(setup: &mut Setup) {
    let classes = setup.informer::<VolumeAttributesClass>();
    let claims = setup.informer::<PersistentVolumeClaim>();
    let volumes = setup.informer::<PersistentVolume>();
    let queue = setup.queue("volumeattributesclass-protection-controller");
    claims.add_index(BY_CLASS, attributes_classes);
    volumes.add_index(BY_CLASS, classes_of_volume);
    owners::enqueue_self(&classes, &queue);
    /// Classes that an object named and no longer does.
    fn watch<K: Kind>(informer: &Informer<K>, names: fn(&K) -> Vec<String>, queue: &WorkQueue<ObjectKey>) {
        let queue = queue.clone();
        informer.on_event(move |delta| {
            let left = match delta {
                Delta::Updated { old, new } => {
                    let kept = names(new);
                    names(old).into_iter().filter(|name| !kept.contains(name)).collect()
                }
                Delta::Deleted(object) => names(object),
                _ => Vec::new(),
            };
            left.into_iter().for_each(|name| queue.add(ObjectKey::new("", name)));
        });
    }
    watch(&claims, attributes_classes, &queue);
    watch(&volumes, classes_of_volume, &queue);
    setup.run(Classes { classes, claims, volumes }, queue, 1);
}
