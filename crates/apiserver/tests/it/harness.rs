//! A server in a temporary directory, and requests to it.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use api::enablement::RuntimeConfig;
use apiserver::{Config, Server, ServiceAccountKeys, SystemClock, UserInfo};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use net::Body;
use serde_json::Value;
use store::{
    Store,
    embedded::{Embedded, EmbeddedOptions},
};
use tokio_util::sync::CancellationToken;

pub struct Harness {
    pub server: Arc<Server>,
    pub admin: Arc<UserInfo>,
    store: Arc<dyn Store>,
    stop: CancellationToken,
    /// Of a store of its own.
    _dir: Option<tempfile::TempDir>,
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn config() -> Config {
    let key = rcgen::KeyPair::generate().expect("key");
    let issuer = "https://kubernetes.default.svc.cluster.local".to_owned();
    let keys = ServiceAccountKeys {
        api_audiences: vec![issuer.clone()],
        issuer,
        signing_key: key.serialize_pem().into_bytes().into(),
        verification_keys: vec![key.public_key_pem().into_bytes().into()],
    };
    let address = Ipv4Addr::new(192, 0, 2, 1).into();
    Config { client_ca: Some("authorities".into()), ..Config::new(address, 6443, keys) }
}

impl Harness {
    pub async fn start() -> Harness {
        Harness::serving("").await
    }

    /// With `--runtime-config`.
    pub async fn serving(runtime_config: &str) -> Harness {
        let runtime_config = RuntimeConfig::parse(&[runtime_config]).expect("runtime-config");
        Harness::with(Config { runtime_config, ..config() }).await
    }

    pub async fn with(config: Config) -> Harness {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Arc::new(Embedded::open(EmbeddedOptions::new(dir.path())).expect("store"));
        let mut harness = Harness::on(store, config).await;
        harness._dir = Some(dir);
        harness
    }

    pub async fn on(store: Arc<dyn Store>, config: Config) -> Harness {
        let stop = CancellationToken::new();
        let server = Server::start(config, store.clone(), Arc::new(SystemClock), stop.clone()).await.expect("server");
        let admin = Arc::new(UserInfo::authenticated("admin", ["system:masters".to_owned()]));
        let harness = Harness { server, store, admin, stop, _dir: None };
        // What the service account controller does in a cluster.
        harness.post("/api/v1/namespaces/default/serviceaccounts", r#"{"metadata":{"name":"default"}}"#).await;
        harness.settle().await;
        harness
    }

    /// Waits for what a server writes when it serves already: revisions rise by what the test does alone.
    async fn settle(&self) {
        for _ in 0..1000 {
            let (_, schemas) = self.get("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas").await;
            // Those that are not served are not kept.
            let Some(schemas) = schemas["items"].as_array() else { return };
            if schemas.len() >= 11 && schemas.iter().all(|schema| schema["status"]["conditions"].is_array()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("flow schemas are not kept");
    }

    /// Ends with the server.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
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

    /// Puts into the store what an API server of another time may have left there, and this one would refuse.
    pub async fn plant(&self, key: &str, object: &Value) {
        self.store.create(key, object.to_string().into(), None).await.expect("stored");
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, "", "").await
    }

    pub async fn put(&self, path: &str, object: &Value) -> (StatusCode, Value) {
        self.call(Method::PUT, path, "application/json", object.to_string()).await
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
