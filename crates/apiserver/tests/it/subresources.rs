//! Subresources, fields that selectors may name, and what other components find in every cluster.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::Harness;

const PODS: &str = "/api/v1/namespaces/default/pods";
const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// An empty selection must not be taken for an answer: whoever looks for nodes that take pods asks in this way.
#[tokio::test]
async fn a_field_that_is_not_set_has_its_zero_value() {
    let server = Harness::start().await;
    server.post("/api/v1/nodes", r#"{"metadata":{"name":"open"}}"#).await;
    server.post("/api/v1/nodes", r#"{"metadata":{"name":"closed"},"spec":{"unschedulable":true}}"#).await;
    let job = json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    let (code, made) = server.post("/apis/batch/v1/namespaces/default/jobs", &job.to_string()).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    for (path, selector, expected) in [
        ("/api/v1/nodes", "spec.unschedulable%3Dfalse", vec!["open"]),
        ("/api/v1/nodes", "spec.unschedulable%3Dtrue", vec!["closed"]),
        ("/api/v1/nodes", "spec.unschedulable%3D", vec![]),
        ("/apis/batch/v1/jobs", "status.successful%3D0", vec!["j"]),
        ("/apis/batch/v1/jobs", "status.successful%3D1", vec![]),
    ] {
        let (code, list) = server.get(&format!("{path}?fieldSelector={selector}")).await;
        assert_eq!(code, StatusCode::OK, "{list}");
        let items = list["items"].as_array().into_iter().flatten();
        let names: Vec<_> = items.filter_map(|item| item["metadata"]["name"].as_str()).collect();
        assert_eq!(names, expected, "{selector}");
    }
}

#[tokio::test]
async fn an_evicted_pod_says_so() {
    let server = Harness::start().await;
    let pod = r#"{"metadata":{"name":"p","finalizers":["example.com/wait"]},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    let (code, made) = server.post(PODS, pod).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let eviction = r#"{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p","namespace":"default"}}"#;
    let (code, answer) = server.post(&format!("{PODS}/p/eviction"), eviction).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let (_, pod) = server.get(&format!("{PODS}/p")).await;
    assert!(pod["metadata"]["deletionTimestamp"].is_string(), "{pod}");
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let found: Vec<_> = conditions.filter(|condition| condition["type"] == "DisruptionTarget").collect();
    assert_eq!(found.len(), 1, "{pod}");
    assert_eq!((&found[0]["status"], &found[0]["reason"]), (&json!("True"), &json!("EvictionByEvictionAPI")));
}

#[tokio::test]
async fn an_eviction_minds_what_its_options_say() {
    let server = Harness::start().await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "p"}}, "spec": {"nodeName": "n",
        "containers": [{"name": "c", "image": "i"}]}});
    let (_, made) = server.post(PODS, &pod.to_string()).await;
    let (code, answer) = server.patch(&format!("{PODS}/p/status"), "merge", r#"{"status":{"phase":"Running"}}"#).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    let budget = json!({"metadata": {"name": "b"}, "spec": {"selector": {"matchLabels": {"app": "p"}}}});
    server.post(budgets, &budget.to_string()).await;
    let status = r#"{"status":{"observedGeneration":1,"disruptionsAllowed":1,"currentHealthy":1,"desiredHealthy":0}}"#;
    let (code, answer) = server.patch(&format!("{budgets}/b/status"), "merge", status).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    let evict = async |options: Value| {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"},
            "deleteOptions": options});
        server.post(&format!("{PODS}/p/eviction"), &eviction.to_string()).await
    };

    let (code, answer) = evict(json!({"dryRun": ["All"]})).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let (_, budget) = server.get(&format!("{budgets}/b")).await;
    assert_eq!(budget["status"]["disruptionsAllowed"], 1, "trying costs nothing");

    let (code, _) = evict(json!({"gracePeriodSeconds": -1, "preconditions": {"uid": "of another"}})).await;
    assert_eq!(code, StatusCode::CONFLICT);
    let (_, pod) = server.get(&format!("{PODS}/p")).await;
    assert_eq!(pod["metadata"]["uid"], made["metadata"]["uid"]);
    assert!(pod["status"]["conditions"].is_null(), "a pod that stays is not said to end: {pod}");

    let status = r#"{"status":{"disruptionsAllowed":1}}"#;
    server.patch(&format!("{budgets}/b/status"), "merge", status).await;
    let (code, answer) = evict(json!({"preconditions": {"resourceVersion": pod["metadata"]["resourceVersion"]}})).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let (_, pod) = server.get(&format!("{PODS}/p")).await;
    assert!(pod["metadata"]["deletionTimestamp"].is_string(), "{pod}");
}

#[tokio::test]
async fn an_approval_carries_metadata_along() {
    let server = Harness::start().await;
    let request = crate::admission::request_for(&["dev"]);
    let csr = json!({"metadata": {"name": "a"}, "spec": {
        "request": request, "signerName": "example.com/x", "usages": ["client auth"]}});
    let (code, made) = server.post(CSRS, &csr.to_string()).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let patch = json!({
        "metadata": {"annotations": {"note": "yes"}},
        "spec": {"signerName": "example.com/other"},
        "status": {"conditions": [{"type": "Approved", "status": "True", "reason": "test"}]},
    });
    let (code, approved) = server.patch(&format!("{CSRS}/a/approval"), "merge", &patch.to_string()).await;
    assert_eq!(code, StatusCode::OK, "{approved}");
    assert_eq!(approved["metadata"]["annotations"]["note"], "yes");
    assert_eq!(approved["status"]["conditions"][0]["type"], "Approved");
    assert_eq!(approved["spec"]["signerName"], "example.com/x");
}

