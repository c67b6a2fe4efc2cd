//! What becomes of objects that are created: `answers.txt` has requests and what kube-apiserver 1.36.2 was seen to answer, with
//! its defaults, what it leaves out, and its warnings. Each block: a path, the body, the answer, and a line per warning.

use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::harness::Harness;

#[tokio::test]
async fn objects_are_completed_as_upstream_completes_them() {
    let server = Harness::start().await;
    let mut wrong = Vec::new();
    let blocks: Vec<&str> =
        include_str!("answers.txt").split("\n\n").filter(|block| !block.trim().is_empty()).collect();
    assert!(blocks.len() > 60, "only {} blocks were read", blocks.len());
    for block in blocks {
        let mut lines = block.lines();
        let mut line = || lines.next().expect("a path, a body and an answer");
        let (path, body, expected) = (line(), line(), line());
        let request = Request::post(format!("{path}?dryRun=All&fieldValidation=Strict"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.to_owned().into());
        let response = server.send(request.expect("request")).await;
        let status = response.status();
        let text = |value: &header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let warnings: Vec<String> = response.headers().get_all(header::WARNING).iter().map(text).collect();
        let bytes = response.into_body().collect().await.expect("body").to_bytes();
        let mut found: Value = serde_json::from_slice(&bytes).expect("json");
        let mut expected: Value = serde_json::from_str(expected).expect("json");
        scrub(&mut expected);
        scrub(&mut found);
        if status != StatusCode::CREATED || found != expected || !warnings.iter().map(String::as_str).eq(lines) {
            wrong.push(format!("{path} {body}\n  wanted: {expected}\n  found:  {found}\n  warnings: {warnings:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Takes out what is another in every server: times, UIDs, what is random.
fn scrub(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Object(metadata)) = map.get_mut("metadata") {
                for name in ["uid", "creationTimestamp", "resourceVersion", "managedFields"] {
                    metadata.remove(name);
                }
            }
            if let Some(port) = map.get_mut("nodePort") {
                *port = 0.into();
            }
            map.values_mut().for_each(scrub);
        }
        Value::Array(items) => items.iter_mut().for_each(scrub),
        Value::String(text) => {
            let is_uid = text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
            let is_time = text.len() >= 20 && text.starts_with("20") && text.ends_with('Z') && text.contains('T');
            if is_uid {
                *text = "UID".into();
            } else if is_time {
                *text = "TIME".into();
            } else if text.strip_prefix("kube-api-access-").is_some_and(|rest| rest.len() == 5) {
                *text = "kube-api-access-X".into();
            }
        }
        _ => {}
    }
}
