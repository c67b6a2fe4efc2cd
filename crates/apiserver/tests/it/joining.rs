//! What a machine joins with: a bootstrap token is a user that may ask for a certificate, and nothing more.

use apiserver::Config;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::{harness, harness::Harness};

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const TOKEN: &str = "abcdef.0123456789abcdef";

async fn send(server: &Harness, token: &str, path: &str, body: &Value) -> (StatusCode, Value) {
    let request = Request::post(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(net::full(body.to_string()));
    let answer = server.server.handle(request.expect("a request")).await;
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).expect("json"))
}

async fn who(server: &Harness, token: &str) -> (StatusCode, Value) {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let (status, answer) = send(server, token, "/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await;
    (status, answer["status"]["userInfo"].clone())
}

fn secret() -> Value {
    json!({
        "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": "abcdef", "token-secret": "0123456789abcdef", "expiration": "2999-01-01T00:00:00Z",
            "usage-bootstrap-authentication": "true", "auth-extra-groups": "system:bootstrappers:argosy:node",
        },
    })
}

#[tokio::test]
async fn bootstrap_tokens_are_users_where_they_are_taken() {
    let server = Harness::with(Config { bootstrap_token_auth: true, ..harness::config() }).await;
    assert_eq!(who(&server, TOKEN).await.0, StatusCode::UNAUTHORIZED);
    let (status, answer) = server.post(SECRETS, &secret().to_string()).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let (status, user) = who(&server, TOKEN).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(user["username"], "system:bootstrap:abcdef");
    let groups = ["system:bootstrappers", "system:bootstrappers:argosy:node", "system:authenticated"];
    assert_eq!(user["groups"], json!(groups));
    assert_eq!(who(&server, "abcdef.0123456789abcdee").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(who(&server, "abcdeg.0123456789abcdef").await.0, StatusCode::UNAUTHORIZED);

    let review = json!({"spec": {"token": TOKEN}}).to_string();
    let (_, answer) = server.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await;
    assert_eq!(answer["status"]["user"]["username"], "system:bootstrap:abcdef", "{answer}");
    let other = json!({"spec": {"token": TOKEN, "audiences": ["elsewhere"]}}).to_string();
    let (_, answer) = server.post("/apis/authentication.k8s.io/v1/tokenreviews", &other).await;
    assert_eq!(answer["status"].get("authenticated"), None, "{answer}");

    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    let pem = params.serialize_request(&key).and_then(|request| request.pem()).expect("a request");
    let request = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "node-csr"},
        "spec": {
            "request": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"],
        },
    });
    assert_eq!(send(&server, TOKEN, REQUESTS, &request).await.0, StatusCode::FORBIDDEN);
    let binding = json!({
        "metadata": {"name": "bootstrap"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-bootstrapper"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:bootstrappers:argosy:node"}],
    });
    server.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding.to_string()).await;
    // Roles are seen once the cache shows them.
    server.get("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/bootstrap").await;
    let (status, answer) = send(&server, TOKEN, REQUESTS, &request).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    assert_eq!(answer["spec"]["username"], "system:bootstrap:abcdef");
    assert_eq!(send(&server, TOKEN, SECRETS, &secret()).await.0, StatusCode::FORBIDDEN);

    server.delete(&format!("{SECRETS}/bootstrap-token-abcdef")).await;
    server.get(&format!("{SECRETS}/bootstrap-token-abcdef")).await;
    assert_eq!(who(&server, TOKEN).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn bootstrap_tokens_are_not_taken_unasked() {
    let server = Harness::start().await;
    server.post(SECRETS, &secret().to_string()).await;
    assert_eq!(who(&server, TOKEN).await.0, StatusCode::UNAUTHORIZED);
}
