//! Every verb, on a built-in resource.

use http::{Method, StatusCode};
use http_body_util::BodyExt;

use crate::harness::Harness;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn an_object_lives_from_create_to_delete() {
    let server = Harness::start().await;
    let (code, created) = server.post(MAPS, r#"{"metadata":{"name":"a","labels":{"x":"1"}},"data":{"k":"v"}}"#).await;
    assert_eq!(code, StatusCode::CREATED, "{created}");
    assert_eq!(created["kind"], "ConfigMap");
    assert!(created["metadata"]["uid"].as_str().is_some_and(|uid| uid.len() == 36));
    let version = created["metadata"]["resourceVersion"].as_str().expect("version").to_owned();

    let (code, read) = server.get(&format!("{MAPS}/a")).await;
    assert_eq!((code, &read), (StatusCode::OK, &created));

    let (code, again) = server.post(MAPS, r#"{"metadata":{"name":"a"}}"#).await;
    assert_eq!(code, StatusCode::CONFLICT);
    assert_eq!(again["message"], "configmaps \"a\" already exists");

    let (code, patched) = server.patch(&format!("{MAPS}/a"), "strategic-merge", r#"{"data":{"k2":"v2"}}"#).await;
    assert_eq!(code, StatusCode::OK, "{patched}");
    assert_eq!(patched["data"], serde_json::json!({"k": "v", "k2": "v2"}));
    let (_, patched) = server.patch(&format!("{MAPS}/a"), "merge", r#"{"data":{"k":null}}"#).await;
    assert_eq!(patched["data"], serde_json::json!({"k2": "v2"}));
    let (_, patched) =
        server.patch(&format!("{MAPS}/a"), "json", r#"[{"op":"add","path":"/data/k3","value":"3"}]"#).await;
    assert_eq!(patched["data"], serde_json::json!({"k2": "v2", "k3": "3"}));

    let stale = format!(r#"{{"metadata":{{"name":"a","resourceVersion":"{version}"}},"data":{{}}}}"#);
    let (code, conflict) = server.call(Method::PUT, &format!("{MAPS}/a"), "application/json", stale).await;
    assert_eq!(code, StatusCode::CONFLICT);
    assert_eq!(
        conflict["message"],
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );

    let (_, list) = server.get(&format!("{MAPS}?labelSelector=x%3D1")).await;
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    let (_, none) = server.get(&format!("{MAPS}?labelSelector=x%3D2")).await;
    assert_eq!(none["items"], serde_json::json!([]));

    let (code, deleted) = server.delete(&format!("{MAPS}/a")).await;
    assert_eq!((code, deleted["status"].as_str()), (StatusCode::OK, Some("Success")), "{deleted}");
    let (code, gone) = server.get(&format!("{MAPS}/a")).await;
    assert_eq!((code, gone["reason"].as_str()), (StatusCode::NOT_FOUND, Some("NotFound")));
}

#[tokio::test]
async fn pages_show_one_state() {
    let server = Harness::start().await;
    for index in 0..7 {
        server.post(MAPS, &format!(r#"{{"metadata":{{"name":"m{index}"}}}}"#)).await;
    }
    let (_, first) = server.get(&format!("{MAPS}?limit=3")).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 4);
    server.delete(&format!("{MAPS}/m5")).await;
    let mut names: Vec<String> = Vec::new();
    let mut page = first.clone();
    loop {
        assert_eq!(page["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        names.extend(
            page["items"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned()),
        );
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        page = server.get(&format!("{MAPS}?limit=3&continue={token}")).await.1;
    }
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);
}

#[tokio::test]
async fn a_watch_tells_every_change_in_order() {
    let server = Harness::start().await;
    server.post(MAPS, r#"{"metadata":{"name":"old","labels":{"x":"1"}}}"#).await;
    let (_, list) = server.get(MAPS).await;
    let version = list["metadata"]["resourceVersion"].as_str().expect("version");
    let request =
        http::Request::get(format!("{MAPS}?watch=1&resourceVersion={version}&labelSelector=x%3D1&timeoutSeconds=5"));
    let mut body = server.send(request.body(Default::default()).expect("request")).await.into_body();
    server.post(MAPS, r#"{"metadata":{"name":"a","labels":{"x":"1"}}}"#).await;
    server.post(MAPS, r#"{"metadata":{"name":"other"}}"#).await;
    server.patch(&format!("{MAPS}/a"), "merge", r#"{"data":{"k":"v"}}"#).await;
    server.patch(&format!("{MAPS}/a"), "merge", r#"{"metadata":{"labels":{"x":"2"}}}"#).await;
    server.delete(&format!("{MAPS}/old")).await;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let frame = body.frame().await.expect("an event").expect("a frame").into_data().expect("data");
        let event: serde_json::Value = serde_json::from_slice(&frame).expect("event");
        seen.push(format!(
            "{} {}",
            event["type"].as_str().unwrap_or_default(),
            event["object"]["metadata"]["name"].as_str().unwrap_or_default()
        ));
    }
    assert_eq!(seen, ["ADDED a", "MODIFIED a", "DELETED a", "DELETED old"]);
}

#[tokio::test]
async fn pods_are_completed_and_end_gracefully() {
    let server = Harness::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let (code, pod) = server
        .post(pods, r#"{"metadata":{"generateName":"web-"},"spec":{"containers":[{"name":"c","image":"nginx"}]}}"#)
        .await;
    assert_eq!(code, StatusCode::CREATED, "{pod}");
    let spec = &pod["spec"];
    assert_eq!(spec["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
    assert_eq!(spec["containers"][0]["volumeMounts"][0]["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!((spec["priority"].as_i64(), pod["status"]["qosClass"].as_str()), (Some(0), Some("BestEffort")));
    let name = pod["metadata"]["name"].as_str().expect("a generated name").to_owned();
    let binding = format!(r#"{{"metadata":{{"name":"{name}"}},"target":{{"kind":"Node","name":"n1"}}}}"#);
    let (code, bound) = server.post(&format!("{pods}/{name}/binding"), &binding).await;
    assert_eq!(code, StatusCode::CREATED, "{bound}");
    let (code, ending) = server.delete(&format!("{pods}/{name}")).await;
    assert_eq!(
        (code, ending["metadata"]["deletionGracePeriodSeconds"].as_i64()),
        (StatusCode::OK, Some(30)),
        "{ending}"
    );
    let (code, _) = server.call(Method::DELETE, &format!("{pods}/{name}?gracePeriodSeconds=0"), "", "").await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(server.get(&format!("{pods}/{name}")).await.0, StatusCode::NOT_FOUND);
}

/// As `kubectl debug` does it.
#[tokio::test]
async fn ephemeral_containers_are_added_by_a_patch_and_completed() {
    let server = Harness::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let (code, pod) =
        server.post(pods, r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#).await;
    assert_eq!(code, StatusCode::CREATED, "{pod}");
    let patch =
        r#"{"spec":{"ephemeralContainers":[{"name":"debugger","image":"busybox:1","targetContainerName":"c"}]}}"#;
    let (code, pod) = server.patch(&format!("{pods}/p/ephemeralcontainers"), "strategic-merge", patch).await;
    assert_eq!(code, StatusCode::OK, "{pod}");
    let added = &pod["spec"]["ephemeralContainers"][0];
    assert_eq!(
        (&added["imagePullPolicy"], &added["terminationMessagePolicy"]),
        (&"IfNotPresent".into(), &"File".into())
    );
    assert_eq!(pod["metadata"]["generation"], 2);
}

#[tokio::test]
async fn services_get_addresses_and_give_them_back() {
    let server = Harness::start().await;
    let services = "/api/v1/namespaces/default/services";
    let (code, service) =
        server.post(services, r#"{"metadata":{"name":"web"},"spec":{"type":"NodePort","ports":[{"port":80}]}}"#).await;
    assert_eq!(code, StatusCode::CREATED, "{service}");
    let address = service["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    assert!(address.starts_with("10.96."), "{address}");
    let port = service["spec"]["ports"][0]["nodePort"].as_i64().expect("a node port");
    assert!((30000..=32767).contains(&port));
    let (code, _) = server.get(&format!("/apis/networking.k8s.io/v1/ipaddresses/{address}")).await;
    assert_eq!(code, StatusCode::OK);
    let taken =
        format!(r#"{{"metadata":{{"name":"two"}},"spec":{{"clusterIP":"{address}","ports":[{{"port":80}}]}}}}"#);
    let (code, refused) = server.post(services, &taken).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    server.delete(&format!("{services}/web")).await;
    let (code, two) = server.post(services, &taken).await;
    assert_eq!(code, StatusCode::CREATED, "{two}");
    let (_, kubernetes) = server.get(&format!("{services}/kubernetes")).await;
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.96.0.1");
}

#[tokio::test]
async fn addresses_come_from_the_ranges_of_all_service_cidrs() {
    let server = Harness::start().await;
    let (services, ranges) = ("/api/v1/namespaces/default/services", "/apis/networking.k8s.io/v1/servicecidrs");
    let wanted = |name: &str, address: &str| {
        format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{"clusterIP":"{address}","ports":[{{"port":80}}]}}}}"#)
    };
    let (code, refused) = server.post(services, &wanted("a", "10.200.0.1")).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(message.ends_with("The range of valid IPs is 10.96.0.0/16"), "{message}");
    let (code, range) = server.post(ranges, r#"{"metadata":{"name":"more"},"spec":{"cidrs":["10.200.0.0/30"]}}"#).await;
    assert_eq!(code, StatusCode::CREATED, "{range}");
    let (code, service) = server.post(services, &wanted("a", "10.200.0.1")).await;
    assert_eq!(code, StatusCode::CREATED, "{service}");
    // Of a range that is not ready nobody gets an address.
    let status = r#"{"status":{"conditions":[{"type":"Ready","status":"False","reason":"Terminating","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;
    let (code, range) = server.patch(&format!("{ranges}/more/status"), "merge", status).await;
    assert_eq!(code, StatusCode::OK, "{range}");
    let (_, listed) = server.get(ranges).await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2));
    let (code, refused) = server.post(services, &wanted("b", "10.200.0.2")).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
}

#[tokio::test]
async fn status_and_spec_are_changed_apart() {
    let server = Harness::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let text = r#"{"metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i:1"}]}}},"status":{"replicas":7}}"#;
    let (code, created) = server.post(deployments, text).await;
    assert_eq!(code, StatusCode::CREATED, "{created}");
    assert!(created.get("status").is_none() || created["status"].get("replicas").is_none());
    assert_eq!(created["metadata"]["generation"], 1);
    let (_, changed) = server
        .patch(&format!("{deployments}/d/status"), "merge", r#"{"spec":{"replicas":9},"status":{"replicas":3}}"#)
        .await;
    assert_eq!((changed["spec"]["replicas"].as_i64(), changed["status"]["replicas"].as_i64()), (Some(1), Some(3)));
    assert_eq!(changed["metadata"]["generation"], 1);
    let (code, scale) = server.patch(&format!("{deployments}/d/scale"), "merge", r#"{"spec":{"replicas":4}}"#).await;
    assert_eq!(
        (code, scale["spec"]["replicas"].as_i64(), scale["status"]["replicas"].as_i64()),
        (StatusCode::OK, Some(4), Some(3)),
        "{scale}"
    );
    let (_, read) = server.get(&format!("{deployments}/d")).await;
    assert_eq!((read["metadata"]["generation"].as_i64(), read["status"]["replicas"].as_i64()), (Some(2), Some(3)));
}
