//! The kubelet's HTTPS API on port 10250 (upstream `pkg/kubelet/server/server.go`).
//!
//! Every request, `/healthz` too, is authenticated and authorized ([`auth`]) before it is looked at ([`route`]).

pub mod auth;
pub mod logs;
pub mod metrics;
mod node_logs;
mod respond;
pub mod route;
pub mod spdy;
pub mod streaming;
pub mod translate;
pub mod uri;

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use client::{Kind, kinds::core::v1::Pod};
use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use net::Body;

use self::{
    auth::{Authority, Refusal},
    logs::{LogOptions, LogSource, OptionsError},
    respond::text,
    route::{Route, Target},
    uri::Query,
};
use crate::{
    access::{AccessError, PodAccess, Streams},
    cri::RuntimeError,
    stats::StatsCollector,
};

/// What the server tells of the kubelet itself.
#[async_trait]
pub trait NodeFacts: Send + Sync + 'static {
    /// Whether the sync loop is alive; the reason where it is not.
    fn health(&self) -> Result<(), String>;

    /// The KubeletConfiguration in use, as JSON.
    fn configuration(&self) -> serde_json::Value;

    /// Pods as the runtime has them, which is not what is desired of it.
    async fn running_pods(&self) -> Result<Vec<Pod>, RuntimeError>;
}

