//! Strict decoding: which members are complained of, in which order, in errors and in warnings.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;

use crate::harness::Harness;

const SERVICES: &str = "/api/v1/namespaces/default/services";

const BODY: &str = r#"{
    "metadata": {"name": "x", "name": "a", "odd": 1},
    "spec": {"strange": {"twice": 1, "twice": 2}, "strange": 2, "type": "ClusterIP", "type": "ClusterIP", "type": "ClusterIP",
        "ports": [{"name": "p", "port": 80, "weird": true, "name": "q"}]},
    "last": []
}"#;
const COMPLAINTS: [&str; 6] = [
    r#"duplicate field "metadata.name""#,
    r#"unknown field "metadata.odd""#,
    r#"unknown field "spec.strange""#,
    r#"duplicate field "spec.type""#,
    r#"unknown field "spec.ports[0].weird""#,
    r#"duplicate field "spec.ports[0].name""#,
];

/// Status, message and warnings.
async fn send(
    server: &Harness,
    method: Method,
    path: &str,
    kind: &str,
    body: &str,
) -> (StatusCode, String, Vec<String>) {
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    let response = server.send(request.body(Bytes::from(body.to_owned())).expect("request")).await;
    let text = |value: &HeaderValue| -> Option<String> {
        let quoted = value.to_str().ok()?.strip_prefix("299 - \"")?.strip_suffix('"')?;
        Some(quoted.replace("\\\"", "\""))
    };
    let warnings = response.headers().get_all("warning").iter().map(|value| text(value).expect("a warning")).collect();
    let status = response.status();
    let bytes = response.into_body().collect().await.expect("body").to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    (status, answer["message"].as_str().unwrap_or_default().to_owned(), warnings)
}

#[tokio::test]
async fn a_create_and_an_update_complain_in_the_documents_order() {
    let server = Harness::start().await;
    let json = "application/json";
    let mut all = COMPLAINTS.to_vec();
    all.push(r#"unknown field "last""#);
    let strict = format!("strict decoding error: {}", all.join(", "));
    for (method, path) in [(Method::POST, SERVICES.to_owned()), (Method::PUT, format!("{SERVICES}/a"))] {
        let (code, message, _) =
            send(&server, method.clone(), &format!("{path}?fieldValidation=Strict"), json, BODY).await;
        assert_eq!(code, StatusCode::BAD_REQUEST);
        assert!(message.ends_with(&strict), "{message}");
        let (code, message, warnings) = send(&server, method.clone(), &path, json, BODY).await;
        assert!(code.is_success(), "{message}");
        assert_eq!(warnings, all);
        let (_, _, warnings) =
            send(&server, method, &format!("{path}?fieldValidation=Ignore&dryRun=All"), json, BODY).await;
        assert!(warnings.is_empty());
    }
}

#[tokio::test]
async fn a_patch_complains_of_itself_first() {
    let server = Harness::start().await;
    let service = r#"{"metadata":{"name":"a"},"spec":{"ports":[{"name":"p","port":80}]}}"#;
    assert_eq!(server.post(SERVICES, service).await.0, StatusCode::CREATED);
    let merged = r#"{"spec":{"strange":1,"strange":2,"type":"ClusterIP","type":"ClusterIP","odd":3}}"#;
    let of_merged = [
        r#"duplicate field "spec.strange""#,
        r#"duplicate field "spec.type""#,
        r#"unknown field "spec.odd""#,
        r#"unknown field "spec.strange""#,
    ];
    let operations = r#"[{"op":"add","path":"/spec/strange","value":1,"foo":2},
        {"op":"add","path":"/spec/b","path":"/spec/odd","value":1}]"#;
    let of_operations = [
        r#"json patch unknown field "[0].foo""#,
        r#"json patch duplicate field "[1].path""#,
        r#"unknown field "spec.odd""#,
        r#"unknown field "spec.strange""#,
    ];
    let tidy = r#"{"spec":{"type":"ClusterIP","type":"ClusterIP"}}"#;
    for (kind, patch, complaints) in [
        ("merge-patch", merged, &of_merged[..]),
        ("strategic-merge-patch", merged, &of_merged[..]),
        ("json-patch", operations, &of_operations[..]),
        ("merge-patch", tidy, &of_merged[1..2]),
    ] {
        let kind = format!("application/{kind}+json");
        let path = format!("{SERVICES}/a");
        let strictly = format!("{path}?fieldValidation=Strict");
        let (code, message, _) = send(&server, Method::PATCH, &strictly, &kind, patch).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{message}");
        assert!(message.starts_with(" \"\" is invalid: patch: Invalid value: "), "{message}");
        assert!(message.ends_with(&format!("strict decoding error: {}", complaints.join(", "))), "{message}");
        let (code, message, warnings) = send(&server, Method::PATCH, &path, &kind, patch).await;
        assert_eq!(code, StatusCode::OK, "{message}");
        assert_eq!(warnings, complaints);
    }
}

#[tokio::test]
async fn a_custom_resource_complains_of_duplicates_first() {
    let server = Harness::start().await;
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "color": {"type": "string"},
        "embedded": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}}}}}});
    let definition = json!({"metadata": {"name": "odds.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "odds", "kind": "Odd"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    let (code, answer) =
        server.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition.to_string()).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let path = "/apis/example.com/v1/namespaces/default/odds";
    for _ in 0..100 {
        if server.get(path).await.0 == StatusCode::OK {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let body = r#"{"apiVersion":"example.com/v1","kind":"Odd","metadata":{"name":"x","name":"a","odd":1},
        "spec":{"strange":1,"strange":2,"color":"a","color":"b","another":1,"list":[{"a":"b","weird":1}],
        "embedded":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","inner":1}}}}"#;
    let (code, message, _) =
        send(&server, Method::POST, &format!("{path}?fieldValidation=Strict"), "application/json", body).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    let expected = [
        r#"duplicate field "metadata.name""#,
        r#"duplicate field "spec.strange""#,
        r#"duplicate field "spec.color""#,
        r#"unknown field "metadata.odd""#,
        r#"unknown field "spec.another""#,
        r#"unknown field "spec.list[0].weird""#,
        r#"unknown field "spec.strange""#,
        r#"unknown field "spec.embedded.metadata.inner""#,
    ];
    assert!(message.ends_with(&format!("strict decoding error: {}", expected.join(", "))), "{message}");
}
