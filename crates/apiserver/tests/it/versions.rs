//! Several versions of one resource: written through one, read through the others, whatever the verb and the format.

use api::{Model, Value as Tree, json, protobuf};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::harness::Harness;

const CORE_EVENTS: &str = "/api/v1/namespaces/default/events";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
const V1: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const V2: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";

async fn read(server: &Harness, path: &str, accept: &str) -> (StatusCode, Bytes) {
    let request = Request::get(path).header(header::ACCEPT, accept).body(Bytes::new()).expect("request");
    let response = server.send(request).await;
    (response.status(), response.into_body().collect().await.expect("body").to_bytes())
}

async fn read_json(server: &Harness, path: &str, accept: &str) -> Value {
    let (status, bytes) = read(server, path, accept).await;
    assert_eq!(status, StatusCode::OK, "{path}");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn from_protobuf(message: &[u8]) -> Tree {
    protobuf::decode(Model::builtin(), None, message).expect("a message")
}

fn event(name: &str, namespace: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": namespace}, "regarding": {"kind": "Pod", "name": "p", "namespace": namespace},
        "note": "text", "reason": "Because", "action": "Doing", "type": "Normal", "eventTime": "2026-05-04T03:02:01.000005Z",
        "reportingController": "example.com/c", "reportingInstance": "i",
    })
}

#[tokio::test]
async fn an_event_is_one_event_in_both_groups() {
    let server = Harness::start().await;
    let (code, made) = server.post(EVENTS, &event("a", "default").to_string()).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(
        (&made["apiVersion"], &made["note"], &made["message"]),
        (&json!("events.k8s.io/v1"), &json!("text"), &Value::Null)
    );
    let (_, core) = server.get(&format!("{CORE_EVENTS}/a")).await;
    assert_eq!(core["apiVersion"], "v1");
    assert_eq!(core["message"], "text");
    assert_eq!(core["involvedObject"]["name"], "p");
    assert_eq!(core["reportingComponent"], "example.com/c");
    assert_eq!((&core["note"], &core["regarding"]), (&Value::Null, &Value::Null));
    // And the other way, with what only the old form has.
    let old = json!({
        "metadata": {"name": "b"}, "involvedObject": {"kind": "Node", "name": "n", "namespace": "default"}, "message": "old",
        "source": {"component": "kubelet"}, "count": 2, "firstTimestamp": "2026-05-04T03:02:01Z", "type": "Warning",
    });
    assert_eq!(server.post(CORE_EVENTS, &old.to_string()).await.0, StatusCode::CREATED);
    let (_, new) = server.get(&format!("{EVENTS}/b")).await;
    assert_eq!(new["deprecatedSource"]["component"], "kubelet");
    assert_eq!((&new["deprecatedCount"], &new["note"]), (&json!(2), &json!("old")));
    assert_eq!(new["deprecatedFirstTimestamp"], "2026-05-04T03:02:01Z");
    // Lists, and selectors by each version's own names.
    let (_, list) = server.get(EVENTS).await;
    assert_eq!(list["kind"], "EventList");
    let notes: Vec<&str> =
        list["items"].as_array().expect("items").iter().filter_map(|item| item["note"].as_str()).collect();
    assert_eq!(notes, ["text", "old"]);
    for (path, expected) in [
        (format!("{EVENTS}?fieldSelector=regarding.name%3Dp"), Some(1)),
        (format!("{EVENTS}?fieldSelector=reportingController%3Dexample.com/c"), Some(1)),
        (format!("{EVENTS}?fieldSelector=involvedObject.name%3Dp"), None),
        (format!("{CORE_EVENTS}?fieldSelector=involvedObject.kind%3DNode"), Some(1)),
        (format!("{CORE_EVENTS}?fieldSelector=regarding.name%3Dp"), None),
    ] {
        let (code, list) = server.get(&path).await;
        let count = (code == StatusCode::OK).then(|| list["items"].as_array().map_or(0, Vec::len));
        assert_eq!(count, expected, "{path}: {list}");
    }
    // Protobuf, of one and of many.
    let (_, message) = read(&server, &format!("{EVENTS}/b"), PROTOBUF).await;
    assert_eq!(from_protobuf(&message).str_at(&["note"]), "old");
    let (_, message) = read(&server, CORE_EVENTS, PROTOBUF).await;
    let items = from_protobuf(&message);
    let items = items.get("items").and_then(Tree::as_array).expect("items");
    assert!(items.iter().any(|item| item.str_at(&["message"]) == "text"));
    // Written as protobuf.
    let mut tree = json::parse(event("c", "default").to_string().as_bytes()).expect("JSON");
    tree.set(&["kind"], "Event");
    tree.set(&["apiVersion"], "events.k8s.io/v1");
    let body = protobuf::encode(Model::builtin(), &tree).expect("a message");
    let (code, answer) = server.call(Method::POST, EVENTS, PROTOBUF, body).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    assert_eq!(server.get(&format!("{CORE_EVENTS}/c")).await.1["message"], "text");
    // A deletion of many answers with what went.
    let (_, gone) = server.delete(&format!("{EVENTS}?fieldSelector=regarding.name%3Dn")).await;
    assert_eq!(gone["items"][0]["note"], "old", "{gone}");
    let (code, missing) = server.get(&format!("{EVENTS}/b")).await;
    assert_eq!((code, &missing["message"]), (StatusCode::NOT_FOUND, &json!("events \"b\" not found")));
}

