//! The working copy a Deployment's plan is made on: its ReplicaSets as they should be. What differs from what is becomes
//! the plan's writes (upstream deployment/util/deployment_util.go, sync.go).

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use client::{
    Kind,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    kinds::{
        apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec},
        core::v1::PodTemplateSpec,
    },
};

use crate::{
    plan::{Plan, PlannedEvent},
    shared::{annotation, created_at, is_deleting, owners, percent, template},
};

pub const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of a Deployment that are not its ReplicaSets'.
const OWN_ANNOTATIONS: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

pub struct Rollout<'a> {
    pub deployment: &'a Deployment,
    /// The set with the Deployment's template.
    pub new: Option<ReplicaSet>,
    /// Whether `new` has yet to be created.
    pub is_creation: bool,
    /// All others, oldest first.
    pub old: Vec<ReplicaSet>,
    before: BTreeMap<String, Arc<ReplicaSet>>,
}

pub fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

fn revision<K: Kind>(object: &K) -> i64 {
    annotation(object, REVISION).parse().unwrap_or(0)
}

fn template_of(set: &ReplicaSet) -> PodTemplateSpec {
    set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default()
}

pub fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn template_of_deployment(deployment: &Deployment) -> PodTemplateSpec {
    deployment.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default()
}

pub fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate")
}

/// maxSurge and maxUnavailable as numbers; never both 0 (`ResolveFenceposts`).
pub fn limits(deployment: &Deployment) -> (i32, i32) {
    if !is_rolling(deployment) {
        return (0, 0);
    }
    let total = replicas(deployment);
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let surge = percent::scaled(rolling.and_then(|rolling| rolling.max_surge.as_ref()), total, true);
    let unavailable = percent::scaled(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), total, false);
    match (surge, unavailable) {
        (0, 0) => (0, 1.min(total)),
        (surge, unavailable) => (surge, unavailable.min(total)),
    }
}

/// Name and pod-template-hash of the ReplicaSet for the Deployment's template.
pub fn name_for(deployment: &Deployment) -> (String, String) {
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let hash = template::hash(&template_of_deployment(deployment), collisions);
    let longest = 253 - hash.len() - 1;
    let name: String = deployment.name().chars().take(longest).collect();
    (format!("{name}-{hash}"), hash)
}

impl<'a> Rollout<'a> {
    pub fn new(deployment: &'a Deployment, sets: &[Arc<ReplicaSet>]) -> Self {
        let mut old: Vec<ReplicaSet> = sets.iter().map(|set| (**set).clone()).collect();
        old.sort_by(|a, b| created_at(a).cmp(&created_at(b)).then_with(|| a.name().cmp(b.name())));
        let wanted = template_of_deployment(deployment);
        let at = old.iter().position(|set| template::equal_ignoring_hash(&template_of(set), &wanted));
        let new = at.map(|at| old.remove(at));
        let before = sets.iter().map(|set| (set.name().to_owned(), set.clone())).collect();
        Rollout { deployment, new, is_creation: false, old, before }
    }

    pub fn all(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old.iter().chain(&self.new)
    }

    pub fn total_size(&self) -> i32 {
        self.all().map(size).sum()
    }

    /// The revision the new set has or gets: one past the highest of the others.
    pub fn new_revision(&self) -> i64 {
        self.old.iter().map(revision).max().unwrap_or(0) + 1
    }

