//! Deployment: rolls ReplicaSets from one pod template to the next (upstream pkg/controller/deployment).

mod plan;
mod rolling;
mod rollout;
mod status;

use client::{
    Delta, Informer, Kind, ObjectKey,
    kinds::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::Pod,
    },
};

pub use plan::{Inputs, plan};
pub use rollout::name_for;

use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller},
    shared::{owners, pods, selector},
};

struct DeploymentController {
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
}

impl DeploymentController {
    fn observe(&self, key: &ObjectKey) -> Option<Inputs> {
        let deployment = self.deployments.get(&key.namespace, &key.name)?;
        let sets = owners::candidates(&self.sets, &*deployment);
        let running = |set: &ReplicaSet| {
            self.pods.by_index(owners::BY_CONTROLLER, set.uid()).iter().any(|pod| !pods::is_terminal(pod))
        };
        let running = sets.iter().filter(|set| running(set)).map(|set| set.uid().to_owned()).collect();
        let taken = self.sets.get(&key.namespace, &name_for(&deployment).0);
        Some(Inputs { deployment, sets, running, taken })
    }
}

impl Controller for DeploymentController {
    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    fn plan(&self, key: &ObjectKey, context: &Context) -> Plan {
        self.observe(key).map(|inputs| plan(&inputs, context.now)).unwrap_or_default()
    }
}

pub fn register(setup: &mut Setup) {
    let deployments = setup.informer::<Deployment>();
    let sets = setup.informer::<ReplicaSet>();
    let pods = setup.informer::<Pod>();
    let queue = setup.queue("deployment-controller");
    owners::index_by_controller(&sets);
    owners::index_by_controller(&pods);
    owners::enqueue_self(&deployments, &queue);
    owners::enqueue_controller::<ReplicaSet, Deployment>(&sets, &queue);
    owners::enqueue_adopters(&sets, &deployments, &queue, |deployment| {
        selector::compile(deployment.spec.as_ref().map(|spec| &spec.selector))
    });
    // A Recreate rollout waits for the last old pod, which no ReplicaSet status tells about.
    let (sets_by_name, to) = (sets.clone(), queue.clone());
    pods.on_event(move |delta| {
        let pod = owners::newest(delta);
        if !matches!(delta, Delta::Deleted(_)) && !pods::is_terminal(pod) {
            return;
        }
        let set = owners::controller_of(&**pod).filter(|reference| owners::names_kind::<ReplicaSet>(reference));
        let set = set.and_then(|reference| sets_by_name.get(pod.namespace(), &reference.name));
        if let Some(deployment) = set.as_deref().and_then(owners::controller_of) {
            to.add(ObjectKey::new(pod.namespace(), &deployment.name));
        }
    });
    setup.run(DeploymentController { deployments, sets, pods }, queue, 5);
}
