//! Eviction: a deletion that asks the pod's disruption budget first (`pkg/registry/core/pod/storage/eviction.go`).

use std::sync::Arc;

use api::{Resource, Status, Value, selector::LabelSelector, status::Cause};
use http::StatusCode;

use super::{body, objects::set_condition};
use crate::rest::{Answer, Call, Change, DeleteOptions, Scope, respond_json};

pub(super) async fn serve(call: Call<'_>) -> Answer {
    let eviction = body(&call)?;
    let mut options = DeleteOptions::parse(eviction.get("deleteOptions").unwrap_or(&Value::Null))?;
    options.dry_run |= call.dry_run()?;
    call.server.cache.wait_until_current().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let shelf = call.server.cache.shelf(&call.resource).ok_or_else(Status::no_such_resource)?;
    let key = format!("{}/{}", call.info.namespace, call.info.name);
    let pod = shelf.get(&key).ok_or_else(|| call.not_found(&call.info.name))?.tree();
    // A pod that has ended or never ran is nobody's loss.
    let counts = !matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed" | "Pending")
        && pod.at(&["metadata", "deletionTimestamp"]).is_none();
    if counts {
        let budgets =
            call.server.resource("policy", "v1", "poddisruptionbudgets").ok_or_else(Status::no_such_resource)?;
        match matching(&call, &budgets, &pod)?.as_slice() {
            [] => {}
            [one] => spend(&call, &budgets, one, &pod).await?,
            _ => {
                return Err(Status::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        }
    }
    if !options.dry_run {
        mark(&call).await?;
    }
    call.delete_one(&call.info.namespace, &call.info.name, &options).await?;
    let mut success = Status::success();
    success.code = 201;
    respond_json(StatusCode::CREATED, call.accept.format, success.to_json().into())
}

/// Says in the pod why it ends: whoever counts failures, a Job for one, can tell this one apart.
async fn mark(call: &Call<'_>) -> Result<(), Status> {
    let now = api::time::format(call.server.clock.now());
    let change = Change {
        server: call.server,
        resource: &call.resource,
        served: &call.resource,
        subresource: "status",
        namespace: &call.info.namespace,
        name: &call.info.name,
        user: call.user,
        dry_run: false,
        manager: None,
    };
    let why = [("reason", "EvictionByEvictionAPI"), ("message", "Eviction API: evicting")];
    let marked = |before: &Value| {
        let mut object = before.clone();
        set_condition(&mut object, "DisruptionTarget", &now, &why);
        Ok(object)
    };
    change.run(Scope::Free, marked).await?;
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
async fn spend(call: &Call<'_>, budgets: &Arc<Resource>, name: &str, pod: &Value) -> Result<(), Status> {
    let pod_name = pod.str_at(&["metadata", "name"]).to_owned();
    let now = api::time::format(call.server.clock.now());
    let change = Change {
        server: call.server,
        resource: budgets,
        served: budgets,
        subresource: "status",
        namespace: &call.info.namespace,
        name,
        user: call.user,
        dry_run: call.dry_run()?,
        manager: Some(crate::rest::management::SERVER),
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
                return Err(refused(name, "The disruption budget is still being processed by the server.", 10));
            }
            let allowed = number(&["status", "disruptionsAllowed"]);
            if allowed <= 0 {
                let text = format!(
                    "The disruption budget {name} needs {} healthy pods and has {} currently",
                    number(&["status", "desiredHealthy"]),
                    number(&["status", "currentHealthy"])
                );
                return Err(refused(name, &text, 0));
            }
            let mut object = before.clone();
            object.set(&["status", "disruptionsAllowed"], allowed - 1);
            object.set(&["status", "disruptedPods", &pod_name], now.as_str());
            Ok(object)
        })
        .await?;
    Ok(())
}

fn refused(_budget: &str, detail: &str, retry_after: u32) -> Status {
    let mut status =
        Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", retry_after);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause { reason: "DisruptionBudget".into(), message: detail.into(), field: String::new() });
    }
    status
}
