//! Server-side apply and field management through the API: who owns what after which requests.

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::harness::Harness;

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

async fn apply(harness: &Harness, path: &str, manager: &str, config: &Value) -> (StatusCode, Value) {
    harness
        .call(
            Method::PATCH,
            &format!("{path}?fieldManager={manager}"),
            "application/apply-patch+yaml",
            config.to_string(),
        )
        .await
}

async fn force(harness: &Harness, path: &str, manager: &str, config: &Value) -> (StatusCode, Value) {
    let path = format!("{path}?fieldManager={manager}&force=true");
    harness.call(Method::PATCH, &path, "application/apply-patch+yaml", config.to_string()).await
}

/// `manager operation apiVersion [subresource]: fields`, in order.
fn owners(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    entries
        .iter()
        .map(|entry| {
            let subresource = entry.get("subresource").map(|name| format!(" [{}]", text(name))).unwrap_or_default();
            let head = [&entry["manager"], &entry["operation"], &entry["apiVersion"]].map(text).join(" ");
            format!("{head}{subresource}: {}", entry["fieldsV1"])
        })
        .collect()
}

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn deployment(name: &str, replicas: Option<u32>, image: &str) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": image}]}},
        },
    });
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = replicas.into();
    }
    object
}

#[tokio::test]
async fn an_apply_creates_changes_and_takes_away() {
    let harness = Harness::start().await;
    let path = format!("{CONFIGMAPS}/made");
    let (status, made) = apply(&harness, &path, "me", &config_map("made", json!({"a": "1", "b": "2"}))).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(owners(&made), [r#"me Apply v1: {"f:data":{"f:a":{},"f:b":{}}}"#]);
    assert!(made["metadata"]["managedFields"][0]["time"].is_string());

    let (status, again) = apply(&harness, &path, "me", &config_map("made", json!({"a": "1", "b": "2"}))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(again["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"], "nothing changed");

    let (_, less) = apply(&harness, &path, "me", &config_map("made", json!({"b": "3"}))).await;
    assert_eq!(less["data"], json!({"b": "3"}));
    assert_eq!(owners(&less), [r#"me Apply v1: {"f:data":{"f:b":{}}}"#]);

    let (_, shared) = apply(&harness, &path, "other", &config_map("made", json!({"b": "3", "c": "4"}))).await;
    assert_eq!(owners(&shared).len(), 2, "both own b: {shared}");
    let (_, left) = apply(&harness, &path, "me", &config_map("made", json!({}))).await;
    assert_eq!(left["data"], json!({"b": "3", "c": "4"}), "the other still says b");
}

#[tokio::test]
async fn conflicts_name_the_field_and_its_owner() {
    let harness = Harness::start().await;
    let (status, body) = harness
        .post(&format!("{DEPLOYMENTS}?fieldManager=kubectl"), &deployment("web", Some(2), "a").to_string())
        .await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let path = format!("{DEPLOYMENTS}/web");
    let (status, conflict) = apply(&harness, &path, "me", &deployment("web", Some(3), "a")).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(
        conflict["message"],
        "Apply failed with 1 conflict: conflict with \"kubectl\" using apps/v1: .spec.replicas"
    );
    assert_eq!(conflict["reason"], "Conflict");
    let cause = json!([{"reason": "FieldManagerConflict", "message": "conflict with \"kubectl\" using apps/v1", "field": ".spec.replicas"}]);
    assert_eq!(conflict["details"]["causes"], cause);

    let (_, two) = apply(&harness, &path, "me", &deployment("web", Some(3), "b")).await;
    let expected = "Apply failed with 2 conflicts: conflicts with \"kubectl\" using apps/v1:\n- .spec.replicas\n- .spec.template.spec.containers[name=\"main\"].image";
    assert_eq!(two["message"], expected);

    let (status, forced) = force(&harness, &path, "me", &deployment("web", Some(3), "b")).await;
    assert_eq!(status, StatusCode::OK, "{forced}");
    assert_eq!(forced["spec"]["replicas"], 3);
    let (mine, theirs) = (owners(&forced)[0].clone(), owners(&forced)[1].clone());
    assert!(mine.starts_with("me Apply apps/v1: ") && mine.contains("f:replicas"), "{mine}");
    assert!(theirs.starts_with("kubectl Update apps/v1: ") && !theirs.contains("f:replicas"), "{theirs}");
    assert_eq!(forced["metadata"]["generation"], 2);
}

#[tokio::test]
async fn an_apply_without_replicas_leaves_them_to_the_scale() {
    let harness = Harness::start().await;
    let path = format!("{DEPLOYMENTS}/scaled");
    apply(&harness, &path, "me", &deployment("scaled", Some(1), "a")).await;
    let body = json!({"spec": {"replicas": 4}}).to_string();
    let (status, scale) = harness
        .call(Method::PATCH, &format!("{path}/scale?fieldManager=scaler"), "application/merge-patch+json", body)
        .await;
    assert_eq!(status, StatusCode::OK, "{scale}");
    let (_, object) = harness.get(&path).await;
    let owners = owners(&object);
    assert!(
        owners.contains(&r#"scaler Update apps/v1 [scale]: {"f:spec":{"f:replicas":{}}}"#.to_owned()),
        "{owners:?}"
    );
    assert!(!owners[0].contains("f:replicas"), "{owners:?}");

    let (status, conflict) = apply(&harness, &path, "me", &deployment("scaled", Some(1), "a")).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let expected = "Apply failed with 1 conflict: conflict with \"scaler\" with subresource \"scale\" using apps/v1: .spec.replicas";
    assert_eq!(conflict["message"], expected);
    let (_, kept) = apply(&harness, &path, "me", &deployment("scaled", None, "b")).await;
    assert_eq!(kept["spec"]["replicas"], 4, "{kept}");

    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "scaled"}, "spec": {"replicas": 5}});
    let (status, body) = apply(&harness, &format!("{path}/scale"), "hand", &scale).await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
    let (status, body) = force(&harness, &format!("{path}/scale"), "hand", &scale).await;
    assert_eq!((status, &body["spec"]["replicas"]), (StatusCode::OK, &json!(5)), "{body}");
    let (_, object) = harness.get(&path).await;
    let entry = r#"hand Apply apps/v1 [scale]: {"f:spec":{"f:replicas":{}}}"#.to_owned();
    assert!(self::owners(&object).contains(&entry), "{:?}", self::owners(&object));
}

#[tokio::test]
async fn the_status_has_its_own_owners() {
    let harness = Harness::start().await;
    let path = format!("{DEPLOYMENTS}/stated");
    apply(&harness, &path, "me", &deployment("stated", Some(1), "a")).await;
    let body = json!({"status": {"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]}}).to_string();
    let (status, object) = harness.patch(&format!("{path}/status?fieldManager=ctl"), "merge", &body).await;
    assert_eq!(status, StatusCode::OK, "{object}");
    let expected = r#"ctl Update apps/v1 [status]: {"f:status":{"f:conditions":{".":{},"k:{\"type\":\"Available\"}":{".":{},"f:lastTransitionTime":{},"f:lastUpdateTime":{},"f:status":{},"f:type":{}}},"f:replicas":{}}}"#;
    assert!(owners(&object).contains(&expected.to_owned()), "{:#?}", owners(&object));

    let mut config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "stated"}, "status": {"replicas": 7}});
    let (status, conflict) = apply(&harness, &format!("{path}/status"), "me", &config).await;
    assert_eq!(status, StatusCode::CONFLICT, "{conflict}");
    config["spec"] = deployment("stated", Some(9), "a")["spec"].clone();
    let (status, object) = force(&harness, &format!("{path}/status"), "me", &config).await;
    assert_eq!(status, StatusCode::OK, "{object}");
    assert_eq!(
        (&object["spec"]["replicas"], &object["status"]["replicas"]),
        (&json!(1), &json!(7)),
        "only the status changes"
    );
    assert!(
        owners(&object).contains(&r#"me Apply apps/v1 [status]: {"f:status":{"f:replicas":{}}}"#.to_owned()),
        "{:#?}",
        owners(&object)
    );
    // A status in a configuration of the object itself says nothing.
    config["spec"]["replicas"] = 1.into();
    config["status"] = json!({"replicas": 3});
    let (_, object) = force(&harness, &path, "me", &config).await;
    assert_eq!(object["status"]["replicas"], 7);
}

#[tokio::test]
async fn users_of_client_side_apply_come_over_without_conflicts() {
    let harness = Harness::start().await;
    let config = config_map("old", json!({"kept": "1", "gone": "2"}));
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let mut object = config.clone();
    object["metadata"]["annotations"] = json!({annotation: config.to_string()});
    let (status, body) =
        harness.post(&format!("{CONFIGMAPS}?fieldManager=kubectl-client-side-apply"), &object.to_string()).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let path = format!("{CONFIGMAPS}/old");
    let wanted = config_map("old", json!({"kept": "changed"}));
    let (status, _) = apply(&harness, &path, "someone", &wanted).await;
    assert_eq!(status, StatusCode::CONFLICT, "only kubectl's own users");
    let (status, object) = apply(&harness, &path, "kubectl", &wanted).await;
    assert_eq!(status, StatusCode::OK, "{object}");
    assert_eq!(object["data"]["kept"], "changed");
    let expected = "{\"apiVersion\":\"v1\",\"data\":{\"kept\":\"changed\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"old\"}}\n";
    assert_eq!(object["metadata"]["annotations"][annotation], expected);
    // What someone changed since is theirs.
    let (_, by_hand) =
        harness.patch(&format!("{path}?fieldManager=hand"), "merge", r#"{"data":{"kept":"by hand"}}"#).await;
    assert_eq!(by_hand["data"]["kept"], "by hand", "{by_hand:#}");
    let (status, conflict) = apply(&harness, &path, "kubectl", &wanted).await;
    assert_eq!(status, StatusCode::CONFLICT, "{by_hand:#} {conflict:#}");
    assert_eq!(conflict["message"], "Apply failed with 1 conflict: conflict with \"hand\" using v1: .data.kept");
}

#[tokio::test]
async fn writes_are_owned_by_whoever_sends_them() {
    let harness = Harness::start().await;
    let object = config_map("plain", json!({"a": "1"})).to_string();
    let send = async |method: Method, path: &str, agent: &str, body: String| {
        let request =
            Request::builder().method(method).uri(path).header("user-agent", agent).body(body.into()).expect("request");
        let bytes = harness.send(request).await.into_body().collect().await.expect("body").to_bytes();
        serde_json::from_slice::<Value>(&bytes).expect("json")
    };
    let made = send(Method::POST, CONFIGMAPS, "kube-controller-manager/v1.36.0 (linux/amd64)", object.clone()).await;
    assert_eq!(owners(&made), [r#"kube-controller-manager Update v1: {"f:data":{".":{},"f:a":{}}}"#]);
    let path = format!("{CONFIGMAPS}/plain");
    let same = send(Method::PUT, &path, "other/1", object.clone()).await;
    assert_eq!(same["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let changed =
        send(Method::PUT, &path, "other/1", config_map("plain", json!({"a": "2", "b": "1"})).to_string()).await;
    let expected =
        [r#"kube-controller-manager Update v1: {"f:data":{}}"#, r#"other Update v1: {"f:data":{"f:a":{},"f:b":{}}}"#];
    assert_eq!(owners(&changed), expected);
    let (_, nameless) = harness.post(CONFIGMAPS, &config_map("nameless", json!({"a": "1"})).to_string()).await;
    assert_eq!(owners(&nameless), [r#"unknown Update v1: {"f:data":{".":{},"f:a":{}}}"#]);
    // A client resets all entries, and what is not counted stays so until someone applies.
    for reset in ["[]", "[{}]"] {
        let body = format!(r#"{{"metadata":{{"managedFields":{reset}}},"data":{{"a":"{}"}}}}"#, reset.len());
        let (_, reset) = harness.patch(&path, "merge", &body).await;
        assert_eq!(owners(&reset), [""; 0], "{reset}");
    }
    let (_, applied) = apply(&harness, &path, "me", &config_map("plain", json!({"c": "1"}))).await;
    let expected = [
        r#"me Apply v1: {"f:data":{"f:c":{}}}"#,
        r#"before-first-apply Update v1: {"f:data":{".":{},"f:a":{},"f:b":{}}}"#,
    ];
    assert_eq!(owners(&applied), expected);
}

#[tokio::test]
async fn options_and_configurations_are_checked() {
    let harness = Harness::start().await;
    let path = format!("{CONFIGMAPS}/checked");
    let good = config_map("checked", json!({"a": "1"}));
    let apply_with = async |query: &str, body: String| {
        let (status, body) =
            harness.call(Method::PATCH, &format!("{path}?{query}"), "application/apply-patch+yaml", body).await;
        (status.as_u16(), body["message"].as_str().unwrap_or_default().to_owned())
    };
    let long = "x".repeat(129);
    for (query, body, code, message) in [
        (
            "",
            good.to_string(),
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        (
            &*format!("fieldManager={long}"),
            good.to_string(),
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes",
        ),
        (
            "fieldManager=a%07b",
            good.to_string(),
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\\u0007b\": invalid character U+0007 (at position 1)",
        ),
        (
            "fieldManager=me",
            json!({"apiVersion": "v2", "kind": "ConfigMap"}).to_string(),
            400,
            "invalid object type: /v2, Kind=ConfigMap",
        ),
        ("fieldManager=me", "a: [".to_owned(), 400, ""),
        (
            "fieldManager=me",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "checked", "managedFields": []}})
                .to_string(),
            400,
            "metadata.managedFields must be nil",
        ),
        (
            "fieldManager=me",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "checked"}, "dat": {}}).to_string(),
            500,
            "failed to create typed patch object (/checked; /v1, Kind=ConfigMap): .dat: field not declared in schema",
        ),
        (
            "fieldManager=me&fieldValidation=Strict",
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"checked"},"data":{"a":"1","a":"2"}}"#
                .to_owned(),
            400,
            "error strict decoding YAML: duplicate field \"data.a\"",
        ),
        (
            "fieldManager=me&fieldValidation=Strict",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: checked}\ndata:\n  a: \"1\"\n  a: \"2\"\n".to_owned(),
            400,
            "",
        ),
        (
            "fieldManager=me",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: checked, uid: not-there}\n".to_owned(),
            409,
            "Operation cannot be fulfilled on configmaps \"checked\": uid mismatch: the provided object specified uid not-there, and no existing object was found",
        ),
        ("fieldManager=me&dryRun=All", good.to_string(), 201, ""),
        (
            "fieldManager=me",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: checked}\ndata: {a: \"1\"}\n".to_owned(),
            201,
            "",
        ),
    ] {
        let (status, text) = apply_with(query, body).await;
        assert_eq!(status, code, "{query}: {text}");
        assert!(message.is_empty() || text == message, "{query}: {text}");
    }
    let (status, body) = harness.patch(&format!("{path}?force=true"), "merge", "{}").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
    let (status, _) = harness.call(Method::PATCH, &path, "application/apply-patch+cbor", "{}").await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}
