//! StatefulSet: pods with names, storage and an order (upstream pkg/controller/statefulset).

mod claims;
mod identity;
mod plan;
mod status;

use client::{
    Informer, ObjectKey,
    kinds::{
        apps::v1::{ControllerRevision, StatefulSet},
        core::v1::{PersistentVolumeClaim, Pod},
    },
};

pub use plan::{Inputs, plan};

use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller},
    shared::{owners, selector},
};

struct StatefulSetController {
    sets: Informer<StatefulSet>,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    revisions: Informer<ControllerRevision>,
}

impl Controller for StatefulSetController {
    fn name(&self) -> &'static str {
        "statefulset-controller"
    }

    fn plan(&self, key: &ObjectKey, context: &Context) -> Plan {
        let Some(set) = self.sets.get(&key.namespace, &key.name) else {
            return Plan::default();
        };
        let pods = owners::candidates(&self.pods, &*set);
        let claims = identity::claim_names(&set, &pods);
        let inputs = Inputs {
            claims: claims.iter().filter_map(|name| self.claims.get(&key.namespace, name)).collect(),
            revisions: owners::candidates(&self.revisions, &*set),
            pods,
            set,
        };
        plan(&inputs, |name| self.revisions.get(&key.namespace, name), context.now)
    }
}

pub fn register(setup: &mut Setup) {
    let sets = setup.informer::<StatefulSet>();
    let pods = setup.informer::<Pod>();
    let claims = setup.informer::<PersistentVolumeClaim>();
    let revisions = setup.informer::<ControllerRevision>();
    let queue = setup.queue("statefulset-controller");
    owners::index_by_controller(&pods);
    owners::index_by_controller(&revisions);
    owners::enqueue_self(&sets, &queue);
    owners::enqueue_controller::<Pod, StatefulSet>(&pods, &queue);
    owners::enqueue_controller::<ControllerRevision, StatefulSet>(&revisions, &queue);
    owners::enqueue_adopters(&pods, &sets, &queue, |set| {
        selector::compile(set.spec.as_ref().map(|spec| &spec.selector))
    });
    setup.run(StatefulSetController { sets, pods, claims, revisions }, queue, 5);
}
