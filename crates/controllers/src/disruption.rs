//! PodDisruptionBudgets: how many pods may be evicted now (upstream pkg/controller/disruption).
//!
//! Of controllers with a scale subresource only the built-in kinds are known; pods of others count one each.

use std::{collections::BTreeMap, sync::Arc};

use client::{
    Informer, Kind, ObjectKey,
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
    kinds::{
        apps::v1::{Deployment, ReplicaSet, StatefulSet},
        core::v1::{Pod, ReplicationController},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
};
use jiff::Timestamp;

use crate::{
    manager::Setup,
    plan::{Plan, PlannedEvent},
    runtime::{Context, Controller},
    shared::{after_seconds, is_deleting, owners, percent, pods, selector, until},
};

/// An eviction that was allowed must show as a deletion within this.
const DELETION_SECONDS: i64 = 120;

pub struct Inputs {
    pub budget: Arc<PodDisruptionBudget>,
    /// The pods it selects.
    pub pods: Vec<Arc<Pod>>,
    /// Sizes of the controllers of these pods, by UID; `None` for a pod whose controller has no known scale.
    pub scales: BTreeMap<String, i32>,
    pub unmanaged: Vec<String>,
}

/// Pods expected and pods that must stay healthy.
fn expected(inputs: &Inputs) -> Result<(i32, i32), String> {
    let spec = inputs.budget.spec.clone().unwrap_or_default();
    let selected = inputs.pods.iter().filter(|pod| !pods::is_terminal(pod)).count() as i32;
    let by_scale = || {
        if inputs.unmanaged.is_empty() {
            Ok(inputs.scales.values().sum::<i32>())
        } else {
            Err(format!("found no controllers for pods {:?}", inputs.unmanaged))
        }
    };
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(max), _) => {
            let total = by_scale()?;
            Ok((total, (total - percent::scaled(Some(max), total, true)).max(0)))
        }
        (None, Some(IntOrString::Int(min))) => Ok((selected, *min)),
        (None, Some(min)) => {
            let total = by_scale()?;
            Ok((total, percent::scaled(Some(min), total, true)))
        }
        (None, None) => Ok((selected, selected)),
    }
}

pub fn plan(inputs: &Inputs, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let budget = &*inputs.budget;
    let before = budget.status.clone().unwrap_or_default();
    let disrupted = still_disrupted(&mut plan, inputs, &before, now);
    let is_healthy =
        |pod: &&Arc<Pod>| pods::is_ready(pod) && !is_deleting(&***pod) && !disrupted.contains_key(pod.name());
    let healthy = inputs.pods.iter().filter(is_healthy).count() as i32;
    let mut status = PodDisruptionBudgetStatus {
        observed_generation: budget.metadata.generation,
        conditions: before.conditions.clone(),
        current_healthy: Some(healthy),
        ..PodDisruptionBudgetStatus::default()
    };
    let (value, reason, message) = match expected(inputs) {
        Ok((total, desired)) => {
            let allowed = if total <= 0 { 0 } else { (healthy - desired).max(0) };
            status.expected_pods = Some(total);
            status.desired_healthy = Some(desired);
            status.disruptions_allowed = Some(allowed);
            status.disrupted_pods = (!disrupted.is_empty()).then_some(disrupted);
            if allowed > 0 {
                ("True", "SufficientPods", String::new())
            } else {
                ("False", "InsufficientPods", String::new())
            }
        }
        Err(message) => {
            plan.event(PlannedEvent::warning(budget, "NoControllers", message.clone()));
            status = PodDisruptionBudgetStatus { disruptions_allowed: Some(0), ..before.clone() };
            ("False", "SyncFailed", message)
        }
    };
    set_condition(&mut status, value, reason, message, budget.metadata.generation, now);
    if status != before {
        plan.update_status(&PodDisruptionBudget { status: Some(status), ..budget.clone() });
    }
    plan
}

/// Evictions granted whose pods are not deleted yet; those that came to nothing are dropped in time.
fn still_disrupted(
    plan: &mut Plan,
    inputs: &Inputs,
    before: &PodDisruptionBudgetStatus,
    now: Timestamp,
) -> BTreeMap<String, Time> {
    let mut disrupted = BTreeMap::new();
    for (name, granted) in before.disrupted_pods.iter().flatten() {
        let pod = inputs.pods.iter().find(|pod| pod.name() == name);
        let is_waiting = pod.is_some_and(|pod| !is_deleting(&**pod));
        if let (true, Some(left)) = (is_waiting, until(after_seconds(granted.0, DELETION_SECONDS), now)) {
            plan.requeue_after(left);
            disrupted.insert(name.clone(), granted.clone());
        }
    }
    disrupted
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    value: &str,
    reason: &str,
    message: String,
    generation: Option<i64>,
    now: Timestamp,
) {
    let all = status.conditions.get_or_insert_default();
    let at = all.iter().position(|condition| condition.type_ == "DisruptionAllowed");
    let since = at
        .map(|at| &all[at])
        .filter(|old| old.status == value)
        .map_or(Time(now), |old| old.last_transition_time.clone());
    let condition = Condition {
        type_: "DisruptionAllowed".into(),
        status: value.into(),
        reason: reason.into(),
        message,
        observed_generation: generation,
        last_transition_time: since,
    };
    match at {
        Some(at) => all[at] = condition,
        None => all.push(condition),
    }
}

