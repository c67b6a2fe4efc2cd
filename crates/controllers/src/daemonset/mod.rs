//! DaemonSet: one pod on every node that fits (upstream pkg/controller/daemon).

mod plan;
mod pod;
mod status;
mod update;

use client::{
    Delta, Informer, Kind, ObjectKey,
    kinds::{
        apps::v1::{ControllerRevision, DaemonSet},
        core::v1::{Node, Pod},
    },
};

pub use plan::{Inputs, plan};

use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller},
    shared::{owners, selector},
};

struct DaemonSetController {
    sets: Informer<DaemonSet>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    revisions: Informer<ControllerRevision>,
}

impl Controller for DaemonSetController {
    fn name(&self) -> &'static str {
        "daemonset-controller"
    }

    fn plan(&self, key: &ObjectKey, context: &Context) -> Plan {
        let Some(set) = self.sets.get(&key.namespace, &key.name) else {
            return Plan::default();
        };
        let mut nodes = self.nodes.list();
        nodes.sort_by(|a, b| a.name().cmp(b.name()));
        let inputs = Inputs {
            pods: owners::candidates(&self.pods, &*set),
            revisions: owners::candidates(&self.revisions, &*set),
            nodes,
            set,
        };
        plan(&inputs, |name| self.revisions.get(&key.namespace, name), context.now)
    }
}

/// What of a node decides whether daemon pods belong there.
fn places_differently(old: &Node, new: &Node) -> bool {
    let unschedulable = |node: &Node| node.spec.as_ref().and_then(|spec| spec.unschedulable);
    let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
    old.metadata.labels != new.metadata.labels || taints(old) != taints(new) || unschedulable(old) != unschedulable(new)
}

pub fn register(setup: &mut Setup) {
    let sets = setup.informer::<DaemonSet>();
    let pods = setup.informer::<Pod>();
    let nodes = setup.informer::<Node>();
    let revisions = setup.informer::<ControllerRevision>();
    let queue = setup.queue("daemonset-controller");
    owners::index_by_controller(&pods);
    owners::index_by_controller(&revisions);
    owners::enqueue_self(&sets, &queue);
    owners::enqueue_controller::<Pod, DaemonSet>(&pods, &queue);
    owners::enqueue_controller::<ControllerRevision, DaemonSet>(&revisions, &queue);
    owners::enqueue_adopters(&pods, &sets, &queue, |set| {
        selector::compile(set.spec.as_ref().map(|spec| &spec.selector))
    });
    let (to, all) = (queue.clone(), sets.clone());
    nodes.on_event(move |delta| match delta {
        Delta::Updated { old, new } if !places_differently(old, new) => {}
        _ => all.list().iter().for_each(|set| to.add(set.key())),
    });
    setup.run(DaemonSetController { sets, pods, nodes, revisions }, queue, 2);
}
