//! Every operation that upstream's OpenAPI documents name is answered. What is not stands in `upstream/differences.txt`
//! with its reason, and that list may only shrink.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::{harness::Harness, upstream};

/// A request for the operation; what it names is not there.
fn request(path: &str, method: &str) -> Request<Bytes> {
    let uri = path
        .replace("{namespace}", "default")
        .replace("{name}", "nothing")
        .replace("{path}", "some/where")
        .replace("{logpath}", "syslog");
    let method: Method = method.to_uppercase().parse().expect("method");
    let (content_type, body) = match method {
        Method::PATCH => ("application/merge-patch+json", "{}"),
        Method::POST | Method::PUT => ("application/json", "{}"),
        _ => ("", ""),
    };
    let request = Request::builder().method(method).uri(uri).header("content-type", content_type);
    request.body(Bytes::from_static(body.as_bytes())).expect("request")
}

/// Whether an answer says that there is no such operation, not that what it names is missing.
fn is_unknown(code: StatusCode, body: &Value) -> bool {
    let names_something = body["details"]["name"].as_str().is_some_and(|name| !name.is_empty());
    code == StatusCode::METHOD_NOT_ALLOWED
        || code == StatusCode::NOT_IMPLEMENTED
        || code == StatusCode::NOT_FOUND && !names_something
        || body["message"].as_str().is_some_and(|text| text.contains("not implemented"))
}

#[tokio::test]
async fn every_operation_of_upstream_is_answered() {
    let server = Harness::serving("api/all=true").await;
    let digest = upstream::operations();
    let operations = digest.keys().filter_map(|entry| entry.split_once(' '));
    let (mut unknown, mut count) = (BTreeSet::new(), 0);
    for (path, method) in operations {
        count += 1;
        let response = server.send(request(path, method)).await;
        let code = response.status();
        assert!(!code.is_server_error() || code == StatusCode::SERVICE_UNAVAILABLE, "{method} {path}: {code}");
        if code.is_success() {
            // Of a watch, whose body has no end, the beginning is enough.
            continue;
        }
        let body = response.into_body().collect().await.expect("body").to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        if is_unknown(code, &body) {
            unknown.insert(format!("{path} {method}"));
        }
    }
    assert!(count > 1000, "{count} operations");
    upstream::assert_listed(&unknown, &upstream::allowed("unimplemented"));
}

#[tokio::test]
async fn an_operation_that_there_is_not_is_told_apart() {
    let server = Harness::start().await;
    for (path, method) in [
        ("/api/v1/nonsense/{name}", "get"),
        ("/api/v1/pods", "put"),
        ("/apis/nonsense/", "get"),
        ("/nonsense/", "get"),
        ("/api/v1/namespaces/{namespace}/pods/{name}/nonsense", "get"),
    ] {
        let response = server.send(request(path, method)).await;
        let code = response.status();
        let body = response.into_body().collect().await.expect("body").to_bytes();
        assert!(
            is_unknown(code, &serde_json::from_slice(&body).unwrap_or_default()),
            "{method} {path}: {code} {body:?}"
        );
    }
}