struct Disruption {
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    sets: Informer<ReplicaSet>,
    deployments: Informer<Deployment>,
    stateful: Informer<StatefulSet>,
    controllers: Informer<ReplicationController>,
}

impl Disruption {
    /// UID and size of what finally decides how many such pods there are.
    fn scale(&self, pod: &Pod) -> Option<(String, i32)> {
        let owner = owners::controller_of(pod)?;
        let namespace = pod.namespace();
        if owners::names_kind::<ReplicaSet>(owner) {
            let set = self.sets.get(namespace, &owner.name).filter(|set| set.uid() == owner.uid)?;
            let above = owners::controller_of(&*set).filter(|above| owners::names_kind::<Deployment>(above));
            if let Some(deployment) = above.and_then(|above| self.deployments.get(namespace, &above.name)) {
                return Some((deployment.uid().into(), deployment.spec.as_ref()?.replicas.unwrap_or(1)));
            }
            return Some((set.uid().into(), set.spec.as_ref()?.replicas.unwrap_or(1)));
        }
        let size = if owners::names_kind::<StatefulSet>(owner) {
            self.stateful.get(namespace, &owner.name)?.spec.as_ref()?.replicas
        } else if owners::names_kind::<ReplicationController>(owner) {
            self.controllers.get(namespace, &owner.name)?.spec.as_ref()?.replicas
        } else {
            return None;
        };
        Some((owner.uid.clone(), size.unwrap_or(1)))
    }
}

fn selector_of(budget: &PodDisruptionBudget) -> api::selector::LabelSelector {
    selector::compile(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
}

impl Controller for Disruption {
    fn name(&self) -> &'static str {
        "disruption-controller"
    }

    fn plan(&self, key: &ObjectKey, context: &Context) -> Plan {
        let Some(budget) = self.budgets.get(&key.namespace, &key.name) else {
            return Plan::default();
        };
        let selector = selector_of(&budget);
        let pods: Vec<_> = self
            .pods
            .list_namespace(&key.namespace)
            .into_iter()
            .filter(|pod| selector::matches(&selector, &**pod))
            .collect();
        let (mut scales, mut unmanaged) = (BTreeMap::new(), Vec::new());
        for pod in &pods {
            match self.scale(pod) {
                Some((uid, size)) => {
                    scales.insert(uid, size);
                }
                None => unmanaged.push(pod.name().to_owned()),
            }
        }
        plan(&Inputs { budget, pods, scales, unmanaged }, context.now)
    }
}

pub fn register(setup: &mut Setup) {
    let budgets = setup.informer::<PodDisruptionBudget>();
    let controller = Disruption {
        pods: setup.informer::<Pod>(),
        sets: setup.informer::<ReplicaSet>(),
        deployments: setup.informer::<Deployment>(),
        stateful: setup.informer::<StatefulSet>(),
        controllers: setup.informer::<ReplicationController>(),
        budgets: budgets.clone(),
    };
    let queue = setup.queue("disruption-controller");
    owners::enqueue_self(&budgets, &queue);
    let (to, known) = (queue.clone(), budgets.clone());
    controller.pods.on_event(move |delta| {
        let pod = owners::newest(delta);
        for budget in known.list_namespace(pod.namespace()) {
            if selector::matches(&selector_of(&budget), &**pod) {
                to.add(budget.key());
            }
        }
    });
    // A scaled controller moves percentages; its budgets are few.
    fn on_scale<K: Kind>(
        informer: &Informer<K>,
        budgets: &Informer<PodDisruptionBudget>,
        queue: &client::WorkQueue<ObjectKey>,
    ) {
        let (budgets, queue) = (budgets.clone(), queue.clone());
        informer.on_event(move |delta| {
            for budget in budgets.list_namespace(owners::newest(delta).namespace()) {
                queue.add(budget.key());
            }
        });
    }
    on_scale(&controller.deployments, &budgets, &queue);
    on_scale(&controller.stateful, &budgets, &queue);
    on_scale(&controller.sets, &budgets, &queue);
    on_scale(&controller.controllers, &budgets, &queue);
    setup.run(controller, queue, 2);
}
