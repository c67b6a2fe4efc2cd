//! What load balancers and probes ask: `/healthz` and `/livez` of the proxy, and a port per Service with
//! externalTrafficPolicy Local (upstream `pkg/proxy/healthcheck`). Served without authentication, as upstream does on
//! purpose, so it shows nothing but health.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Weak},
    time::Duration,
};

use client::{Clock, ObjectKey};
use http::{Response, StatusCode, header};
use jiff::Timestamp;
use net::{
    Body,
    server::{Handler, ServeOptions, serve_plain},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Family, HealthCheck};

/// A change that waits longer to be written makes the proxy unhealthy (upstream: twice its sync period of 30 s).
const LATE: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for health checks")]
pub struct HealthError {
    pub address: SocketAddr,
    #[source]
    pub source: io::Error,
}

/// Whether rules are written in time, and whether the node is to get traffic. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    last_updated: Option<Timestamp>,
    pending_since: Option<Timestamp>,
    node_eligible: bool,
}

impl Health {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Health { clock, state: Arc::default() }
    }

    /// Something changed that is not in the kernel yet.
    pub fn queued(&self) {
        let now = self.clock.now();
        self.state.lock().pending_since.get_or_insert(now);
    }

    /// What was queued before has been written; `more` came meanwhile.
    pub fn written(&self, more: bool) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.last_updated = Some(now);
        state.pending_since = more.then_some(now);
    }

    /// A node that is being removed, or unknown, is to get no traffic from load balancers.
    pub fn set_node_eligible(&self, eligible: bool) {
        self.state.lock().node_eligible = eligible;
    }

    pub fn is_healthy(&self) -> bool {
        let now = self.clock.now();
        let state = self.state.lock();
        state.pending_since.is_none_or(|since| now.duration_since(since).unsigned_abs() < LATE)
    }

    /// The answer to `path`: its code and body.
    pub fn answer(&self, path: &str) -> (StatusCode, Value) {
        let now = self.clock.now();
        let healthy = self.is_healthy();
        let state = self.state.lock();
        let mut body = json!({
            "lastUpdated": if healthy { Some(now) } else { state.last_updated },
            "currentTime": now,
            "healthy": healthy,
        });
        let healthy = match path {
            "/livez" => healthy,
            "/healthz" => {
                body["nodeEligible"] = state.node_eligible.into();
                healthy && state.node_eligible
            }
            _ => return (StatusCode::NOT_FOUND, json!({})),
        };
        (code(healthy), body)
    }

    /// Serves `/healthz` and `/livez` until `cancel`.
    pub async fn serve(&self, address: SocketAddr, cancel: CancellationToken) -> Result<(), HealthError> {
        let listener = TcpListener::bind(address).await.map_err(|source| HealthError { address, source })?;
        let health = self.clone();
        tokio::spawn(serve(listener, cancel, move |path| {
            let (code, body) = health.answer(path);
            response(code, &body)
        }));
        Ok(())
    }
}

fn code(healthy: bool) -> StatusCode {
    if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn response(code: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(net::full(body.to_string()));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}

async fn serve(
    listener: TcpListener,
    cancel: CancellationToken,
    answer: impl Fn(&str) -> Response<Body> + Send + Sync + 'static,
) {
    let answer = Arc::new(answer);
    let handler: Handler = Arc::new(move |request| {
        let answer = answer.clone();
        Box::pin(async move { answer(request.uri().path()) })
    });
    // Whoever may connect may not hold connections for ever: nobody has to show who they are here.
    let options = ServeOptions {
        max_connections: 128,
        header_timeout: Duration::from_secs(10),
        drain: Duration::from_secs(1),
        ..ServeOptions::default()
    };
    serve_plain(listener, handler, options, cancel).await;
}

/// The listeners on Services' healthCheckNodePorts.
pub(crate) struct HealthCheckPorts {
    family: Family,
    health: Health,
    cancel: CancellationToken,
    open: HashMap<ObjectKey, Open>,
}

struct Open {
    node_port: u16,
    endpoints: Arc<Mutex<usize>>,
    cancel: CancellationToken,
}

impl HealthCheckPorts {
    pub fn new(family: Family, health: Health, cancel: CancellationToken) -> Self {
        HealthCheckPorts { family, health, cancel, open: HashMap::new() }
    }

    /// Opens, changes or closes the port of a Service. A port that cannot be opened is tried again with the Service's
    /// next change.
    pub async fn set(&mut self, key: &ObjectKey, check: Option<&HealthCheck>) {
        if let Some(open) = self.open.get(key) {
            if let Some(check) = check.filter(|check| check.node_port == open.node_port) {
                *open.endpoints.lock() = check.local_endpoints;
                return;
            }
            open.cancel.cancel();
            self.open.remove(key);
        }
        let Some(check) = check else { return };
        let any: IpAddr = match self.family {
            Family::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let listener = match TcpListener::bind((any, check.node_port)).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(service = %key, port = check.node_port, %error, "cannot open healthCheckNodePort");
                return;
            }
        };
        let endpoints = Arc::new(Mutex::new(check.local_endpoints));
        let cancel = self.cancel.child_token();
        let (service, health, count) = (key.clone(), self.health.clone(), Arc::downgrade(&endpoints));
        tokio::spawn(serve(listener, cancel.clone(), move |_| check_response(&service, &health, &count)));
        self.open.insert(key.clone(), Open { node_port: check.node_port, endpoints, cancel });
    }
}

fn check_response(service: &ObjectKey, health: &Health, endpoints: &Weak<Mutex<usize>>) -> Response<Body> {
    let count = endpoints.upgrade().map_or(0, |endpoints| *endpoints.lock());
    let healthy = health.is_healthy();
    let body = json!({
        "service": {"namespace": service.namespace, "name": service.name},
        "localEndpoints": count,
        "serviceProxyHealthy": healthy,
    });
    let mut response = response(code(healthy && count > 0), &body);
    response.headers_mut().insert("x-load-balancing-endpoint-weight", count.into());
    response
}
