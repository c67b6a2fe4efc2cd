//! ControllerRevisions: the history of a StatefulSet's or DaemonSet's template (upstream pkg/controller/history).

use std::{collections::BTreeMap, sync::Arc};

use client::{
    Kind,
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
    kinds::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
};
use serde_json::json;

use super::{owners, template};
use crate::plan::Plan;

pub const HASH_LABEL: &str = "controller.kubernetes.io/hash";
pub const REVISION_HASH: &str = "controller-revision-hash";

/// Oldest first.
pub fn sorted(mut revisions: Vec<Arc<ControllerRevision>>) -> Vec<Arc<ControllerRevision>> {
    revisions.sort_by(|a, b| a.revision.cmp(&b.revision).then_with(|| a.name().cmp(b.name())));
    revisions
}

/// The history with the template's own revision in it, as the newest.
pub struct Current {
    pub revision: Arc<ControllerRevision>,
    /// The name is taken by another template: count one collision more and plan again.
    pub collided: bool,
}

/// Finds, renews or creates the revision of `template` (stateful_set_control.go `getStatefulSetRevisions`).
/// `revisions` are the owner's, sorted.
pub fn current<O: Kind>(
    plan: &mut Plan,
    owner: &O,
    template: &PodTemplateSpec,
    collisions: i32,
    revisions: &[Arc<ControllerRevision>],
    taken: impl Fn(&str) -> Option<Arc<ControllerRevision>>,
) -> Current {
    let wanted = revision_of(owner, template, collisions, revisions.last().map_or(1, |last| last.revision + 1));
    let equal = revisions.iter().rev().find(|revision| revision.data == wanted.data);
    match equal {
        Some(newest) if revisions.last().is_some_and(|last| last.name() == newest.name()) => {
            Current { revision: newest.clone(), collided: false }
        }
        Some(older) => {
            let renewed = ControllerRevision { revision: wanted.revision, ..(**older).clone() };
            plan.update(&renewed);
            Current { revision: Arc::new(renewed), collided: false }
        }
        None => {
            let collided = taken(wanted.name()).is_some();
            if !collided {
                plan.create(&wanted).ignore_already_exists();
            }
            Current { revision: Arc::new(wanted), collided }
        }
    }
}

fn revision_of<O: Kind>(owner: &O, template: &PodTemplateSpec, collisions: i32, revision: i64) -> ControllerRevision {
    let mut content = serde_json::to_value(template).unwrap_or_default();
    let hash = template::hash(&content, collisions);
    content["$patch"] = json!("replace");
    let mut labels: BTreeMap<String, String> =
        template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(HASH_LABEL.into(), hash.clone());
    let prefix: String = owner.name().chars().take(223).collect();
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{prefix}-{hash}")),
            namespace: Some(owner.namespace().into()),
            labels: Some(labels),
            annotations: owner.meta().annotations.clone(),
            owner_references: Some(vec![owners::controller_ref(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(json!({"spec": {"template": content}}))),
        revision,
    }
}

pub fn hash_of(revision: &ControllerRevision) -> &str {
    super::label(revision, HASH_LABEL).unwrap_or_default()
}

/// The template a revision keeps; `None` where it is not one of ours.
pub fn template_in(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let content = revision.data.as_ref()?.0.get("spec")?.get("template")?;
    serde_json::from_value(content.clone()).ok()
}

/// Deletes the oldest revisions nothing uses, beyond `limit`.
pub fn truncate(
    plan: &mut Plan,
    revisions: &[Arc<ControllerRevision>],
    limit: i32,
    is_live: impl Fn(&ControllerRevision) -> bool,
) {
    let idle: Vec<_> = revisions.iter().filter(|revision| !is_live(revision)).collect();
    let surplus = idle.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    for revision in idle.into_iter().take(surplus) {
        plan.delete(&**revision);
    }
}
