//! Finalizers that keep a claim while a pod uses it, a volume while a claim does, and a class of volumes' attributes while any
//! of both names it (upstream pkg/controller/volume/pvcprotection, pvprotection, vacprotection).

use client::{
    Delta, Informer, Kind, ObjectKey, WorkQueue,
    kinds::{
        core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume},
        storage::v1::VolumeAttributesClass,
    },
};

use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller},
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
    match (is_deleting(object), has_finalizer(object, finalizer)) {
        (false, false) => finalizers::keep(&mut plan, object, finalizer),
        (true, true) if !is_used() => finalizers::let_go(&mut plan, object, finalizer),
        _ => {}
    }
    plan
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

struct Claims {
    claims: Informer<PersistentVolumeClaim>,
    pods: Informer<Pod>,
}

impl Controller for Claims {
    fn name(&self) -> &'static str {
        "persistentvolumeclaim-protection-controller"
    }

    fn plan(&self, key: &ObjectKey, _: &Context) -> Plan {
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else {
            return Plan::default();
        };
        // A pod that was never bound to a node mounts nothing, and one that ended no longer does.
        let uses = |pod: &Pod| !pods::node_name(pod).is_empty() && !pods::is_terminal(pod);
        plan(&*claim, CLAIM, || self.pods.by_index(BY_CLAIM, &key.to_string()).iter().any(|pod| uses(pod)))
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
        if matches!(delta, Delta::Deleted(_)) || pods::is_terminal(pod) {
            claims_of(pod).into_iter().for_each(|claim| to.add(ObjectKey::new(pod.namespace(), claim)));
        }
    });
    setup.run(Claims { claims, pods }, queue, 1);
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
