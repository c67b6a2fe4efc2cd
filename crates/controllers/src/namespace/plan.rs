//! One pass over a namespace that is being deleted.

use std::{sync::Arc, time::Duration};

use client::{DeleteParams, Kind, Propagation, kinds::core::v1::Namespace};

use super::conditions;
use crate::{
    discovery::Resource,
    metadata::Meta,
    plan::{Plan, Target, Verb, Write},
    runtime::Context,
    shared::is_deleting,
};

/// What is left of one resource.
pub struct Content {
    pub resource: Resource,
    pub objects: Vec<Meta>,
}

pub struct Inputs {
    pub namespace: Arc<Namespace>,
    /// By resource.
    pub contents: Vec<Content>,
    /// Resources that could not be listed.
    pub errors: Vec<String>,
    /// Group versions discovery got no answer from.
    pub failed_discovery: Vec<String>,
}

const FINALIZER: &str = "kubernetes";

pub fn is_terminating(namespace: &Namespace) -> bool {
    is_deleting(namespace) && finalizers(namespace).contains(&FINALIZER.to_owned())
}

fn finalizers(namespace: &Namespace) -> &[String] {
    namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref()).unwrap_or_default()
}

pub fn plan(inputs: &Inputs, context: &Context) -> Plan {
    let mut plan = Plan::default();
    let mut errors = inputs.errors.clone();
    // The last pass's failed deletion is told in the condition, and tried again.
    errors.extend(
        context.failure.iter().filter(|failure| failure.verb == "delete").map(|failure| failure.message.clone()),
    );
    let status = conditions::status(inputs, &errors, context.now);
    let is_told = inputs.namespace.status.as_ref() == Some(&status);
    let namespace = Namespace { status: Some(status), ..(*inputs.namespace).clone() };
    let is_empty = inputs.contents.is_empty() && errors.is_empty() && inputs.failed_discovery.is_empty();
    if is_empty {
        finalize(&mut plan, inputs.namespace.as_ref());
        return plan;
    }
    if !is_told {
        plan.update_status(&namespace).ignore_conflict();
    }
    let has_new = delete(&mut plan, inputs);
    // Deleted objects without finalizers are gone at once; others take their time, and only pods tell.
    plan.requeue_after(if has_new { Duration::from_millis(20) } else { Duration::from_secs(1) });
    plan
}

/// Deletes what is not being deleted yet: pods first, and the rest once none are left
/// (upstream gate OrderedNamespaceDeletion).
fn delete(plan: &mut Plan, inputs: &Inputs) -> bool {
    let is_pods = |content: &&Content| content.resource.id.group.is_empty() && content.resource.id.resource == "pods";
    let first: Vec<&Content> = inputs.contents.iter().filter(is_pods).collect();
    let turn = if first.is_empty() { inputs.contents.iter().collect() } else { first };
    let mut has_new = false;
    for content in turn {
        let id = &content.resource.id;
        let fresh: Vec<&Meta> = content.objects.iter().filter(|object| object.deletion_timestamp.is_none()).collect();
        if fresh.is_empty() {
            continue;
        }
        has_new = true;
        let target =
            |name: &str| Target { resource: id.clone(), namespace: inputs.namespace.name().into(), name: name.into() };
        let params = DeleteParams { propagation: Some(Propagation::Background), ..DeleteParams::default() };
        if content.resource.has_verbs(&["deletecollection"]) {
            plan.push(Write::new(Verb::DeleteCollection(params), target(""), "")).ignore_not_found();
        } else {
            for object in fresh {
                plan.push(Write::new(Verb::Delete(params.clone()), target(&object.name), "")).ignore_not_found();
            }
        }
    }
    has_new
}

fn finalize(plan: &mut Plan, namespace: &Namespace) {
    let mut finalized = namespace.clone();
    let rest: Vec<String> = finalizers(namespace).iter().filter(|one| *one != FINALIZER).cloned().collect();
    finalized.spec.get_or_insert_default().finalizers = (!rest.is_empty()).then_some(rest);
    plan.update_sub(&finalized, "finalize").ignore_not_found();
}
