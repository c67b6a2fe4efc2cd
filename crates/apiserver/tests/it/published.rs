//! What the server publishes of itself: metrics, and the keys of its tokens.

use http::{Method, StatusCode};

use crate::harness::Harness;

/// The value of the one series that has all these labels.
fn series(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let mut found = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    let line = found.next()?;
    assert_eq!(found.next(), None, "{name} {labels:?}");
    line.rsplit(' ').next()?.parse().ok()
}

async fn metrics(server: &Harness) -> String {
    let (code, text) = server.get("/metrics").await;
    assert_eq!(code, StatusCode::OK);
    text.as_str().expect("text").to_owned()
}

#[tokio::test]
async fn requests_are_counted_under_upstreams_names() {
    let server = Harness::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    server.post(maps, r#"{"metadata":{"name":"a"}}"#).await;
    server.post(maps, r#"{"metadata":{"name":"a"}}"#).await;
    server.post(&format!("{maps}?dryRun=All"), r#"{"metadata":{"name":"b"}}"#).await;
    server.get(maps).await;
    server.get(&format!("{maps}/none")).await;
    server.get("/api/v1/nonsense-1").await;
    server.get(&format!("{maps}/a/nonsense-2")).await;
    server.get("/nonsense-3").await;
    server.get("/readyz").await;
    server.call(Method::GET, &format!("{maps}?watch=1&timeoutSeconds=1"), "", "").await;
    let open = server.send(http::Request::get("/api/v1/pods?watch=1").body(Default::default()).expect("request")).await;
    let text = metrics(&server).await;
    let request = |verb, code, dry_run, scope| {
        let labels = [
            ("verb", verb),
            ("code", code),
            ("dry_run", dry_run),
            ("scope", scope),
            ("resource", "configmaps"),
            ("version", "v1"),
            ("component", "apiserver"),
        ];
        series(&text, "apiserver_request_total", &labels)
    };
    assert_eq!(request("POST", "201", "", "resource"), Some(1.0));
    assert_eq!(request("POST", "409", "", "resource"), Some(1.0));
    assert_eq!(request("POST", "201", "All", "resource"), Some(1.0));
    assert_eq!(request("LIST", "200", "", "namespace"), Some(1.0));
    assert_eq!(request("GET", "404", "", "resource"), Some(1.0));
    assert_eq!(request("WATCH", "200", "", "namespace"), Some(1.0));
    let took = [("verb", "POST"), ("resource", "configmaps"), ("dry_run", "")];
    assert_eq!(series(&text, "apiserver_request_duration_seconds_count", &took), Some(2.0));
    let watching =
        |resource| series(&text, "apiserver_longrunning_requests", &[("verb", "WATCH"), ("resource", resource)]);
    assert_eq!((watching("pods"), watching("configmaps")), (Some(1.0), Some(0.0)));
    assert!(series(&text, "apiserver_watch_events_total", &[("resource", "configmaps")]) >= Some(1.0));
    assert_eq!(series(&text, "apiserver_current_inflight_requests", &[("request_kind", "readOnly")]), Some(1.0));
    assert_eq!(series(&text, "apiserver_request_total", &[("subresource", "/readyz")]), Some(1.0));
    assert_eq!(
        series(&text, "apiserver_response_sizes_count", &[("verb", "LIST"), ("resource", "configmaps")]),
        Some(1.0)
    );
    let stored = [("operation", "create"), ("group", ""), ("resource", "configmaps")];
    assert!(series(&text, "etcd_request_duration_seconds_count", &stored) >= Some(1.0));
    assert!(
        series(&text, "apiserver_storage_objects", &[("resource", "clusterroles.rbac.authorization.k8s.io")])
            > Some(10.0)
    );
    assert!(!text.contains("nonsense"), "labels do not come from the request");
    drop(open);
    let labels = [("verb", "WATCH"), ("resource", "pods")];
    assert_eq!(series(&metrics(&server).await, "apiserver_longrunning_requests", &labels), Some(0.0));
}

#[tokio::test]
async fn tokens_are_signed_with_a_published_key() {
    let server = Harness::start().await;
    let (code, configuration) = server.get("/.well-known/openid-configuration").await;
    assert_eq!(code, StatusCode::OK, "{configuration}");
    assert_eq!(configuration["issuer"], "https://kubernetes.default.svc.cluster.local");
    assert_eq!(configuration["jwks_uri"], "https://192.0.2.1:6443/openid/v1/jwks");
    assert_eq!(configuration["id_token_signing_alg_values_supported"], serde_json::json!(["ES256"]));
    let (_, set) = server.get("/openid/v1/jwks").await;
    let key = &set["keys"][0];
    assert_eq!(
        (&key["kty"], &key["use"], &key["alg"], &key["crv"]),
        (&"EC".into(), &"sig".into(), &"ES256".into(), &"P-256".into())
    );
    let (code, answer) = server.post("/api/v1/namespaces/default/serviceaccounts/default/token", "{}").await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let token = answer["status"]["token"].as_str().expect("a token");
    let header = jsonwebtoken::decode_header(token).expect("header");
    assert_eq!(header.kid.as_deref(), key["kid"].as_str());
    assert!(header.kid.is_some_and(|id| id.len() == 43));
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(key.clone()).expect("a key");
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.validate_aud = false;
    let public = jsonwebtoken::DecodingKey::from_jwk(&jwk).expect("a public key");
    let claims = jsonwebtoken::decode::<serde_json::Value>(token, &public, &validation).expect("a valid token").claims;
    assert_eq!(claims["sub"], "system:serviceaccount:default:default");
}
