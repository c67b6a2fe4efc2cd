//! Eviction: a deletion that asks the pod's disruption budget first (`pkg/registry/core/pod/storage/eviction.go`).

use std::sync::Arc;

use api::{Resource, Status, Value, selector::LabelSelector, status::Cause};
use http::StatusCode;

use super::{body, objects::set_condition};
use crate::rest::{Answer, Call, Change, DeleteOptions, Scope, WriteOptions, respond_json};

pub(super) async fn serve(call: Call<'_>) -> Answer {
    let eviction = body(&call)?;
    if eviction.str_at(&["metadata", "name"]) != call.info.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut options = DeleteOptions::parse(eviction.get("deleteOptions").unwrap_or(&Value::Null))?;
    options.dry_run |= WriteOptions::of(&call)?.dry_run;
    let pod = call.current().await?.tree();
    // A pod that has ended or never ran is nobody's loss.
    let counts = !matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed" | "Pending")
        && pod.at(&["metadata", "deletionTimestamp"]).is_none();
    if counts {
        let budgets =
            call.server.resource("policy", "v1", "poddisruptionbudgets").ok_or_else(Status::no_such_resource)?;
        match matching(&call, &budgets, &pod)?.as_slice() {
            [] => {}
            [one] => spend(&call, &budgets, one, &pod, options.dry_run).await?,
            _ => {
                return Err(Status::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        }
    }
    if !options.dry_run {
        mark(&call, &mut options).await?;
    }
    call.delete_one(&call.info.namespace, &call.info.name, &options).await?;
    let mut success = Status::success();
    success.code = 201;
    respond_json(StatusCode::CREATED, call.accept.format, success.to_json().into())
}

/// Says in the pod why it ends: whoever counts failures, a Job for one, can tell this one apart. Who asks for one version of
/// the pod gets it deleted in the version that this makes.
async fn mark(call: &Call<'_>, options: &mut DeleteOptions) -> Result<(), Status> {
    let now = api::time::format(call.server.clock.now());
    let change = Change { subresource: "status", ..call.change(false, None) };
    let why = [("reason", "EvictionByEvictionAPI"), ("message", "Eviction API: evicting")];
    let marked = |before: &Value| {
        call.check_preconditions(before, &call.info.name, options)?;
        let mut object = before.clone();
        set_condition(&mut object, "DisruptionTarget", &now, &why);
        Ok(object)
    };
    let marked = change.run(Scope::Free, marked).await?;
    if options.resource_version.is_some() {
        options.resource_version = Some(marked.object().revision.to_string());
    }
    Ok(())
}

/// Names of the budgets that select the pod.
fn matching(call: &Call<'_>, budgets: &Resource, pod: &Value) -> Result<Vec<String>, Status> {
    let shelf = call.server.cache.shelf(budgets).ok_or_else(Status::no_such_resource)?;
    let prefix = format!("{}/", call.info.namespace);
    let snapshot = shelf.snapshot();
    let mut names = Vec::new();
    for (_, budget) in snapshot.under(&prefix) {
        let tree = budget.tree();
        let selector = tree.at(&["spec", "selector"]);
        let Ok(parsed) = LabelSelector::from_value(selector) else { continue };
        let labels = pod.at(&["metadata", "labels"]);
        if selector.is_some()
            && parsed.matches_with(|name| labels.and_then(|labels| labels.get(name)).and_then(Value::as_str))
        {
            names.push(budget.name().to_owned());
        }
    }
    Ok(names)
}

/// Takes one disruption from the budget, or refuses.
async fn spend(call: &Call<'_>, budgets: &Arc<Resource>, name: &str, pod: &Value, dry_run: bool) -> Result<(), Status> {
    let pod_name = pod.str_at(&["metadata", "name"]).to_owned();
    let now = api::time::format(call.server.clock.now());
    let change = Change {
        resource: budgets,
        served: budgets,
        subresource: "status",
        name,
        ..call.change(dry_run, Some(crate::rest::management::SERVER))
    };
    let ready = pod
        .at(&["status", "conditions"])
        .and_then(Value::as_array)
        .unwrap_or_default()
        .iter()
        .any(|condition| condition.str_at(&["type"]) == "Ready" && condition.str_at(&["status"]) == "True");
    change
        .run(Scope::Free, |before| {
            let number = |path: &[&str]| before.at(path).and_then(Value::as_i64).unwrap_or(0);
            let always = before.str_at(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
            let healthy_enough = number(&["status", "currentHealthy"]) >= number(&["status", "desiredHealthy"])
                && number(&["status", "desiredHealthy"]) > 0;
            if !ready && (always || healthy_enough) {
                return Ok(before.clone());
            }
            if number(&["status", "observedGeneration"]) < number(&["metadata", "generation"]) {
                return Err(refused("The disruption budget is still being processed by the server.", 10));
            }
            let allowed = number(&["status", "disruptionsAllowed"]);
            if allowed <= 0 {
                let text = format!(
                    "The disruption budget {name} needs {} healthy pods and has {} currently",
                    number(&["status", "desiredHealthy"]),
                    number(&["status", "currentHealthy"])
                );
                return Err(refused(&text, 0));
            }
            let mut object = before.clone();
            object.set(&["status", "disruptionsAllowed"], allowed - 1);
            object.set(&["status", "disruptedPods", &pod_name], now.as_str());
            Ok(object)
        })
        .await?;
    Ok(())
}

fn refused(detail: &str, retry_after: u32) -> Status {
    let mut status =
        Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", retry_after);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause { reason: "DisruptionBudget".into(), message: detail.into(), field: String::new() });
    }
    status
}
