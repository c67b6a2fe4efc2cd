//! What upstream's Go types always write is there, for patches to stand on, and makes no writes of its own.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::Harness;

const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test]
async fn an_empty_status_can_be_patched() {
    let server = Harness::start().await;
    let claim = json!({"metadata": {"name": "c"}, "status": {"allocation": {}}, "spec": {"devices": {"requests": [
        {"name": "r", "exactly": {"deviceClassName": "x"}}]}}});
    let (code, made) = server.post(CLAIMS, &claim.to_string()).await;
    assert_eq!((code, &made["status"]), (StatusCode::CREATED, &json!({})), "{made}");
    let patch = r#"[{"op":"add","path":"/status/allocation","value":{}}]"#;
    let (code, patched) = server.patch(&format!("{CLAIMS}/c/status"), "json", patch).await;
    assert_eq!((code, &patched["status"]), (StatusCode::OK, &json!({"allocation": {"devices": {}}})), "{patched}");
    // Taken away, it is there again.
    let (_, patched) = server.patch(&format!("{CLAIMS}/c/status"), "merge", r#"{"status":null}"#).await;
    assert_eq!(patched["status"], json!({}));
}

#[tokio::test]
async fn what_is_empty_is_answered_owned_and_kept() {
    let server = Harness::start().await;
    let (_, made) = server.post(&format!("{DEPLOYMENTS}?fieldManager=me"), &deployment().to_string()).await;
    assert_eq!(made["status"], json!({}));
    let owned = &made["metadata"]["managedFields"][0]["fieldsV1"];
    let container = &owned["f:spec"]["f:template"]["f:spec"]["f:containers"][r#"k:{"name":"c"}"#];
    assert_eq!(container["f:resources"], json!({}), "{owned}");
    assert_eq!(owned.get("f:status"), None, "the main resource does not own the status");
    // The same again, with and without what the server added, changes nothing.
    for body in [deployment(), made.clone()] {
        let (code, same) = server
            .call(Method::PUT, &format!("{DEPLOYMENTS}/d?fieldManager=me"), "application/json", body.to_string())
            .await;
        assert_eq!((code, &same), (StatusCode::OK, &made));
    }
    for (kind, patch) in [("merge", r#"{"spec":{"strategy":null}}"#), ("strategic-merge", r#"{"status":null}"#)] {
        let (code, same) = server.patch(&format!("{DEPLOYMENTS}/d?fieldManager=me"), kind, patch).await;
        assert_eq!((code, &same), (StatusCode::OK, &made), "{patch}");
    }
}

#[tokio::test]
async fn an_applier_owns_what_it_says_and_no_more() {
    let server = Harness::start().await;
    let path = format!("{DEPLOYMENTS}/d?fieldManager=me&force=true");
    let apply = || server.call(Method::PATCH, &path, "application/apply-patch+yaml", deployment().to_string());
    let (code, made) = apply().await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(made["status"], json!({}));
    let owned = made["metadata"]["managedFields"][0]["fieldsV1"].to_string();
    assert!(!owned.contains("f:resources") && !owned.contains("f:strategy"), "{owned}");
    assert_eq!(apply().await, (StatusCode::OK, made));
}

#[tokio::test]
async fn a_role_without_rules_says_so() {
    let server = Harness::start().await;
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let (code, made) = server.post(path, r#"{"metadata":{"name":"r"}}"#).await;
    assert_eq!((code, made.get("rules")), (StatusCode::CREATED, Some(&Value::Null)), "{made}");
    let rule = r#"{"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}"#;
    let (code, patched) = server.patch(&format!("{path}/r"), "merge", rule).await;
    assert_eq!((code, patched["rules"].as_array().map(Vec::len)), (StatusCode::OK, Some(1)), "{patched}");
}