#[tokio::test]
async fn events_are_checked_by_the_version_they_are_written_through() {
    let server = Harness::start().await;
    assert_eq!(server.post("/api/v1/namespaces", r#"{"metadata":{"name":"other"}}"#).await.0, StatusCode::CREATED);
    let other = EVENTS.replace("default", "other");
    let (code, made) = server.post(&other, &event("a", "other").to_string()).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let without = |name: &str| {
        let mut event = event("b", "default");
        event.as_object_mut().expect("an object").remove(name);
        event
    };
    let with = |name: &str, value: Value| {
        let mut event = event("b", "default");
        event[name] = value;
        event
    };
    for (event, says) in [
        (without("eventTime"), "eventTime: Required value"),
        (without("action"), "action: Required value"),
        (without("reportingController"), "reportingController: Required value"),
        (with("type", json!("Odd")), "type: Invalid value: \"\": has invalid value: Odd"),
        (with("deprecatedCount", json!(1)), "count: Invalid value: \"\": needs to be unset"),
        (
            with("series", json!({"count": 1, "lastObservedTime": "2026-05-04T03:02:01.000005Z"})),
            "series.count: Invalid value: \"\": should be at least 2",
        ),
        (with("note", json!("x".repeat(1025))), "message: Invalid value: \"\": can have at most 1024 characters"),
    ] {
        let (code, status) = server.post(EVENTS, &event.to_string()).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{event} {status}");
        assert!(status["message"].as_str().expect("a message").contains(says), "{says}: {status}");
    }
    // The core group takes what clients of old say, of objects beside it.
    let old =
        |namespace: &str| json!({"metadata": {"name": "x"}, "involvedObject": {"namespace": namespace}}).to_string();
    assert_eq!(server.post(CORE_EVENTS, &old("other")).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(server.post(CORE_EVENTS, &old("default")).await.0, StatusCode::CREATED);
    // What was reported stays as it is, through the version that says so.
    let at = format!("{other}/a");
    let (code, status) = server.patch(&at, "merge", r#"{"note":"another"}"#).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
    let (code, status) =
        server.patch(&at.replace("apis/events.k8s.io", "api"), "merge", r#"{"message":"another"}"#).await;
    assert_eq!(code, StatusCode::OK, "{status}");
    let series = r#"{"series":{"count":2,"lastObservedTime":"2026-05-04T03:02:02.000000Z"}}"#;
    assert_eq!(server.patch(&at, "strategic-merge", series).await.0, StatusCode::OK);
    assert_eq!(server.get(&at).await.1["note"], "another");
}

#[tokio::test]
async fn an_autoscaler_changes_through_either_version() {
    let server = Harness::start().await;
    let target = r#""scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"d"},"maxReplicas":5"#;
    let body = format!(r#"{{"metadata":{{"name":"a"}},"spec":{{{target},"targetCPUUtilizationPercentage":50}}}}"#);
    let (code, made) = server.post(V1, &body).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
    let (_, v2) = server.get(&format!("{V2}/a")).await;
    assert_eq!(v2["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
    assert_eq!(v2["spec"]["minReplicas"], 1);
    // A metric that v1 has no field for goes into an annotation there, and nowhere else.
    let patch = json!([{"op": "add", "path": "/spec/metrics/0", "value": memory}]).to_string();
    let (code, v2) = server.patch(&format!("{V2}/a"), "json", &patch).await;
    assert_eq!((code, v2["spec"]["metrics"].as_array().map(Vec::len)), (StatusCode::OK, Some(2)), "{v2}");
    let (_, v1) = server.get(&format!("{V1}/a")).await;
    assert_eq!(v1["spec"]["metrics"], Value::Null);
    assert!(v1["metadata"]["annotations"][METRICS].as_str().is_some_and(|text| text.contains("memory")), "{v1}");
    let metadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let partial = read_json(&server, &format!("{V1}/a"), metadata).await;
    assert_eq!(partial["metadata"]["annotations"], Value::Null);
    // Patches work in the version of their request; what it does not show stays.
    for (kind, patch) in [
        ("merge", r#"{"spec":{"targetCPUUtilizationPercentage":60}}"#),
        ("strategic-merge", r#"{"spec":{"targetCPUUtilizationPercentage":61}}"#),
        ("json", r#"[{"op":"replace","path":"/spec/targetCPUUtilizationPercentage","value":62}]"#),
    ] {
        let (code, v1) = server.patch(&format!("{V1}/a"), kind, patch).await;
        assert_eq!(code, StatusCode::OK, "{v1}");
        assert_eq!(v1["apiVersion"], "autoscaling/v1");
    }
    let (_, v2) = server.get(&format!("{V2}/a")).await;
    assert_eq!(v2["spec"]["metrics"][0], memory);
    assert_eq!(v2["spec"]["metrics"][1]["resource"]["target"]["averageUtilization"], 62);
    // A PUT of what v1 shows changes nothing, and neither does one of v2.
    for path in [V1, V2] {
        let (_, shown) = server.get(&format!("{path}/a")).await;
        let (code, put) = server.call(Method::PUT, &format!("{path}/a"), "application/json", shown.to_string()).await;
        assert_eq!(
            (code, &put["metadata"]["resourceVersion"]),
            (StatusCode::OK, &shown["metadata"]["resourceVersion"])
        );
    }
    // A status that only v2 can say in full.
    let status = json!({"status": {"currentReplicas": 1, "desiredReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}],
        "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 9, "averageValue": "1m"}}}]}});
    let (code, v2) = server.patch(&format!("{V2}/a/status"), "merge", &status.to_string()).await;
    assert_eq!(code, StatusCode::OK, "{v2}");
    let (_, v1) = server.get(&format!("{V1}/a/status")).await;
    assert_eq!(v1["status"]["currentCPUUtilizationPercentage"], 9);
    assert_eq!(
        server.patch(&format!("{V1}/a/status"), "merge", r#"{"status":{"desiredReplicas":2}}"#).await.0,
        StatusCode::OK
    );
    let (_, v2) = server.get(&format!("{V2}/a")).await;
    assert_eq!(v2["status"]["conditions"], status["status"]["conditions"]);
    assert_eq!(v2["status"]["currentMetrics"], status["status"]["currentMetrics"]);
    assert_eq!(v2["status"]["desiredReplicas"], 2);
    // Defaults of v2, as v1's conversion fills them in.
    let (code, plain) = server
        .post(
            V2,
            &format!(
                r#"{{"metadata":{{"name":"b","annotations":{{"{METRICS}":"[]"}}}},"spec":{{{target},"behavior":{{"scaleUp":{{"selectPolicy":"Min"}}}}}}}}"#
            ),
        )
        .await;
    assert_eq!(code, StatusCode::CREATED, "{plain}");
    assert_eq!(plain["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
    assert_eq!(plain["spec"]["behavior"]["scaleUp"]["policies"][1]["value"], 100);
    assert_eq!(plain["spec"]["behavior"]["scaleUp"]["selectPolicy"], "Min");
    assert_eq!(plain["metadata"]["annotations"][METRICS], Value::Null);
    assert_eq!(plain["spec"]["behavior"]["scaleDown"]["policies"].as_array().map(Vec::len), Some(1));
    assert_eq!(server.delete(&format!("{V1}/b")).await.0, StatusCode::OK);
    // Tables: the same cells in both, the objects in the version that was asked for.
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let tables = [
        read_json(&server, &format!("{V1}?includeObject=Object"), table).await,
        read_json(&server, &format!("{V2}?includeObject=Object"), table).await,
    ];
    assert_eq!(tables[0]["rows"][0]["cells"], tables[1]["rows"][0]["cells"]);
    assert!(tables[0]["rows"][0]["cells"].to_string().contains("memory"), "{}", tables[0]);
    assert_eq!(tables[0]["rows"][0]["object"]["spec"]["targetCPUUtilizationPercentage"], 62);
    assert_eq!(tables[1]["rows"][0]["object"]["spec"]["metrics"][0], memory);
    let one = read_json(&server, &format!("{V2}/a?includeObject=Object"), table).await;
    assert_eq!(one["rows"][0], tables[1]["rows"][0]);
}

#[tokio::test]
async fn a_configuration_is_applied_in_its_version() {
    let server = Harness::start().await;
    let apply = |path: &str, body: String| {
        let path = format!("{path}/a?fieldManager=m");
        let server = &server;
        async move { server.call(Method::PATCH, &path, "application/apply-patch+yaml", body).await }
    };
    let config = |percent: i64| {
        json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 5, "targetCPUUtilizationPercentage": percent}})
        .to_string()
    };
    let (code, made) = apply(V1, config(50)).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(made["metadata"]["managedFields"][0]["apiVersion"], "autoscaling/v1");
    let (code, changed) = apply(V1, config(70)).await;
    assert_eq!((code, &changed["spec"]["targetCPUUtilizationPercentage"]), (StatusCode::OK, &json!(70)), "{changed}");
    let (_, v2) = server.get(&format!("{V2}/a")).await;
    assert_eq!(v2["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 70);
    let (code, status) = apply(V2, config(70)).await;
    assert_eq!(code, StatusCode::BAD_REQUEST, "{status}");
}

#[tokio::test]
async fn owners_of_fields_are_asked_in_their_own_version() {
    let server = Harness::start().await;
    let apply = |path: &str, force: bool, body: Value| {
        let path = format!("{path}/a?fieldManager=m&force={force}");
        let server = &server;
        async move { server.call(Method::PATCH, &path, "application/apply-patch+yaml", body.to_string()).await }
    };
    let spec =
        json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 5});
    let config = |version: &str, more: Value| {
        let mut config = json!({"apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a"}, "spec": spec});
        let spec = config["spec"].as_object_mut().expect("an object");
        spec.extend(more.as_object().expect("an object").clone());
        config
    };
    let first = config("v1", json!({"targetCPUUtilizationPercentage": 50, "minReplicas": 2}));
    assert_eq!(apply(V1, false, first.clone()).await.0, StatusCode::CREATED);
    let owned = |object: &Value, manager: &str| -> Value {
        let entries = object["metadata"]["managedFields"].as_array().expect("entries").clone();
        entries.into_iter().find(|entry| entry["manager"] == manager).unwrap_or_default()
    };
    // Somebody changes through v2 what v1 has another field for.
    let patch = r#"[{"op":"replace","path":"/spec/metrics/0/resource/target/averageUtilization","value":60}]"#;
    let (code, changed) = server.patch(&format!("{V2}/a?fieldManager=n"), "json", patch).await;
    assert_eq!(code, StatusCode::OK, "{changed}");
    assert_eq!(
        owned(&changed, "m")["fieldsV1"]["f:spec"]["f:targetCPUUtilizationPercentage"],
        Value::Null,
        "{changed}"
    );
    assert_eq!(owned(&changed, "m")["fieldsV1"]["f:spec"]["f:maxReplicas"], json!({}));
    assert_eq!(owned(&changed, "n")["apiVersion"], "autoscaling/v2");
    let (code, conflict) = apply(V1, false, first).await;
    assert_eq!(code, StatusCode::CONFLICT, "{conflict}");
    let message = conflict["message"].as_str().expect("a message");
    assert!(message.contains("\"n\" using autoscaling/v2") && message.contains(".spec.metrics"), "{message}");
    // The applier goes over to v2: what it said in v1 and does not say any more goes.
    let metrics = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}]);
    let (code, moved) = apply(V2, true, config("v2", json!({"metrics": metrics}))).await;
    assert_eq!(code, StatusCode::OK, "{moved}");
    assert_eq!((&moved["spec"]["minReplicas"], &moved["spec"]["metrics"]), (&json!(1), &metrics));
    assert_eq!(owned(&moved, "m")["apiVersion"], "autoscaling/v2");
    assert_eq!(owned(&moved, "n"), Value::Null);
}

#[tokio::test]
async fn a_watch_tells_in_its_own_version() {
    let server = Harness::start().await;
    let follow = |path: &str, accept: &str| {
        let request = Request::get(format!("{path}?watch=1&timeoutSeconds=1")).header(header::ACCEPT, accept);
        let request = request.body(Bytes::new()).expect("request");
        let server = server.server.clone();
        let admin = std::sync::Arc::new(apiserver::UserInfo::authenticated("admin", ["system:masters".to_owned()]));
        tokio::spawn(async move {
            let response = server.handle_local(admin, request).await;
            response.into_body().collect().await.expect("body").to_bytes()
        })
    };
    let (of_core, of_events, message) =
        (follow(CORE_EVENTS, "application/json"), follow(EVENTS, "application/json"), follow(EVENTS, PROTOBUF));
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(server.post(EVENTS, &event("a", "default").to_string()).await.0, StatusCode::CREATED);
    let line = |bytes: Bytes| -> Value {
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        serde_json::from_str(text.lines().next().expect("an event")).expect("JSON")
    };
    let (core, own) = (line(of_core.await.expect("a stream")), line(of_events.await.expect("a stream")));
    assert_eq!((&core["object"]["apiVersion"], &core["object"]["message"]), (&json!("v1"), &json!("text")));
    assert_eq!((&own["object"]["apiVersion"], &own["object"]["note"]), (&json!("events.k8s.io/v1"), &json!("text")));
    let bytes = message.await.expect("a stream");
    assert!(bytes.windows(16).any(|window| window == b"events.k8s.io/v1"), "{bytes:?}");
    assert!(bytes.windows(4).any(|window| window == b"text"));
}

#[tokio::test]
async fn what_is_off_by_default_is_not_served() {
    let server = Harness::start().await;
    let beta = "/apis/resource.k8s.io/v1beta1/namespaces/default/resourceclaims";
    assert_eq!(server.get(beta).await.0, StatusCode::NOT_FOUND);
    let (_, group) = server.get("/apis/resource.k8s.io").await;
    assert_eq!(group["versions"].as_array().map(Vec::len), Some(1), "{group}");
    assert_eq!(server.get("/apis/storagemigration.k8s.io").await.0, StatusCode::NOT_FOUND);
    assert_eq!(server.get("/openapi/v3/apis/resource.k8s.io/v1beta1").await.0, StatusCode::NOT_FOUND);
    let (_, groups) = server.get("/apis").await;
    let preferred = |version: &Value| version["version"].as_str().expect("text").to_owned();
    let groups = groups["groups"].as_array().expect("groups");
    let versions =
        groups.iter().flat_map(|group| group["versions"].as_array().expect("versions").iter().map(preferred));
    assert!(versions.clone().all(|version| !version.contains("alpha") && !version.contains("beta")));
}

#[tokio::test]
async fn betas_that_are_turned_on_share_their_objects() {
    let server = Harness::serving("api/beta=true,storage.k8s.io/v1beta1=false,batch/v1/cronjobs=false").await;
    for (path, code) in [
        ("/apis/storage.k8s.io/v1beta1/volumeattributesclasses", StatusCode::NOT_FOUND),
        ("/apis/batch/v1/cronjobs", StatusCode::NOT_FOUND),
        ("/apis/batch/v1/jobs", StatusCode::OK),
        ("/apis/resource.k8s.io/v1alpha3/devicetaintrules", StatusCode::NOT_FOUND),
        // Its stored version is off.
        ("/apis/resource.k8s.io/v1beta2/devicetaintrules", StatusCode::OK),
    ] {
        assert_eq!(server.get(path).await.0, code, "{path}");
    }
    let claims = |version: &str| format!("/apis/resource.k8s.io/{version}/namespaces/default/resourceclaims");
    let body = r#"{"metadata":{"name":"a"},"spec":{"devices":{"requests":[{"name":"r","deviceClassName":"c"}]}}}"#;
    let (code, made) = server.post(&claims("v1beta1"), body).await;
    assert_eq!(
        (code, &made["spec"]["devices"]["requests"][0]["deviceClassName"]),
        (StatusCode::CREATED, &json!("c")),
        "{made}"
    );
    for version in ["v1", "v1beta2"] {
        let (_, claim) = server.get(&format!("{}/a", claims(version))).await;
        assert_eq!(claim["apiVersion"], format!("resource.k8s.io/{version}"));
        let request = &claim["spec"]["devices"]["requests"][0];
        assert_eq!((&request["exactly"]["deviceClassName"], &request["deviceClassName"]), (&json!("c"), &Value::Null));
        // Filled in in the version that it was written through.
        assert_eq!((&request["exactly"]["count"], &request["count"]), (&json!(1), &Value::Null));
        let (_, message) = read(&server, &format!("{}/a", claims(version)), PROTOBUF).await;
        let tree = from_protobuf(&message);
        let requests = tree.at(&["spec", "devices", "requests"]).and_then(Tree::as_array).expect("requests");
        assert_eq!(requests[0].str_at(&["exactly", "deviceClassName"]), "c");
    }
    // Stored as a version that is off: written and read through the others.
    let rule = r#"{"metadata":{"name":"t"},"spec":{"taint":{"key":"k","effect":"NoSchedule"}}}"#;
    let rules = "/apis/resource.k8s.io/v1beta2/devicetaintrules";
    assert_eq!(server.post(rules, rule).await.0, StatusCode::CREATED);
    let (_, list) = server.get(rules).await;
    assert_eq!(
        (&list["apiVersion"], &list["items"][0]["spec"]["taint"]["key"]),
        (&json!("resource.k8s.io/v1beta2"), &json!("k"))
    );
}
