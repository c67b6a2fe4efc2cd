//! ReplicaSet and ReplicationController: as many pods as asked for (upstream pkg/controller/replicaset; a
//! ReplicationController is the same thing behind the [`Replicas`] adapter, as in pkg/controller/replication).

mod adapter;
mod plan;

use std::sync::Arc;

use api::selector::LabelSelector as Selector;
use client::{
    Informer, Kind, ObjectKey,
    kinds::{
        apps::v1::ReplicaSet,
        core::v1::{Pod, PodTemplateSpec, ReplicationController},
    },
};
use jiff::Timestamp;

pub use plan::{Inputs, plan, requeue_for_availability};

use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller},
    shared::owners,
};

/// What the two kinds have in common.
pub trait Replicas: Kind {
    const CONTROLLER: &'static str;
    const COUNTS_TERMINATING: bool;
    fn replicas(&self) -> i32;
    fn min_ready_seconds(&self) -> i32;
    fn selector(&self) -> Selector;
    fn template(&self) -> PodTemplateSpec;
    fn status(&self) -> Status;
    /// The object with this status, conditions' times being `now` where they changed.
    fn with_status(&self, status: &Status, now: Timestamp) -> Self;
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub replicas: i32,
    pub fully_labeled: i32,
    pub ready: i32,
    pub available: i32,
    /// Only of a ReplicaSet.
    pub terminating: Option<i32>,
    pub observed_generation: i64,
    /// Reason and message of the ReplicaFailure condition.
    pub failure: Option<(String, String)>,
}

struct ReplicaController<O> {
    owners: Informer<O>,
    pods: Informer<Pod>,
}

impl<O: Replicas> ReplicaController<O> {
    fn observe(&self, key: &ObjectKey) -> Option<Inputs<O>> {
        let owner = self.owners.get(&key.namespace, &key.name)?;
        Some(Inputs { pods: owners::candidates(&self.pods, &*owner), related: self.related(&owner), owner })
    }

    /// The pods of everything that has the same controller (the ReplicaSets of one Deployment).
    fn related(&self, owner: &O) -> Vec<Arc<Pod>> {
        let Some(reference) = owners::controller_of(owner) else {
            return self.pods.by_index(owners::BY_CONTROLLER, owner.uid());
        };
        let siblings = self.owners.by_index(owners::BY_CONTROLLER, &reference.uid);
        siblings.iter().flat_map(|sibling| self.pods.by_index(owners::BY_CONTROLLER, sibling.uid())).collect()
    }
}

impl<O: Replicas> Controller for ReplicaController<O> {
    fn name(&self) -> &'static str {
        O::CONTROLLER
    }

    fn plan(&self, key: &ObjectKey, context: &Context) -> Plan {
        self.observe(key).map(|inputs| plan(&inputs, context)).unwrap_or_default()
    }
}

fn register<O: Replicas>(setup: &mut Setup) {
    let owners = setup.informer::<O>();
    let pods = setup.informer::<Pod>();
    let queue = setup.queue(O::CONTROLLER);
    owners::index_by_controller(&owners);
    owners::index_by_controller(&pods);
    owners::enqueue_self(&owners, &queue);
    owners::enqueue_controller::<Pod, O>(&pods, &queue);
    owners::enqueue_adopters(&pods, &owners, &queue, O::selector);
    setup.run(ReplicaController { owners, pods }, queue, 5);
}

pub fn register_replica_sets(setup: &mut Setup) {
    register::<ReplicaSet>(setup);
}

pub fn register_replication_controllers(setup: &mut Setup) {
    register::<ReplicationController>(setup);
}
