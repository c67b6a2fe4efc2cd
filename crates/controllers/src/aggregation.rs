//! ClusterRoles made of other ClusterRoles, by label (upstream pkg/controller/clusterroleaggregation).

use std::sync::Arc;

use client::{
    Informer, Kind, ObjectKey, PatchKind,
    kinds::rbac::v1::{ClusterRole, PolicyRule},
};
use serde_json::json;

use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller},
    shared::{owners, selector},
};

/// The rules of every selected role, each once, roles by name.
pub fn plan(role: &ClusterRole, mut all: Vec<Arc<ClusterRole>>) -> Plan {
    let mut plan = Plan::default();
    let Some(aggregation) = &role.aggregation_rule else {
        return plan;
    };
    all.sort_by(|a, b| a.name().cmp(b.name()));
    let mut rules: Vec<&PolicyRule> = Vec::new();
    for one in aggregation.cluster_role_selectors.iter().flatten() {
        let selector = selector::compile(Some(one));
        for other in all.iter().filter(|other| other.name() != role.name() && selector::matches(&selector, &***other)) {
            for rule in other.rules.iter().flatten() {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    if role.rules.iter().flatten().ne(rules.iter().copied()) {
        plan.patch(role, PatchKind::Merge, &json!({"metadata": {"uid": role.uid()}, "rules": rules}));
    }
    plan
}

struct Aggregation(Informer<ClusterRole>);

impl Controller for Aggregation {
    fn name(&self) -> &'static str {
        "clusterrole-aggregation-controller"
    }

    fn plan(&self, key: &ObjectKey, _: &Context) -> Plan {
        self.0.get("", &key.name).map(|role| plan(&role, self.0.list())).unwrap_or_default()
    }
}

pub fn register(setup: &mut Setup) {
    let roles = setup.informer::<ClusterRole>();
    let queue = setup.queue("clusterrole-aggregation-controller");
    roles.add_index("aggregated", |role| role.aggregation_rule.iter().map(|_| String::new()).collect());
    let (to, known) = (queue.clone(), roles.clone());
    roles.on_event(move |delta| {
        if owners::newest(delta).aggregation_rule.is_some() {
            to.add(owners::newest(delta).key());
        }
        // Any role may be part of any aggregate.
        known.by_index("aggregated", "").iter().for_each(|role| to.add(role.key()));
    });
    setup.run(Aggregation(roles), queue, 2);
}
