//! One request, measured from dispatch to the end of its answer: for a watch that is when its stream ends.

use std::{sync::Arc, time::Instant};

use api::Resource;
use http::{Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use net::Body;
use prometheus::IntCounter;

use super::Metrics;
use crate::{
    connect,
    request::{Query, RequestInfo},
    rest::Answer,
};

/// Counts its request when it is dropped.
pub(crate) struct Measure {
    metrics: Arc<Metrics>,
    begun: Instant,
    verb: &'static str,
    dry_run: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    is_long: bool,
    code: StatusCode,
}

impl Measure {
    /// `None` for requests that upstream does not count: paths other than health checks, subresources that do not exist.
    pub(crate) fn begin<B>(
        metrics: &Arc<Metrics>,
        info: &RequestInfo,
        resource: Option<&Resource>,
        query: &Query,
        request: &Request<B>,
    ) -> Option<Measure> {
        let known = match resource {
            Some(resource) => info.subresource.is_empty() || resource.subresource(&info.subresource).is_some(),
            None => matches!(&*info.path, "/healthz" | "/livez" | "/readyz"),
        };
        if !known {
            return None;
        }
        let measure = Measure {
            metrics: metrics.clone(),
            begun: Instant::now(),
            verb: verb(info, request),
            dry_run: match query.all("dryRun") {
                [] => "",
                all if all.iter().all(|value| value == "All") => "All",
                _ => "invalid",
            },
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: if resource.is_some() { info.subresource.clone() } else { info.path.clone() },
            scope: scope(info),
            is_long: info.verb == "watch" || connect::is_connect(info),
            // Of a request whose client went away before it was answered.
            code: StatusCode::INTERNAL_SERVER_ERROR,
        };
        if measure.is_long {
            measure.long_running(1);
        }
        Some(measure)
    }

    /// Notes how the request was answered; a stream keeps the measure until it ends.
    pub(crate) fn end(measure: Option<Measure>, answer: Answer) -> Answer {
        let Some(mut measure) = measure else { return answer };
        measure.code = match &answer {
            Ok(response) => response.status(),
            Err(status) => StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        };
        let response = answer?;
        if measure.is_long {
            return Ok(measure.follow(response));
        }
        if let (true, Some(size)) = (matches!(measure.verb, "GET" | "LIST"), response.body().size_hint().exact()) {
            measure.metrics.response_sizes.with_label_values(&measure.resource_labels()).observe(size as f64);
        }
        Ok(response)
    }

    fn follow(self, response: Response<Body>) -> Response<Body> {
        let events: Option<IntCounter> = (self.verb == "WATCH" && self.code == StatusCode::OK)
            .then(|| self.metrics.watch_events.with_label_values(&[&self.group, &self.version, &self.resource]));
        response.map(|body| {
            let counted = body.map_frame(move |frame| {
                // Lives as long as the stream.
                let _ = &self;
                events.as_ref().inspect(|events| events.inc());
                frame
            });
            counted.boxed_unsync()
        })
    }

    fn resource_labels(&self) -> [&str; 7] {
        [self.verb, &self.group, &self.version, &self.resource, &self.subresource, self.scope, "apiserver"]
    }

    fn long_running(&self, change: i64) {
        self.metrics.long_running.with_label_values(&self.resource_labels()).add(change);
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        if self.is_long {
            self.long_running(-1);
        }
        let code = self.code.as_str();
        let [verb, group, version, resource, subresource, scope, component] = self.resource_labels();
        let labels = [verb, self.dry_run, group, version, resource, subresource, scope, component, code];
        self.metrics.requests.with_label_values(&labels).inc();
        self.metrics.durations.with_label_values(&labels[..8]).observe(self.begun.elapsed().as_secs_f64());
    }
}

/// Upstream's `CleanVerb`: HTTP's words, with those that tell more.
fn verb<B>(info: &RequestInfo, request: &Request<B>) -> &'static str {
    let is_apply = || {
        request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/apply-patch"))
    };
    match info.verb {
        _ if connect::is_connect(info) => "CONNECT",
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" if is_apply() => "APPLY",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "other",
    }
}

/// Upstream's `CleanScope`.
fn scope(info: &RequestInfo) -> &'static str {
    match info {
        _ if !info.is_resource => "",
        _ if !info.name.is_empty() || info.verb == "create" => "resource",
        _ if !info.namespace.is_empty() => "namespace",
        _ => "cluster",
    }
}
