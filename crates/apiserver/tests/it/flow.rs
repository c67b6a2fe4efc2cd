//! The priority levels and flow schemas of every cluster: as upstream's, put right at every start, and what schemas say of
//! the level that they refer to.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use serde_json::{Value, json};
use store::embedded::{Embedded, EmbeddedOptions};
use tokio::time::{Instant, sleep};

use crate::harness::{Harness, config};

const API: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const KINDS: [(&str, &str); 2] =
    [("FlowSchema", "flowschemas"), ("PriorityLevelConfiguration", "prioritylevelconfigurations")];
const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !check().await {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what}: not in time");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn items(server: &Harness, plural: &str) -> Vec<Value> {
    let (code, list) = server.get(&format!("{API}/{plural}")).await;
    assert_eq!(code, StatusCode::OK, "{list}");
    list["items"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_new_cluster_has_upstreams() {
    let server = Harness::start().await;
    let mut have = Vec::new();
    for (kind, plural) in KINDS {
        for item in items(&server, plural).await {
            assert_eq!(item["metadata"]["annotations"], json!({AUTOUPDATE: "true"}), "{item}");
            have.push(format!("{kind} {} {}", item["metadata"]["name"].as_str().unwrap_or_default(), item["spec"]));
        }
    }
    // In one order of members.
    let plain = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let (kind, name, spec) = (words.next(), words.next(), words.next());
        (kind.map(str::to_owned), name.map(str::to_owned), spec.and_then(|spec| spec.parse::<Value>().ok()))
    };
    let facts = include_str!("upstream/flowcontrol.txt").lines().filter(|line| !line.starts_with('#'));
    let (have, want): (Vec<_>, Vec<_>) = (have.iter().map(|line| plain(line)).collect(), facts.map(plain).collect());
    assert_eq!(have, want);
}

#[tokio::test]
async fn who_writes_what_is_told_as_by_upstream() {
    let server = Harness::start().await;
    let (_, probes) = server.get(&format!("{API}/flowschemas/probes")).await;
    let managers: Vec<_> = probes["metadata"]["managedFields"].as_array().into_iter().flatten().collect();
    let told: Vec<_> = managers.iter().map(|m| [&m["manager"], &m["operation"], &m["subresource"]]).collect();
    let expected = [
        [json!("api-priority-and-fairness-config-consumer-v1"), json!("Apply"), json!("status")],
        [json!("api-priority-and-fairness-config-producer-v1"), json!("Update"), Value::Null],
    ];
    assert_eq!(told, expected.each_ref().map(|entry| entry.each_ref()));
    assert_eq!(probes["metadata"]["generation"], 1);
    let condition = &probes["status"]["conditions"][0];
    assert_eq!(
        [&condition["type"], &condition["status"], &condition["reason"], &condition["message"]],
        [
            "Dangling",
            "False",
            "Found",
            "This FlowSchema references the PriorityLevelConfiguration object named \"exempt\" and it exists",
        ]
    );
}

