//! The request path: every request takes these steps in this order, whatever carried it here.
//!
//! ```text
//! panic guard       one request's failure is its own
//! request info      what is asked for, from method and path alone
//! authentication    who asks: certificate, bearer token, or nobody
//! impersonation     acting as somebody else, where that is allowed
//! in-flight limits  so that a flood is refused early and long-running requests do not count
//! authorization     Node, then RBAC
//! metrics           how long it takes, and how it ends
//! dispatch          by the resource table, or to a path that is no resource
//! ```

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use api::{Resource, Status, status::Reason};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, future::BoxFuture};
use http::{Method, Request, Response, request::Parts};
use http_body_util::BodyExt;
use net::Body;

use crate::{
    Server,
    auth::{Attributes, Decision, UserInfo},
    connect,
    metrics::Measure,
    negotiate::{Accept, Format, Offer},
    nonresource,
    request::{Query, RequestInfo},
    rest::{self, Answer, BODY_BYTES_MAX, Call, Warnings},
    subresource,
};

/// Requests that are being answered.
#[derive(Default)]
pub(crate) struct Flights {
    reading: AtomicUsize,
    mutating: AtomicUsize,
}

impl Flights {
    /// How many read and how many write.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.reading.load(Ordering::Relaxed), self.mutating.load(Ordering::Relaxed))
    }
}

/// Counts a request as long as it lives.
struct Flight<'a>(&'a AtomicUsize);

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    /// Answers one request. A verified client certificate is in the request's extensions.
    pub fn handle(self: &Arc<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let server = self.clone();
        Box::pin(async move {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let accept = request.headers().get(http::header::ACCEPT).cloned();
            let failure = |status: &Status| {
                let accept = Accept::choose(accept.as_ref(), Offer::OBJECTS);
                rest::failure(status, accept.map_or(Format::Json, |accept| accept.format))
            };
            // They come with every answer, failures included.
            let warnings = Warnings::default();
            let response = match AssertUnwindSafe(server.answer(request, &warnings)).catch_unwind().await {
                Ok(Ok(response)) => response,
                Ok(Err(status)) => failure(&status),
                Err(panic) => {
                    let cause = panic
                        .downcast_ref::<&str>()
                        .map(|text| (*text).to_owned())
                        .or_else(|| panic.downcast_ref::<String>().cloned());
                    tracing::error!(%method, path = uri.path(), cause, "a request panicked");
                    failure(&Status::internal("this request caused apiserver to panic. Look in the logs for details."))
                }
            };
            warnings.tell(response)
        })
    }

    /// Answers a request of a component in this process, which is who it says it is.
    pub fn handle_local(
        self: &Arc<Self>,
        user: Arc<UserInfo>,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Response<Body>> {
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(user);
        self.handle(Request::from_parts(parts, net::full(body)))
    }

    async fn answer(self: &Arc<Self>, request: Request<Body>, warnings: &Warnings) -> Answer {
        let query = Query::parse(request.uri().query());
        let info = RequestInfo::new(request.method(), request.uri(), &query);
        let (parts, body) = request.into_parts();
        let user = self.authenticate(&parts).await?;
        let user = self.impersonate(user, &parts.headers).await?;
        let request = Request::from_parts(parts, body);
        let _flight = self.admit_flight(&info, request.method())?;
        let has_credentials = request.headers().contains_key(http::header::AUTHORIZATION);
        self.authorize(&user, &info, has_credentials).await?;
        let resource = match info.is_resource {
            true => {
                Some(self.resource(&info.group, &info.version, &info.resource).ok_or_else(Status::no_such_resource)?)
            }
            false => None,
        };
        let measure = Measure::begin(&self.metrics, &info, resource.as_deref(), &query, &request);
        warnings.add(resource.as_ref().and_then(|resource| crate::strategy::deprecation(resource)));
        let answer = self.dispatch(&info, &query, &user, resource, request, warnings).await;
        Measure::end(measure, answer)
    }

    async fn dispatch(
        self: &Arc<Self>,
        info: &RequestInfo,
        query: &Query,
        user: &UserInfo,
        resource: Option<Arc<Resource>>,
        request: Request<Body>,
        warnings: &Warnings,
    ) -> Answer {
        let Some(resource) = resource else { return nonresource::serve(self, info, query, request).await };
        if connect::is_connect(info) {
            return connect::serve(self, info, query, request).await;
        }
        let offer = Offer {
            protobuf: self.model.kind(&resource.kind).is_some(),
            table: subresource::has_table(&resource, &info.subresource),
            ..Offer::OBJECTS
        };
        let accept = Accept::negotiate(request.headers(), offer)?;
        let (parts, body) = request.into_parts();
        let body = read_body(body, &parts).await?;
        let warnings = Some(warnings);
        let call = Call { server: self, info, query, headers: &parts.headers, user, resource, accept, body, warnings };
        if info.subresource.is_empty() || info.subresource == "status" {
            call.serve().await
        } else {
            subresource::serve(call).await
        }
    }

    async fn authenticate(&self, request: &Parts) -> Result<Arc<UserInfo>, Status> {
        if let Some(user) = request.extensions.get::<Arc<UserInfo>>() {
            return Ok(user.clone());
        }
        self.authentication.authenticate(&request.extensions, &request.headers).await.map(Arc::new)
    }

    /// `Impersonate-User` and its companions (apiserver `pkg/endpoints/filters/impersonation.go`).
    async fn impersonate(&self, user: Arc<UserInfo>, headers: &http::HeaderMap) -> Result<Arc<UserInfo>, Status> {
        let wishes = crate::auth::impersonation(headers)?;
        let Some(wishes) = wishes else { return Ok(user) };
        for wish in &wishes.checks {
            let attributes = wish.attributes(&user);
            let decision = self.authorization.authorize(&attributes).await?;
            if !decision.is_allowed() {
                return Err(forbidden(&attributes, &decision));
            }
        }
        Ok(Arc::new(wishes.user))
    }

    fn admit_flight(&self, info: &RequestInfo, method: &Method) -> Result<Option<Flight<'_>>, Status> {
        if info.verb == "watch" || connect::is_connect(info) {
            return Ok(None);
        }
        let (counter, limit) = if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            (&self.flights.reading, self.config.max_requests_inflight)
        } else {
            (&self.flights.mutating, self.config.max_mutating_requests_inflight)
        };
        let flight = Flight(counter);
        if counter.fetch_add(1, Ordering::Relaxed) >= limit {
            return Err(Status::too_many_requests("too many requests, please try again later", 1));
        }
        Ok(Some(flight))
    }

    async fn authorize(&self, user: &UserInfo, info: &RequestInfo, has_credentials: bool) -> Result<(), Status> {
        let attributes = Attributes::of(user, info);
        let decision = self.authorization.authorize(&attributes).await?;
        if decision.is_allowed() {
            return Ok(());
        }
        // Upstream asks for credentials where there were none.
        if user.is_anonymous() && has_credentials {
            return Err(Status::unauthorized());
        }
        Err(forbidden(&attributes, &decision))
    }
}

