//! A server in a temporary directory, and requests to it.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use apiserver::{Config, Server, ServiceAccountKeys, SystemClock, UserInfo};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use net::Body;
use serde_json::Value;
use store::embedded::{Embedded, EmbeddedOptions};
use tokio_util::sync::CancellationToken;

pub struct Harness {
    pub server: Arc<Server>,
    admin: Arc<UserInfo>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn config() -> Config {
    let key = rcgen::KeyPair::generate().expect("key");
    Config {
        advertise_address: Ipv4Addr::new(192, 0, 2, 1).into(),
        secure_port: 6443,
        service_cluster_ip_range: "10.96.0.0/16".parse().expect("range"),
        service_node_port_range: 30000..=32767,
        service_account: ServiceAccountKeys {
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            api_audiences: vec!["https://kubernetes.default.svc.cluster.local".into()],
            signing_key: key.serialize_pem().into_bytes().into(),
            verification_keys: vec![key.public_key_pem().into_bytes().into()],
        },
        kubelet: None,
        event_ttl: Duration::from_secs(3600),
        max_requests_inflight: 400,
        max_mutating_requests_inflight: 200,
        git_version: "v1.36.0".into(),
    }
}

impl Harness {
    pub async fn start() -> Harness {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Arc::new(Embedded::open(EmbeddedOptions::new(dir.path())).expect("store"));
        let stop = CancellationToken::new();
        let server = Server::start(config(), store, Arc::new(SystemClock), stop.clone()).await.expect("server");
        let admin = Arc::new(UserInfo::authenticated("admin", ["system:masters".to_owned()]));
        let harness = Harness { server, admin, stop, _dir: dir };
        // What the service account controller does in a cluster.
        harness.post("/api/v1/namespaces/default/serviceaccounts", r#"{"metadata":{"name":"default"}}"#).await;
        harness
    }

    pub async fn send(&self, request: Request<Bytes>) -> Response<Body> {
        self.server.handle_local(self.admin.clone(), request).await
    }

    pub async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> (StatusCode, Value) {
        let request =
            Request::builder().method(method).uri(path).header("content-type", content_type).body(body.into());
        let response = self.send(request.expect("request")).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.expect("body").to_bytes();
        let value =
            serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into()));
        (status, value)
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, "", "").await
    }

    pub async fn post(&self, path: &str, body: &str) -> (StatusCode, Value) {
        self.call(Method::POST, path, "application/json", body.to_owned()).await
    }

    pub async fn patch(&self, path: &str, kind: &str, body: &str) -> (StatusCode, Value) {
        self.call(Method::PATCH, path, &format!("application/{kind}-patch+json"), body.to_owned()).await
    }

    pub async fn delete(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::DELETE, path, "application/json", "").await
    }
}
