//! Subresources that change one part of their object.

use api::{Status, Value, status::FieldError};
use http::StatusCode;

use super::{answer, body, resize};
use crate::{
    negotiate,
    rest::{
        Answer, Call, Edit, Scope, WriteOptions,
        management::{MANAGED_FIELDS, Management},
        write,
    },
};

/// Assigns a pod to a node (`pkg/registry/core/pod/storage`, BindingREST).
pub(super) async fn bind(call: Call<'_>) -> Answer {
    let options = WriteOptions::of(&call)?;
    let binding = body(&call)?;
    let node = binding.str_at(&["target", "name"]).to_owned();
    let kind = binding.str_at(&["target", "kind"]);
    if !kind.is_empty() && kind != "Node" {
        let error = FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]);
        return Err(Status::invalid("", "Binding", &call.info.name, vec![error]));
    }
    if node.is_empty() {
        return Err(Status::invalid("", "Binding", &call.info.name, vec![FieldError::required("target.name", "")]));
    }
    let name = &call.info.name;
    let uid = binding.str_at(&["metadata", "uid"]).to_owned();
    let now = api::time::format(call.server.clock.now());
    let conflict = |why: &str| Status::conflict("", "pods/binding", name, why);
    // As upstream: a binding owns nothing of the pod.
    call.change(options.dry_run, None)
        .run(Scope::Free, |before| {
            if !uid.is_empty() && before.str_at(&["metadata", "uid"]) != uid {
                return Err(conflict(&format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                    before.str_at(&["metadata", "uid"])
                )));
            }
            if before.at(&["metadata", "deletionTimestamp"]).is_some() {
                return Err(conflict(&format!("pod {name} is being deleted, cannot be assigned to a host")));
            }
            let present = before.str_at(&["spec", "nodeName"]);
            if !present.is_empty() {
                return Err(conflict(&format!("pod {name} is already assigned to node \"{present}\"")));
            }
            if before.at(&["spec", "schedulingGates"]).and_then(Value::as_array).is_some_and(|gates| !gates.is_empty())
            {
                return Err(conflict(&format!("pod {name} has non-empty .spec.schedulingGates")));
            }
            let mut object = before.clone();
            object.set(&["spec", "nodeName"], node.as_str());
            for part in ["annotations", "labels"] {
                for (key, value) in
                    binding.at(&["metadata", part]).and_then(Value::as_object).into_iter().flat_map(|map| map.iter())
                {
                    object.set(&["metadata", part, key], value.clone());
                }
            }
            set_condition(&mut object, "PodScheduled", &now, &[]);
            Ok(object)
        })
        .await?;
    let mut success = Status::success();
    success.code = 201;
    crate::rest::respond_json(StatusCode::CREATED, call.accept.format, success.to_json().into())
}

/// Sets a condition that holds since `now`; `more` are members such as its reason.
pub(super) fn set_condition(object: &mut Value, kind: &str, now: &str, more: &[(&str, &str)]) {
    let mut condition = Value::object();
    condition.set(&["type"], kind);
    condition.set(&["status"], "True");
    condition.set(&["lastTransitionTime"], now);
    for (member, text) in more {
        condition.set(&[member], *text);
    }
    let Some(status) = object.make_object(&["status"]) else { return };
    let conditions = status.entry_or_insert_with("conditions", || Value::Array(Vec::new()));
    let Some(conditions) = conditions.as_array_mut() else { return };
    conditions.retain(|present| present.str_at(&["type"]) != kind);
    conditions.push(condition);
}

/// The part of the object that each of these subresources owns.
fn owned(subresource: &str) -> &'static [&'static [&'static str]] {
    match subresource {
        "ephemeralcontainers" => &[&["spec", "ephemeralContainers"]],
        "approval" => &[
            &["status", "conditions"],
            &["metadata", "labels"],
            &["metadata", "annotations"],
            &["metadata", "finalizers"],
            &["metadata", "ownerReferences"],
        ],
        _ => &[],
    }
}

/// GET, PUT and PATCH of the whole object, of which only the subresource's part changes.
pub(super) async fn partial(call: Call<'_>) -> Answer {
    if call.info.verb == "get" {
        return answer(&call, StatusCode::OK, &call.current().await?.tree());
    }
    let options = WriteOptions::of(&call)?;
    let edit = if call.info.verb == "patch" { Some(Edit::read(&call)?) } else { None };
    let (wanted, mut warnings) = match edit {
        Some(_) => (Value::Null, Vec::new()),
        None => {
            let parsed = negotiate::decode_body(call.headers, &call.body)?;
            write::read_object(&call.resource, parsed, options.validation)?
        }
    };
    let management = Management::of(call.server, &call.resource, &call.info.subresource);
    let manager = edit.as_ref().map_or(Some(&*options.manager), |edit| edit.manager(&options));
    let mut admitted = Vec::new();
    let outcome = call
        .change(options.dry_run, manager)
        .run_warning(
            Scope::Free,
            |before| {
                let wanted = match &edit {
                    Some(edit) => {
                        let mut wanted = edit.of(&management, &options, before)?;
                        call.decode_edited(&mut wanted)?;
                        wanted
                    }
                    None => wanted.clone(),
                };
                let mut object = before.clone();
                // An apply says by itself what it owns.
                if let (Some(list), None) = (wanted.at(&MANAGED_FIELDS), manager) {
                    object.set(&MANAGED_FIELDS, list.clone());
                }
                match wanted.str_at(&["metadata", "resourceVersion"]) {
                    "" => object.take(&["metadata", "resourceVersion"]).is_some(),
                    version => object.set(&["metadata", "resourceVersion"], version),
                };
                for path in owned(&call.info.subresource) {
                    match wanted.at(path) {
                        Some(value) => object.set(path, value.clone()),
                        None => object.take(path).is_some(),
                    };
                }
                if call.info.subresource == "resize" {
                    let spec = resize::resized(before, &wanted, &call.info.name)?.take(&["spec"]);
                    object.set(&["spec"], spec.unwrap_or_default());
                }
                // A pod's kubelet tells by the generation which spec it has seen.
                if &*call.resource.plural == "pods" && object.get("spec") != before.get("spec") {
                    let generation = before.at(&["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
                    object.set(&["metadata", "generation"], generation + 1);
                }
                Ok(object)
            },
            &mut admitted,
        )
        .await;
    warnings.extend(admitted);
    call.warn(warnings);
    answer(&call, StatusCode::OK, &outcome?.object().tree())
}

/// Takes finalizers from a namespace's spec; without any it goes once it is being deleted.
pub(super) async fn finalize(call: Call<'_>) -> Answer {
    let wanted = body(&call)?;
    let options = WriteOptions::of(&call)?;
    let outcome = call
        .change(options.dry_run, Some(&options.manager))
        .run(Scope::Free, |before| {
            let mut object = before.clone();
            match wanted.at(&["spec", "finalizers"]) {
                Some(finalizers) => object.set(&["spec", "finalizers"], finalizers.clone()),
                None => object.take(&["spec", "finalizers"]).is_some(),
            };
            Ok(object)
        })
        .await?;
    answer(&call, StatusCode::OK, &outcome.object().tree())
}
