//! The few forms of response the kubelet's API has.

use http::{Response, StatusCode, header};
use net::Body;

pub(super) fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<bytes::Bytes>,
) -> Response<Body> {
    let mut response = Response::new(net::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", body.into())
}

pub(super) fn json(body: impl Into<bytes::Bytes>) -> Response<Body> {
    with_type(StatusCode::OK, "application/json", body)
}

/// Prometheus' text format.
pub(super) fn metrics(body: String) -> Response<Body> {
    with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body)
}