#[tokio::test]
async fn a_schema_says_whether_its_level_is_there() {
    let server = Harness::start().await;
    let schema = r#"{"metadata":{"name":"f"},"spec":{"priorityLevelConfiguration":{"name":"x"}}}"#;
    let level = r#"{"metadata":{"name":"x"},"spec":{"type":"Limited","limited":{"limitResponse":{"type":"Reject"}}}}"#;
    let says = async |status: &str, end: &str| {
        until(end, async || {
            let (_, schema) = server.get(&format!("{API}/flowschemas/f")).await;
            let conditions = schema["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|condition| {
                condition["type"] == "Dangling"
                    && condition["status"] == status
                    && condition["message"].as_str().is_some_and(|message| message.ends_with(end))
            })
        })
        .await;
    };
    assert_eq!(server.post(&format!("{API}/flowschemas"), schema).await.0, StatusCode::CREATED);
    says("True", "\"x\" but there is no such object").await;
    assert_eq!(server.post(&format!("{API}/prioritylevelconfigurations"), level).await.0, StatusCode::CREATED);
    says("False", "\"x\" and it exists").await;
    // Others' conditions stay, and what is said wrongly is put right.
    let wrong = r#"{"status":{"conditions":[{"type":"Dangling","status":"True"},{"type":"Mine","status":"True"}]}}"#;
    server.patch(&format!("{API}/flowschemas/f/status"), "merge", wrong).await;
    says("False", "\"x\" and it exists").await;
    let (_, schema) = server.get(&format!("{API}/flowschemas/f")).await;
    assert!(schema["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == "Mine")));
    assert_eq!(server.delete(&format!("{API}/prioritylevelconfigurations/x")).await.0, StatusCode::OK);
    says("True", "\"x\" but there is no such object").await;
}

#[tokio::test]
async fn what_is_not_as_it_should_be_is_put_right() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Arc::new(Embedded::open(EmbeddedOptions::new(dir.path())).expect("store"));
    let server = Harness::on(store.clone(), config()).await;
    let annotated = |value: &str| json!({"metadata": {"annotations": {AUTOUPDATE: value}}});
    let limited = json!({"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}});
    for (name, spec, annotation) in [
        ("system", json!({"limited": {"nominalConcurrencyShares": 7}}), json!({})),
        ("workload-low", json!({"limited": {"nominalConcurrencyShares": 7}}), annotated("f")["metadata"].clone()),
        ("exempt", json!({"exempt": {"nominalConcurrencyShares": 7}}), annotated("false")["metadata"].clone()),
    ] {
        let patch = json!({"spec": spec, "metadata": annotation}).to_string();
        let (code, answer) = server.patch(&format!("{API}/prioritylevelconfigurations/{name}"), "merge", &patch).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
    }
    for (name, annotation) in [("unknown", annotated("1")), ("left", annotated("0")), ("own", json!({}))] {
        let mut level = json!({"metadata": {}, "spec": limited});
        level["metadata"] = annotation.get("metadata").cloned().unwrap_or_else(|| json!({}));
        level["metadata"]["name"] = name.into();
        let (code, answer) = server.post(&format!("{API}/prioritylevelconfigurations"), &level.to_string()).await;
        assert_eq!(code, StatusCode::CREATED, "{answer}");
    }
    for name in ["probes", "catch-all"] {
        assert_eq!(server.delete(&format!("{API}/flowschemas/{name}")).await.0, StatusCode::OK);
    }
    drop(server);

    let server = Harness::on(store, config()).await;
    let level = async |name: &str| server.get(&format!("{API}/prioritylevelconfigurations/{name}")).await.1;
    // The last thing that is put right.
    until("unknown is gone", async || level("unknown").await["code"] == 404).await;
    let shares = |level: &Value| level["spec"]["limited"]["nominalConcurrencyShares"].clone();
    assert_eq!(shares(&level("system").await), 30, "the server's own affair");
    assert_eq!(shares(&level("workload-low").await), 7, "left to the administrator");
    let exempt = level("exempt").await;
    assert_eq!(exempt["spec"]["exempt"]["nominalConcurrencyShares"], 7, "which may be changed: {exempt}");
    assert_eq!(exempt["metadata"]["annotations"][AUTOUPDATE], "true", "whatever was said: it is mandatory");
    for name in ["left", "own"] {
        assert_eq!(level(name).await["metadata"]["name"], name);
    }
    let schemas = items(&server, "flowschemas").await;
    let names: Vec<_> = schemas.iter().filter_map(|schema| schema["metadata"]["name"].as_str()).collect();
    assert!(names.contains(&"probes") && names.contains(&"catch-all"), "{names:?}");
}

#[tokio::test]
async fn a_cluster_that_does_not_serve_them_gets_none() {
    let server = Harness::serving("flowcontrol.apiserver.k8s.io/v1=false").await;
    assert_eq!(server.get(&format!("{API}/flowschemas")).await.0, StatusCode::NOT_FOUND);
}