    /// Brings the new set's annotations up to date (`SetNewReplicaSetAnnotations`).
    pub fn annotate_new(&mut self) {
        let target = self.new_revision();
        let deployment = self.deployment;
        let Some(new) = &mut self.new else {
            return;
        };
        let current = revision(new);
        let annotations = new.metadata.annotations.get_or_insert_default();
        for (key, value) in deployment.metadata.annotations.iter().flatten() {
            if !OWN_ANNOTATIONS.contains(&key.as_str()) {
                annotations.insert(key.clone(), value.clone());
            }
        }
        if current < target {
            if current > 0 {
                let history = annotations.entry(REVISION_HISTORY.into()).or_default();
                if !history.is_empty() {
                    history.push(',');
                }
                history.push_str(&current.to_string());
            }
            annotations.insert(REVISION.into(), target.to_string());
        }
        let min_ready = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        if let Some(spec) = &mut new.spec
            && spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0)
        {
            spec.min_ready_seconds = min_ready;
        }
    }

    /// Adds the set for the Deployment's template.
    pub fn create_new(&mut self, count: i32) {
        let deployment = self.deployment;
        let (name, hash) = name_for(deployment);
        let spec = deployment.spec.clone().unwrap_or_default();
        let mut pod_template = spec.template;
        let labels = pod_template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(template::POD_TEMPLATE_HASH.into(), hash.clone());
        let labels = labels.clone();
        let mut selector = spec.selector;
        selector.match_labels.get_or_insert_default().insert(template::POD_TEMPLATE_HASH.into(), hash);
        self.new = Some(ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(deployment.namespace().into()),
                labels: Some(labels),
                owner_references: Some(vec![owners::controller_ref(deployment)]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(count),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(pod_template),
            }),
            status: None,
        });
        self.is_creation = true;
        self.annotate_new();
        let total = replicas(deployment);
        if let Some(new) = &mut self.new {
            annotate_sizes(new, total, total + limits(deployment).0);
        }
    }

    /// Sets one set's size; `force` also renews its annotations where the size stays.
    pub fn scale(deployment: &Deployment, set: &mut ReplicaSet, to: i32, force: bool) {
        if !force && size(set) == to {
            return;
        }
        if let Some(spec) = &mut set.spec {
            spec.replicas = Some(to);
        }
        let total = replicas(deployment);
        annotate_sizes(set, total, total + limits(deployment).0);
    }

    pub fn scale_new(&mut self, to: i32) -> bool {
        let deployment = self.deployment;
        match &mut self.new {
            Some(new) if size(new) != to => {
                Self::scale(deployment, new, to, false);
                true
            }
            _ => false,
        }
    }

    /// Sets whose size is not 0, with a way to change them.
    pub fn active_mut(&mut self) -> Vec<&mut ReplicaSet> {
        self.old.iter_mut().chain(&mut self.new).filter(|set| size(set) > 0).collect()
    }

    /// Deletes the oldest revisions beyond revisionHistoryLimit.
    pub fn clean_up(&self, plan: &mut Plan) {
        let limit = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let mut alive: Vec<&ReplicaSet> = self.old.iter().filter(|set| !is_deleting(*set)).collect();
        let surplus = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        alive.sort_by_key(|set| revision(*set));
        for set in alive.into_iter().take(surplus) {
            let status = set.status.as_ref();
            let observed = status.and_then(|status| status.observed_generation).unwrap_or(0);
            let is_idle = size(set) == 0 && status.is_none_or(|status| status.replicas == 0);
            if is_idle && set.metadata.generation.unwrap_or(0) <= observed {
                plan.delete(set);
            }
        }
    }

    /// Everything that changed, as writes.
    pub fn write(&self, plan: &mut Plan) {
        for set in self.all() {
            let Some(before) = self.before.get(set.name()) else {
                let event = scaled(self.deployment, set, 0);
                plan.create(set).then(event);
                continue;
            };
            if **before != *set {
                let changed = size(before) != size(set);
                let write = plan.update(set);
                if changed {
                    write.then(scaled(self.deployment, set, size(before)));
                }
            }
        }
    }
}

fn scaled(deployment: &Deployment, set: &ReplicaSet, from: i32) -> PlannedEvent {
    let to = size(set);
    let direction = if from < to { "up" } else { "down" };
    let message = format!("Scaled {direction} replica set {} from {from} to {to}", set.name());
    PlannedEvent::normal(deployment, "ScalingReplicaSet", message)
}

fn annotate_sizes(set: &mut ReplicaSet, desired: i32, max: i32) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED.into(), desired.to_string());
    annotations.insert(MAX.into(), max.to_string());
}

/// What the set's annotation says the Deployment's size was when it was scaled last.
pub fn desired_annotation(set: &ReplicaSet) -> Option<i32> {
    annotation(set, DESIRED).parse().ok()
}

pub fn max_annotation(set: &ReplicaSet) -> Option<i32> {
    annotation(set, MAX).parse().ok().filter(|max| *max > 0)
}

/// Larger first; of the same size the newer (or the older) first.
pub fn by_size(sets: &mut [&mut ReplicaSet], newer_first: bool) {
    sets.sort_by(|a, b| {
        let age = created_at(&**a).cmp(&created_at(&**b)).then_with(|| a.name().cmp(b.name()));
        Reverse(size(a)).cmp(&Reverse(size(b))).then(if newer_first { age.reverse() } else { age })
    });
}
