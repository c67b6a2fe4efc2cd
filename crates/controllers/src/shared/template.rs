//! Pods from templates, and the hash that tells templates apart.

use std::collections::BTreeMap;

use client::{
    Kind,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
    kinds::core::v1::{Pod, PodTemplateSpec},
};
use serde::Serialize;

pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// A pod of `owner` with a generated name (controller_utils.go `GetPodFromTemplate`).
pub fn pod<O: Kind>(owner: &O, reference: OwnerReference, template: &PodTemplateSpec) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(owner.namespace().into()),
            generate_name: Some(format!("{}-", owner.name())),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![reference]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// A short name for a template, different after a collision (upstream `ComputeHash`; the value need not be upstream's).
pub fn hash<T: Serialize>(template: &T, collisions: i32) -> String {
    let mut text = serde_json::to_vec(template).unwrap_or_default();
    if collisions != 0 {
        text.extend_from_slice(collisions.to_string().as_bytes());
    }
    safe_encode(fnv1a(&text))
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Digits mapped to letters that spell no words (apimachinery `rand.SafeEncodeString`).
fn safe_encode(hash: u32) -> String {
    const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    hash.to_string().bytes().map(|digit| SAFE[usize::from(digit) % SAFE.len()] as char).collect()
}

/// The same template without the label the deployment controller adds.
pub fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    let mut labels = meta.labels.take().unwrap_or_default();
    labels.remove(POD_TEMPLATE_HASH);
    meta.labels = some(labels);
    meta.annotations = meta.annotations.take().and_then(some);
    template
}

/// Whether two templates are the same but for their hash labels (deployment_util.go `EqualIgnoreHash`).
pub fn equal_ignoring_hash(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    without_hash(a) == without_hash(b)
}

/// An empty map is an absent one.
pub fn some(map: BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!map.is_empty()).then_some(map)
}
