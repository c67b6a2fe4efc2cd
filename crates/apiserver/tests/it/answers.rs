//! What becomes of objects that are created: `answers.txt` has requests and what kube-apiserver 1.36.2 was seen to answer, with
//! its defaults, what it leaves out, and its warnings. Each block: a path, the body, the answer, and a line per warning.
//! `refusals.txt` has changes of these objects that it refuses, and what it names as causes.

use std::collections::{BTreeSet, HashMap};

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

#[tokio::test]
async fn objects_are_refused_for_the_causes_that_upstream_names() {
    let server = Harness::start().await;
    let mut bodies: HashMap<String, (&str, Value)> = HashMap::new();
    for block in include_str!("answers.txt").split("\n\n").filter(|block| !block.trim().is_empty()) {
        let mut lines = block.lines();
        let (path, body) = (lines.next().expect("a path"), lines.next().expect("a body"));
        let body: Value = serde_json::from_str(body).expect("json");
        let name = body["metadata"]["name"].as_str().unwrap_or_default();
        bodies.entry(format!("{path} {name}")).or_insert((path, body));
    }
    let (mut wrong, mut count, mut base) = (Vec::new(), 0, None);
    for line in include_str!("refusals.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some((change, expected)) = line.split_once(" => ") else {
            base = Some(bodies.get(line).unwrap_or_else(|| panic!("no object {line}")));
            continue;
        };
        count += 1;
        let (path, body) = base.expect("an object comes first");
        let response = server
            .send(
                Request::post(format!("{path}?dryRun=All&fieldValidation=Strict"))
                    .header(header::CONTENT_TYPE, "application/json")
                    .body(changed(body, change).to_string().into())
                    .expect("request"),
            )
            .await;
        let bytes = response.into_body().collect().await.expect("body").to_bytes();
        let status: Value = serde_json::from_slice(&bytes).expect("json");
        let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
        let causes: BTreeSet<String> = causes
            .iter()
            .map(|cause| {
                let reason = cause["reason"].as_str().unwrap_or_default();
                format!("{} {}", reason.trim_start_matches("FieldValue"), cause["field"].as_str().unwrap_or_default())
            })
            .collect();
        let expected: BTreeSet<String> = expected.split(" & ").map(str::to_owned).collect();
        if causes != expected {
            wrong.push(format!("{path} {line}\n  found: {causes:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 2000, "only {count} lines were read");
}

/// The object with one change: `["place",0,"in","it"]=VALUE`, where `-` takes out what is there.
fn changed(object: &Value, change: &str) -> Value {
    let (place, value) = change.split_once("]=").expect("a place and a value");
    let place: Vec<Value> = serde_json::from_str(&format!("{place}]")).expect("a place");
    let (last, parents) = place.split_last().expect("a place");
    let mut object = object.clone();
    let parent = parents.iter().fold(&mut object, |here, step| match step {
        Value::Number(index) => &mut here[usize::try_from(index.as_u64().expect("an index")).expect("an index")],
        step => &mut here[step.as_str().expect("a name")],
    });
    match (value, parent) {
        ("-", Value::Object(map)) => drop(map.remove(last.as_str().expect("a name"))),
        ("-", Value::Array(items)) => {
            drop(items.remove(usize::try_from(last.as_u64().expect("an index")).expect("an index")));
        }
        (value, Value::Array(items)) => {
            items[usize::try_from(last.as_u64().expect("an index")).expect("an index")] =
                serde_json::from_str(value).expect("json");
        }
        (value, parent) => parent[last.as_str().expect("a name")] = serde_json::from_str(value).expect("json"),
    }
    object
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