#[tokio::test]
async fn members_that_stand_twice_in_yaml_are_named_with_their_line() {
    let server = Harness::start().await;
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: v\n  k: w\n";
    let path = "/api/v1/namespaces/default/configmaps";
    let complaint = |answer: &Value| answer["message"].as_str().unwrap_or_default().to_owned();
    let strict = format!("{path}/a?fieldManager=me&fieldValidation=Strict");
    let (code, answer) = server.call(Method::PATCH, &strict, "application/apply-patch+yaml", body.to_owned()).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert!(complaint(&answer).contains("line 7: key \"k\" already set in map"), "{answer}");
    let strict = format!("{path}?fieldValidation=Strict");
    let (code, answer) = server.call(Method::POST, &strict, "application/yaml", body.to_owned()).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert!(complaint(&answer).contains("line 7: key \"k\" already set in map"), "{answer}");
    let (code, answer) = server.call(Method::POST, path, "application/yaml", body.to_owned()).await;
    assert_eq!((code, &answer["data"]["k"]), (StatusCode::CREATED, &json!("w")));
}

#[tokio::test]
async fn an_ip_address_is_named_by_its_canonical_form() {
    let server = Harness::start().await;
    let made = |name: &str| {
        let parent = json!({"resource": "services", "namespace": "default", "name": "a"});
        json!({"metadata": {"name": name}, "spec": {"parentRef": parent}}).to_string()
    };
    for (name, code) in [("2001:db8::ffff", 201), ("192.168.7.7", 201), ("2001:DB8::1", 422), ("10.0.0", 422)] {
        let (found, answer) = server.post("/apis/networking.k8s.io/v1/ipaddresses", &made(name)).await;
        assert_eq!(found.as_u16(), code, "{name}: {answer}");
    }
}

/// Extension API servers, and upstream's controller manager and scheduler, wait for these.
#[tokio::test]
async fn every_cluster_says_how_it_authenticates() {
    let server = Harness::start().await;
    let path = "/api/v1/namespaces/kube-system/configmaps";
    let (code, found) = server.get(&format!("{path}/extension-apiserver-authentication")).await;
    assert_eq!((code, &found["data"]["client-ca-file"]), (StatusCode::OK, &json!("authorities")));
    let (code, found) = server.get(&format!("{path}/kube-apiserver-legacy-service-account-token-tracking")).await;
    assert_eq!((code, found["data"]["since"].as_str().map(str::len)), (StatusCode::OK, Some(10)), "{found}");
}

/// `ValidatePodUpdate`: what may change of a running pod, and the generation that counts it.
#[tokio::test]
async fn a_pods_tolerations_are_added_and_last_for_another_time() {
    let server = Harness::start().await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "containers": [{"name": "c", "image": "i"}],
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]}});
    let (code, mut pod) = server.post(PODS, &pod.to_string()).await;
    assert_eq!((code, &pod["metadata"]["generation"]), (StatusCode::CREATED, &json!(1)), "{pod}");
    for (generation, toleration) in [
        (2, json!({"key": "new", "operator": "Exists", "effect": "NoSchedule"})),
        (3, json!({"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 7})),
        (4, json!({"key": "k", "operator": "Exists", "effect": "NoExecute"})),
    ] {
        let list = pod["spec"]["tolerations"].as_array_mut().expect("a list");
        list.retain(|other| other["key"] != toleration["key"]);
        list.push(toleration);
        let (code, changed) = server.call(Method::PUT, &format!("{PODS}/p"), "application/json", pod.to_string()).await;
        assert_eq!((code, &changed["metadata"]["generation"]), (StatusCode::OK, &json!(generation)), "{changed}");
        assert_eq!(changed["spec"]["tolerations"], pod["spec"]["tolerations"]);
        pod = changed;
    }
    // Those that the server adds need not be named again.
    pod["spec"]["tolerations"] = json!([{"key": "k", "operator": "Exists", "effect": "NoExecute"},
        {"key": "new", "operator": "Exists", "effect": "NoSchedule"}]);
    let (code, changed) = server.call(Method::PUT, &format!("{PODS}/p"), "application/json", pod.to_string()).await;
    assert_eq!((code, &changed["metadata"]["generation"]), (StatusCode::OK, &json!(5)), "{changed}");
    let keys = changed["spec"]["tolerations"].as_array().into_iter().flatten().map(|toleration| &toleration["key"]);
    assert_eq!(
        keys.collect::<Vec<_>>(),
        ["k", "new", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
    );
    pod = changed;
    for taken in [json!([]), json!([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}])] {
        pod["spec"]["tolerations"] = taken;
        let (code, refused) = server.call(Method::PUT, &format!("{PODS}/p"), "application/json", pod.to_string()).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    }
}
