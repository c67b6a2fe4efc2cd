//! Subresources that are more than a part of the same object: scale, binding, eviction, token, approval, finalize,
//! ephemeralcontainers, resize; and the reviews that are answered, not kept.

mod eviction;
mod objects;
mod resize;
mod scale;

use api::{Resource, Status, Value, json::Parsed, resource::Verb};
use http::StatusCode;

use crate::{
    negotiate,
    rest::{Answer, Call, respond_json},
};

/// Whether what an endpoint answers with can be shown as a Table; what is only asked and answered cannot.
pub(crate) fn has_table(resource: &Resource, subresource: &str) -> bool {
    match resource.subresource(subresource) {
        None => resource.allows(Verb::List),
        Some(sub) => sub.verbs.iter().any(|verb| *verb != Verb::Create),
    }
}

pub(crate) async fn serve(call: Call<'_>) -> Answer {
    let sub = call.resource.subresource(&call.info.subresource).ok_or_else(Status::no_such_resource)?;
    let allowed = sub.verbs.iter().any(|verb| verb.as_str() == call.info.verb);
    if !allowed {
        return Err(Status::method_not_allowed());
    }
    match (&*call.resource.plural, call.info.subresource.as_str()) {
        (_, "scale") => scale::serve(call).await,
        ("pods", "binding") => objects::bind(call).await,
        ("pods", "eviction") => eviction::serve(call).await,
        ("pods", "ephemeralcontainers" | "resize") => objects::partial(call).await,
        ("namespaces", "finalize") => objects::finalize(call).await,
        ("certificatesigningrequests", "approval") => objects::partial(call).await,
        ("serviceaccounts", "token") => crate::auth::token_request(call).await,
        _ => Err(Status::no_such_resource()),
    }
}

/// A create of a kind that is not kept: a review, or a binding by its old path.
pub(crate) async fn answer_only(call: &Call<'_>, object: Value) -> Answer {
    if &*call.resource.plural != "bindings" {
        return crate::auth::review(call, object).await;
    }
    let pods = call.server.resource("", "v1", "pods").ok_or_else(Status::no_such_resource)?;
    let mut info = call.info.clone();
    info.name = object.str_at(&["metadata", "name"]).to_owned();
    info.subresource = "binding".into();
    objects::bind(Call { info: &info, resource: pods, body: call.body.clone(), ..*call }).await
}

/// The request's body as a tree.
fn body(call: &Call<'_>) -> Result<Value, Status> {
    let Parsed { value, .. } = negotiate::decode_body(call.headers, &call.body)?;
    Ok(value)
}

fn answer(call: &Call<'_>, status: StatusCode, object: &Value) -> Answer {
    respond_json(status, call.accept.format, object.to_json().into())
}
