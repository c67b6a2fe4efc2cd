//! `autoscaling/v1` Scale: the replicas of a workload, whatever its kind.

use api::{Status, Value, selector::LabelSelector, status::FieldError};
use http::StatusCode;

use super::{answer, body};
use crate::rest::{Answer, Call, Change, Patch, Scope};

pub(super) async fn serve(call: Call<'_>) -> Answer {
    let change = Change {
        server: call.server,
        resource: &call.resource,
        subresource: "scale",
        namespace: &call.info.namespace,
        name: &call.info.name,
        user: call.user,
        dry_run: call.dry_run()?,
    };
    if call.info.verb == "get" {
        call.server.cache.wait_until_current().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let key = format!("{}/{}", call.info.namespace, call.info.name);
        let object = change.shelf()?.get(&key).ok_or_else(|| call.not_found(&call.info.name))?;
        return answer(&call, StatusCode::OK, &scale_of(&object.tree()));
    }
    let patch = if call.info.verb == "patch" { Some(Patch::read(&call)?) } else { None };
    let wanted = if patch.is_some() { Value::Null } else { body(&call)? };
    let ty = call.server.model.find("autoscaling.v1.Scale").ok_or_else(Status::no_such_resource)?;
    let outcome = change
        .run(Scope::Main, |before| {
            let scale = match &patch {
                Some(patch) => patch.apply(call.server.model, ty, &scale_of(before))?,
                None => wanted.clone(),
            };
            let replicas = match scale.at(&["spec", "replicas"]) {
                None => 0,
                Some(value) => value.as_i64().ok_or_else(|| Status::bad_request("Scale in version \"v1\" cannot be handled as a Scale: spec.replicas must be a number"))?,
            };
            if replicas < 0 {
                let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
                return Err(Status::invalid("autoscaling", "Scale", &call.info.name, vec![error]));
            }
            let mut object = before.clone();
            object.set(&["spec", "replicas"], replicas);
            // The version that the client saw, where it names one, is the one that is scaled.
            match scale.str_at(&["metadata", "resourceVersion"]) {
                "" => object.take(&["metadata", "resourceVersion"]).is_some(),
                version => object.set(&["metadata", "resourceVersion"], version),
            };
            Ok(object)
        })
        .await?;
    answer(&call, StatusCode::OK, &scale_of(&outcome.object().tree()))
}

fn scale_of(object: &Value) -> Value {
    let mut scale = Value::object();
    scale.set(&["kind"], "Scale");
    scale.set(&["apiVersion"], "autoscaling/v1");
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.at(&["metadata", name]) {
            scale.set(&["metadata", name], value.clone());
        }
    }
    scale.set(&["spec", "replicas"], object.at(&["spec", "replicas"]).cloned().unwrap_or(Value::Int(0)));
    scale.set(&["status", "replicas"], object.at(&["status", "replicas"]).cloned().unwrap_or(Value::Int(0)));
    let selector = object.at(&["spec", "selector"]);
    // A ReplicationController's selector is a plain map.
    let parsed = if object.str_at(&["kind"]) == "ReplicationController" {
        let labels = selector.and_then(Value::as_object);
        Some(LabelSelector::from_set(labels.into_iter().flat_map(|map| map.iter()).map(|(key, value)| (key, value.as_str().unwrap_or_default()))))
    } else {
        LabelSelector::from_value(selector).ok()
    };
    if let Some(parsed) = parsed {
        scale.set(&["status", "selector"], parsed.to_string());
    }
    scale
}
