//! Answers: one object, in the form and format the client asked for.

use api::{Resource, Status, Value};
use bytes::Bytes;
use http::{Response, StatusCode, header};
use net::Body;

use crate::{
    cache::Object,
    negotiate::{Accept, Form, Format, encode},
};

use super::Answer;

/// An answer of JSON bytes.
pub(crate) fn respond_json(status: StatusCode, format: Format, json: Bytes) -> Answer {
    respond(status, format.content_type(), encode(format, json)?)
}

pub(crate) fn respond(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Answer {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CACHE_CONTROL, "no-cache, private")
        .body(net::full(body.into()))
        .map_err(Status::internal)
}

/// One object.
pub(super) fn object(accept: &Accept, resource: &Resource, status: StatusCode, object: &Object) -> Answer {
    if accept.format == Format::Protobuf && accept.form == Form::Object {
        return respond(status, accept.format.content_type(), object.protobuf(resource).map_err(Status::internal)?);
    }
    let json = match accept.form {
        Form::Object | Form::Discovery if accept.pretty => pretty(&object.as_version(resource))?,
        Form::Object | Form::Discovery => object.as_version(resource),
        Form::PartialMetadata => partial(&object.tree()).to_json().into(),
        Form::Table => crate::table::of_objects(resource, &[object.tree()], crate::table::Rows::One).to_json().into(),
    };
    respond_json(status, accept.format, json)
}

fn pretty(json: &Bytes) -> Result<Bytes, Status> {
    let tree: serde_json::Value = serde_json::from_slice(json).map_err(Status::internal)?;
    serde_json::to_vec_pretty(&tree).map(Bytes::from).map_err(Status::internal)
}

/// An object's metadata alone.
pub(crate) fn partial(object: &Value) -> Value {
    let mut partial = Value::object();
    partial.set(&["kind"], "PartialObjectMetadata");
    partial.set(&["apiVersion"], "meta.k8s.io/v1");
    partial.set(&["metadata"], object.get("metadata").cloned().unwrap_or_else(Value::object));
    partial
}

/// A failure, with its headers.
pub(crate) fn failure(status: &Status, format: Format) -> Response<Body> {
    let body = match format {
        Format::Json => Bytes::from(status.to_json()),
        format => encode(format, status.to_json().into()).unwrap_or_default(),
    };
    let mut response = Response::new(net::full(body));
    *response.status_mut() = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(format.content_type()));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache, private"));
    if let Some(seconds) =
        status.details.as_ref().map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0)
    {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