/// Upstream's text of a refusal (apiserver `pkg/endpoints/handlers/responsewriters/errors.go`).
pub(crate) fn forbidden(attributes: &Attributes<'_>, decision: &Decision) -> Status {
    let reason = match decision {
        Decision::Allow { reason } | Decision::Deny { reason } | Decision::NoOpinion { reason } => reason,
    };
    let suffix = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let user = &attributes.user.name;
    if !attributes.is_resource {
        let message =
            format!("forbidden: User \"{user}\" cannot {} path \"{}\"{suffix}", attributes.verb, attributes.path);
        return Status::failure(Reason::Forbidden, message).with_details(api::status::Details::default());
    }
    let resource = if attributes.subresource.is_empty() {
        attributes.resource.to_owned()
    } else {
        format!("{}/{}", attributes.resource, attributes.subresource)
    };
    let place = if attributes.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", attributes.namespace)
    };
    let why = format!(
        "User \"{user}\" cannot {} resource \"{resource}\" in API group \"{}\" {place}{suffix}",
        attributes.verb, attributes.group
    );
    Status::forbidden(attributes.group, attributes.resource, attributes.name, &why)
}

/// The whole body, as far as a request may have one.
pub(crate) async fn read_body(body: Body, parts: &Parts) -> Result<Bytes, Status> {
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok(Bytes::new());
    }
    let too_large = || Status::too_large(format!("Request entity too large: limit is {BODY_BYTES_MAX}"));
    let declared =
        parts.headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    match tokio::time::timeout(crate::config::BODY_TIMEOUT, collect(body)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(error)) => Err(Status::bad_request(format!("reading the request body: {error}"))),
        Err(_) => Err(Status::timeout("the request's body did not arrive in time", 1)),
    }
}

/// A body's bytes; `None` where there are more than a request may have.
async fn collect(mut body: Body) -> Result<Option<Bytes>, net::BoxError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if whole.len() + data.len() > BODY_BYTES_MAX {
            return Ok(None);
        }
        whole.extend_from_slice(&data);
    }
    Ok(Some(whole.freeze()))
}
