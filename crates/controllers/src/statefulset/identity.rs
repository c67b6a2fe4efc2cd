//! Names: of pods, by ordinal, and of their claims (upstream stateful_set_utils.go).

use std::{collections::BTreeSet, sync::Arc};

use client::{
    Kind,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    kinds::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume},
    },
};

use crate::shared::{history::REVISION_HASH, label, owners, template};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

pub fn start(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.ordinals.as_ref()).and_then(|ordinals| ordinals.start).unwrap_or(0)
}

pub fn replicas(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The ordinals the set should have.
pub fn ordinals(set: &StatefulSet) -> std::ops::Range<i32> {
    start(set)..start(set).saturating_add(replicas(set))
}

pub fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.name())
}

/// `web-3` of the set `web` is 3.
pub fn ordinal_of(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let digits = pod.name().strip_prefix(set.name())?.strip_prefix('-')?;
    digits.parse().ok().filter(|ordinal: &i32| *ordinal >= 0 && digits == ordinal.to_string())
}

pub fn revision_of(pod: &Pod) -> &str {
    label(pod, REVISION_HASH).unwrap_or_default()
}

pub fn claim_templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default()
}

pub fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template.name(), set.name())
}

/// Every claim the set has or will have for its ordinals and its pods.
pub fn claim_names(set: &StatefulSet, pods: &[Arc<Pod>]) -> BTreeSet<String> {
    let existing = pods.iter().filter_map(|pod| ordinal_of(set, pod));
    let all: BTreeSet<i32> = ordinals(set).chain(existing).collect();
    all.into_iter()
        .flat_map(|ordinal| claim_templates(set).iter().map(move |template| claim_name(set, template, ordinal)))
        .collect()
}

/// The claim of one ordinal, before it has owners.
pub fn claim(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> PersistentVolumeClaim {
    let mut labels = template.metadata.labels.clone().unwrap_or_default();
    let selector = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone());
    labels.extend(selector.unwrap_or_default());
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(claim_name(set, template, ordinal)),
            namespace: Some(set.namespace().into()),
            labels: template::some(labels),
            annotations: template.metadata.annotations.clone(),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The pod of one ordinal (`newVersionedStatefulSetPod`).
pub fn pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = template::pod(set, owners::controller_ref(set), template);
    pod.metadata.generate_name = None;
    let name = pod_name(set, ordinal);
    pod.metadata.name = Some(name.clone());
    pod.metadata.labels.get_or_insert_default().insert(REVISION_HASH.into(), revision.into());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone()).filter(|name| !name.is_empty());
    identify(&mut pod, set, ordinal);
    pod
}

/// Labels and volumes that make a pod this ordinal's.
pub fn identify(pod: &mut Pod, set: &StatefulSet, ordinal: i32) {
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.into(), pod_name(set, ordinal));
    labels.insert(POD_INDEX.into(), ordinal.to_string());
    let volumes = pod.spec.get_or_insert_default().volumes.get_or_insert_default();
    for template in claim_templates(set) {
        volumes.retain(|volume| volume.name != template.name());
        volumes.push(Volume {
            name: template.name().into(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(set, template, ordinal),
                read_only: None,
            }),
            ..Volume::default()
        });
    }
}

/// Whether an existing pod has its labels (volumes cannot change).
pub fn has_identity(set: &StatefulSet, pod: &Pod, ordinal: i32) -> bool {
    label(pod, POD_NAME) == Some(&pod_name(set, ordinal)) && label(pod, POD_INDEX) == Some(&ordinal.to_string())
}
