//! Answers: one object, in the form and format the client asked for.

use api::{Status, Value};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use net::Body;

use crate::{
    cache::Object,
    negotiate::{Form, Format, encode},
    table::{self, Rows},
};

use super::{Answer, Call};

/// An answer of JSON bytes.
pub(crate) fn respond_json(status: StatusCode, format: Format, json: Bytes) -> Answer {
    Ok(respond(status, format.content_type(), encode(format, json)?))
}

pub(crate) fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = streamed(content_type, net::full(body.into()));
    *response.status_mut() = status;
    response
}

/// A body as it comes.
pub(super) fn streamed(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

impl Call<'_> {
    /// One object of the request's resource.
    pub(super) fn respond(&self, status: StatusCode, object: &Object) -> Answer {
        let (accept, resource) = (&self.accept, &*self.resource);
        if accept.format == Format::Protobuf && accept.form == Form::Object {
            let message = object.protobuf(resource).map_err(Status::internal)?;
            return Ok(respond(status, accept.format.content_type(), message));
        }
        let json = match accept.form {
            Form::Object | Form::Discovery if accept.pretty => pretty(&object.as_version(resource))?,
            Form::Object | Form::Discovery => object.as_version(resource),
            Form::PartialMetadata => partial(&object.tree()).to_json().into(),
            Form::Table => self.as_table(&[object.tree()], Rows::One).to_json().into(),
        };
        respond_json(status, accept.format, json)
    }

    /// Objects of the request's resource as the Table that it asks for.
    pub(crate) fn as_table(&self, objects: &[Value], rows: Rows) -> Value {
        let include = self.query.get("includeObject");
        table::of_objects(&self.resource, objects, rows, include, self.server.clock.now())
    }
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
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond(code, format.content_type(), body);
    if let Some(seconds) =
        status.details.as_ref().map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0)
    {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