pub struct KubeletServer {
    pub authority: Authority,
    pub access: Arc<dyn PodAccess>,
    pub facts: Arc<dyn NodeFacts>,
    pub stats: Arc<StatsCollector>,
    /// The node's log files: `/var/log`.
    pub node_log_dir: PathBuf,
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl KubeletServer {
    /// The server as a function from request to response, in the shape `net::server` takes.
    pub fn handler(self) -> Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync> {
        let server = Arc::new(self);
        Arc::new(move |request| {
            let server = server.clone();
            async move { server.handle(request).await }.boxed()
        })
    }

    pub async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let admitted = self.authority.admit(request.method(), path, request.headers(), request.extensions()).await;
        if let Err(refusal) = admitted {
            return refused(&refusal);
        }
        let query = Query::parse(request.uri().query().unwrap_or_default());
        match route::route(request.method(), path) {
            Route::Health => self.health(),
            Route::Pods => pod_list(self.access.pods().iter().map(|pod| pod.encode())),
            Route::RunningPods => match self.facts.running_pods().await {
                Ok(pods) => pod_list(pods.iter().map(Kind::encode)),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            },
            Route::Summary => self.summary(&query).await,
            Route::Metrics => respond::metrics(metrics::own()),
            Route::MetricsProbes => respond::metrics(String::new()),
            Route::MetricsResource => respond::metrics(match self.stats.summary(true).await {
                Ok(summary) => metrics::resource(&summary),
                Err(_) => metrics::resource_error(),
            }),
            Route::MetricsCadvisor => match self.stats.summary(false).await {
                Ok(summary) => respond::metrics(metrics::cadvisor(&summary)),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            },
            Route::Configz => {
                respond::json(serde_json::json!({"kubeletconfig": self.facts.configuration()}).to_string())
            }
            Route::ContainerLogs(target) => self.container_logs(&target, &query).await,
            Route::Exec(target) => self.exec(request, &target, &query).await,
            Route::Attach(target) => self.attach(request, &target, &query).await,
            Route::PortForward(target) => self.port_forward(request, &target, &query).await,
            Route::Run(target) => self.run(&target, &query).await,
            Route::NodeLogs(path) => node_logs::serve(&self.node_log_dir, &path).await,
            Route::Disabled(why) => text(StatusCode::METHOD_NOT_ALLOWED, why),
            Route::MethodNotAllowed => text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"),
            Route::NotFound => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    fn health(&self) -> Response<Body> {
        match self.facts.health() {
            Ok(()) => text(StatusCode::OK, "ok"),
            Err(why) => {
                let body = format!("[+]ping ok\n[+]log ok\n[-]syncloop failed: {why}\nhealthz check failed\n");
                text(StatusCode::INTERNAL_SERVER_ERROR, body)
            }
        }
    }

    async fn summary(&self, query: &Query) -> Response<Body> {
        match self.stats.summary(query.flag("only_cpu_and_memory")).await {
            Ok(summary) => match serde_json::to_vec(&summary) {
                Ok(body) => respond::json(body),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            },
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    async fn container_logs(&self, target: &Target, query: &Query) -> Response<Body> {
        let options = match LogOptions::from_query(query, (self.now)()) {
            Ok(options) => options,
            Err(error) => {
                let status = match error {
                    OptionsError::Decode { .. } => StatusCode::BAD_REQUEST,
                    OptionsError::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
                };
                return text(status, error.to_string());
            }
        };
        let Ok(pod) = self.access.find(&target.namespace, &target.pod, None) else {
            return text(StatusCode::NOT_FOUND, format!("pod {:?} does not exist", target.pod));
        };
        if !has_container(&pod, &target.container) {
            let why = format!("container {:?} not found in pod {:?}", target.container, target.pod);
            return text(StatusCode::NOT_FOUND, why);
        }
        let handle = match self.access.container(&pod, &target.container, options.previous) {
            Ok(handle) => handle,
            // As upstream, which writes what the log reader failed with as a bad request.
            Err(error) => return text(StatusCode::BAD_REQUEST, error.to_string()),
        };
        let running = is_running(self.access.clone(), pod, target.container.clone(), handle.id);
        match logs::stream(LogSource { path: handle.log_path, running }, options).await {
            Ok(body) => {
                let mut response = Response::new(body);
                let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
                response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
                response
            }
            Err(error) => text(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }

    fn container_id(&self, target: &Target) -> Result<String, AccessError> {
        let pod = self.access.find(&target.namespace, &target.pod, target.uid.as_deref())?;
        let handle = self.access.container(&pod, &target.container, false)?;
        match handle.running {
            true => Ok(handle.id),
            false => Err(AccessError::ContainerNotFound {
                namespace: target.namespace.clone(),
                name: target.pod.clone(),
                container: target.container.clone(),
            }),
        }
    }

    async fn exec(&self, request: Request<Incoming>, target: &Target, query: &Query) -> Response<Body> {
        let streams = match streaming::streams(query) {
            Ok(streams) => streams,
            Err(why) => return text(StatusCode::BAD_REQUEST, why),
        };
        let command = query.all("command").map(str::to_owned).collect();
        let url = match self.container_id(target) {
            Ok(id) => self.access.exec(&id, command, streams).await,
            Err(error) => Err(error),
        };
        stream(request, url, Some(streams)).await
    }

    async fn attach(&self, request: Request<Incoming>, target: &Target, query: &Query) -> Response<Body> {
        let streams = match streaming::streams(query) {
            Ok(streams) => streams,
            Err(why) => return text(StatusCode::BAD_REQUEST, why),
        };
        let url = match self.container_id(target) {
            Ok(id) => self.access.attach(&id, streams).await,
            Err(error) => Err(error),
        };
        stream(request, url, Some(streams)).await
    }

    async fn port_forward(&self, request: Request<Incoming>, target: &Target, query: &Query) -> Response<Body> {
        let ports = match streaming::ports(query, request.headers()) {
            Ok(ports) => ports,
            Err(why) => return text(StatusCode::BAD_REQUEST, why),
        };
        let url = match self.access.find(&target.namespace, &target.pod, target.uid.as_deref()) {
            Ok(pod) => self.access.port_forward(&pod, ports).await,
            Err(error) => Err(error),
        };
        stream(request, url, None).await
    }

    async fn run(&self, target: &Target, query: &Query) -> Response<Body> {
        let command: Vec<String> = query.first("cmd").unwrap_or_default().split(' ').map(str::to_owned).collect();
        let result = match self.container_id(target) {
            Ok(id) => self.access.run(&id, command).await,
            Err(error) => Err(error),
        };
        match result {
            Ok((0, output)) => respond::json(output),
            Ok((code, _)) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, format!("command terminated with exit code {code}"))
            }
            Err(error) => access_failed(&error),
        }
    }
}

/// `streams`: of an exec or attach.
async fn stream(
    request: Request<Incoming>,
    url: Result<String, AccessError>,
    streams: Option<Streams>,
) -> Response<Body> {
    match (url, streams.filter(|_| translate::is_wanted(&request))) {
        (Ok(url), Some(streams)) => translate::serve(request, &url, streams).await,
        (Ok(url), None) => streaming::proxy(request, &url).await,
        (Err(error), _) => access_failed(&error),
    }
}

fn access_failed(error: &AccessError) -> Response<Body> {
    let status = match error {
        AccessError::PodNotFound { .. } | AccessError::ContainerNotFound { .. } => StatusCode::NOT_FOUND,
        AccessError::NoPreviousContainer { .. } => StatusCode::BAD_REQUEST,
        AccessError::Runtime(RuntimeError::NotFound { .. }) => StatusCode::NOT_FOUND,
        AccessError::Runtime(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    text(status, error.to_string())
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let status = match refusal {
        Refusal::Unauthenticated => StatusCode::UNAUTHORIZED,
        Refusal::Forbidden { .. } => StatusCode::FORBIDDEN,
        Refusal::Failed { source, .. } => {
            tracing::error!(error = %source, "authorization error");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    text(status, refusal.to_string())
}

fn pod_list(pods: impl Iterator<Item = Vec<u8>>) -> Response<Body> {
    let mut body = br#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":["#.to_vec();
    for (at, pod) in pods.enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend(pod);
    }
    body.extend(b"]}");
    respond::json(body)
}

fn has_container(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let plain = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| &c.name);
    plain.chain(spec.ephemeral_containers.iter().flatten().map(|c| &c.name)).any(|present| present == name)
}

/// Whether exactly this instance is still the container's newest, and runs.
fn is_running(
    access: Arc<dyn PodAccess>,
    pod: Arc<Pod>,
    container: String,
    id: String,
) -> Arc<dyn Fn() -> bool + Send + Sync> {
    Arc::new(move || match access.container(&pod, &container, false) {
        Ok(now) => now.id == id && now.running,
        Err(_) => false,
    })
}
