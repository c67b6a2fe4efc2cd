//! Fields behind feature gates that are off: dropped, unless the object had them already.

use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::Harness;

const SLICES: &str = "/apis/resource.k8s.io/v1/resourceslices";
const GROUPS: &str = "/apis/scheduling.k8s.io/v1alpha2/namespaces/default/podgroups";
const WORKLOADS: &str = "/apis/scheduling.k8s.io/v1alpha2/namespaces/default/workloads";

/// All that a group, or a template of one, can say beyond its policy.
fn group(mut more: Value) -> Value {
    let said = json!({
        "schedulingPolicy": {"gang": {"minCount": 2}}, "disruptionMode": "PodGroup", "priority": 5,
        "priorityClassName": "none", "schedulingConstraints": {"topology": [{"key": "a"}]},
        "resourceClaims": [{"name": "c", "resourceClaimName": "x"}],
    });
    for (name, value) in said.as_object().into_iter().flatten() {
        more[name] = value.clone();
    }
    more
}

fn slice(more: bool) -> Value {
    let mut devices = json!([
        {"name": "a", "attributes": {"x": {"bool": true}, "y": {"bool": true}}, "capacity": {"c": {"value": "1"}}},
        {"name": "b"},
    ]);
    if more {
        devices[0]["attributes"]["y"]["bools"] = json!([true]);
        devices[0]["nodeAllocatableResourceMappings"] = json!({"cpu": {"capacityKey": "c"}});
    }
    let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 1});
    let spec = json!({"driver": "d.example.com", "nodeName": "n", "pool": pool, "devices": devices});
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"}, "spec": spec})
}

async fn serving() -> Harness {
    Harness::serving("scheduling.k8s.io/v1alpha2=true").await
}

/// As answered by kube-apiserver 1.36.2 with GenericWorkload and no other gate.
#[tokio::test]
async fn what_is_off_is_dropped_from_what_is_new() {
    let server = serving().await;
    let (code, made) = server.post(SLICES, &slice(true).to_string()).await;
    assert_eq!((code, &made["spec"]), (StatusCode::CREATED, &slice(false)["spec"]), "{made}");
    let lists =
        json!({"name": "l", "attributes": {"x": {"ints": [1]}, "y": {"strings": ["a"]}, "z": {"versions": ["1.0.0"]}}});
    let mut other = slice(false);
    other["metadata"]["name"] = "lists".into();
    other["spec"]["devices"] = json!([lists]);
    let (code, refused) = server.post(SLICES, &other.to_string()).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    for name in ["x", "y", "z"] {
        let line =
            format!("spec.devices[0].attributes[{name}]: Invalid value: \"\": exactly one value must be specified");
        assert!(refused["message"].as_str().is_some_and(|message| message.contains(&line)), "{refused}");
    }

    let new = json!({"metadata": {"name": "g"}, "spec": group(json!({}))});
    let (code, made) = server.post(GROUPS, &new.to_string()).await;
    let spec = json!({
        "podGroupTemplateRef": null, "schedulingPolicy": {"gang": {"minCount": 2}}, "disruptionMode": "Pod",
    });
    assert_eq!((code, &made["spec"]), (StatusCode::CREATED, &spec), "{made}");
    let new = json!({"metadata": {"name": "w"}, "spec": {"podGroupTemplates": [group(json!({"name": "t"}))]}});
    let (code, made) = server.post(WORKLOADS, &new.to_string()).await;
    let template = json!({"name": "t", "schedulingPolicy": {"gang": {"minCount": 2}}, "schedulingConstraints": null});
    assert_eq!((code, &made["spec"]["podGroupTemplates"]), (StatusCode::CREATED, &json!([template])), "{made}");
}

#[tokio::test]
async fn what_is_off_is_dropped_from_changes() {
    let server = serving().await;
    let new = json!({"metadata": {"name": "g"}, "spec": {"schedulingPolicy": {"gang": {"minCount": 2}}}});
    let (_, made) = server.post(GROUPS, &new.to_string()).await;
    let path = format!("{GROUPS}/g");
    let more = json!({"spec": {"priority": 5, "resourceClaims": [{"name": "c", "resourceClaimName": "x"}]}});
    let (code, same) = server.patch(&path, "merge", &more.to_string()).await;
    assert_eq!((code, &same["spec"]), (StatusCode::OK, &made["spec"]), "{same}");
    let (code, refused) = server.patch(&path, "merge", r#"{"spec":{"disruptionMode":"PodGroup"}}"#).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "the default is as good as said: {refused}");
    let claims = r#"{"status":{"resourceClaimStatuses":[{"name":"c","resourceClaimName":"x"}]}}"#;
    let (code, same) = server.patch(&format!("{path}/status"), "merge", claims).await;
    assert_eq!((code, &same["status"]), (StatusCode::OK, &json!({})), "{same}");

    server.post(SLICES, &slice(false).to_string()).await;
    let (code, same) = server.patch(&format!("{SLICES}/s"), "merge", &slice(true).to_string()).await;
    assert_eq!((code, &same["spec"]), (StatusCode::OK, &slice(false)["spec"]), "{same}");
}

#[tokio::test]
async fn what_was_there_stays() {
    let server = serving().await;
    let stored = |mut object: Value| {
        object["metadata"]["uid"] = "1".into();
        object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        object
    };
    let had_group = json!({
        "apiVersion": "scheduling.k8s.io/v1alpha2", "kind": "PodGroup",
        "metadata": {"name": "g", "namespace": "default"}, "spec": group(json!({})), "status": {},
    });
    server.plant("/registry/podgroups/default/g", &stored(had_group)).await;
    let mut had = slice(true);
    // One of its values alone, now that all of them count.
    had["spec"]["devices"][0]["attributes"]["y"] = json!({"bools": [true]});
    had["spec"]["devices"][0]["nodeAllocatableResourceMappings"]["cpu"]["allocationMultiplier"] = "1".into();
    server.plant("/registry/resourceslices/s", &stored(had.clone())).await;

    let label = r#"{"metadata":{"labels":{"a":"b"}}}"#;
    let (code, changed) = server.patch(&format!("{GROUPS}/g"), "merge", label).await;
    assert_eq!(code, StatusCode::OK, "{changed}");
    for (name, value) in group(json!({})).as_object().into_iter().flatten() {
        assert_eq!(&changed["spec"][name], value, "{name}");
    }
    let claims = json!({"status": {"resourceClaimStatuses": [{"name": "c", "resourceClaimName": "x"}]}});
    let (code, changed) = server.patch(&format!("{GROUPS}/g/status"), "merge", &claims.to_string()).await;
    assert_eq!((code, &changed["status"]), (StatusCode::OK, &claims["status"]), "{changed}");
    let (code, changed) = server.patch(&format!("{SLICES}/s"), "merge", label).await;
    assert_eq!((code, &changed["spec"]), (StatusCode::OK, &had["spec"]), "{changed}");
}
