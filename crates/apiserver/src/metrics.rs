//! `/metrics`: what upstream's kube-apiserver counts, under its names (apiserver `pkg/endpoints/metrics` and
//! `pkg/storage/etcd3/metrics`). Labels come from the resource table, never from a request's text, so that clients cannot
//! make series at will.

mod request;
mod store;

use api::ResourceTable;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector, exponential_buckets, process_collector::ProcessCollector,
};

pub(crate) use request::Measure;
pub(crate) use store::MeasuredStore;

use crate::Server;

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Seconds.
const DURATIONS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

const REQUEST: [&str; 8] = ["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"];
const RESOURCE: [&str; 7] = ["verb", "group", "version", "resource", "subresource", "scope", "component"];
const STORE: [&str; 3] = ["operation", "group", "resource"];

pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    response_sizes: HistogramVec,
    long_running: IntGaugeVec,
    watch_events: IntCounterVec,
    in_flight: IntGaugeVec,
    objects: IntGaugeVec,
    storage_objects: IntGaugeVec,
    store_requests: IntCounterVec,
    store_errors: IntCounterVec,
    store_durations: HistogramVec,
    /// Of `/metrics/slis`, which is served apart.
    slis: Registry,
    check: IntGaugeVec,
    checks: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new(git_version: &str) -> prometheus::Result<Metrics> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            keep(&registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauge =
            |name: &str, help: &str, labels: &[&str]| keep(&registry, IntGaugeVec::new(Opts::new(name, help), labels)?);
        let histogram = |name: &str, help: &str, buckets: &[f64], labels: &[&str]| {
            keep(&registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?)
        };
        let request_and_code: Vec<&str> = REQUEST.into_iter().chain(["code"]).collect();
        let build =
            Opts::new("kubernetes_build_info", "What is running; always 1.").const_label("git_version", git_version);
        keep(&registry, IntGauge::with_opts(build)?)?.set(1);
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let slis = Registry::new();
        let check = Opts::new("kubernetes_healthcheck", "Whether a health check passed the last time: 1, or 0.");
        let checks = Opts::new("kubernetes_healthchecks_total", "Health checks made, by how they ended.");
        Ok(Metrics {
            check: keep(&slis, IntGaugeVec::new(check, &["name", "type"])?)?,
            checks: keep(&slis, IntCounterVec::new(checks, &["name", "status", "type"])?)?,
            slis,
            requests: counter(
                "apiserver_request_total",
                "Requests answered, by what they asked for and the code of the answer.",
                &request_and_code,
            )?,
            durations: histogram("apiserver_request_duration_seconds", "How long answers took.", &DURATIONS, &REQUEST)?,
            response_sizes: histogram(
                "apiserver_response_sizes",
                "Bytes of answers to reads.",
                &exponential_buckets(1000.0, 10.0, 7)?,
                &RESOURCE,
            )?,
            long_running: gauge("apiserver_longrunning_requests", "Watches and connections that are open.", &RESOURCE)?,
            watch_events: counter(
                "apiserver_watch_events_total",
                "Events sent to watchers.",
                &["group", "version", "resource"],
            )?,
            in_flight: gauge(
                "apiserver_current_inflight_requests",
                "Requests being answered that count against the limit of their kind.",
                &["request_kind"],
            )?,
            objects: gauge("apiserver_resource_objects", "Objects stored.", &["group", "resource"])?,
            storage_objects: gauge(
                "apiserver_storage_objects",
                "Objects stored, by the resource's qualified name.",
                &["resource"],
            )?,
            store_requests: counter("etcd_requests_total", "Requests to the store.", &STORE)?,
            store_errors: counter(
                "etcd_request_errors_total",
                "Requests to the store that failed; a conflict is no failure.",
                &STORE,
            )?,
            store_durations: histogram(
                "etcd_request_duration_seconds",
                "How long the store took.",
                &DURATIONS,
                &STORE,
            )?,
            registry,
        })
    }

    /// Notes how the check `name` of `/healthz`, `/livez` or `/readyz`, `kind`, ended.
    pub(crate) fn checked(&self, name: &str, kind: &str, passed: bool) {
        self.check.with_label_values(&[name, kind]).set(passed.into());
        self.checks.with_label_values(&[name, if passed { "success" } else { "error" }, kind]).inc();
    }

    /// What service levels are measured by (component-base `metrics/prometheus/slis`), in Prometheus' text form.
    pub(crate) fn slis(&self) -> Vec<u8> {
        encode(&self.slis)
    }

    /// Everything else in Prometheus' text form.
    pub(crate) fn text(&self, server: &Server) -> Vec<u8> {
        let (reading, mutating) = server.flights.count();
        self.in_flight.with_label_values(&["readOnly"]).set(reading as i64);
        self.in_flight.with_label_values(&["mutating"]).set(mutating as i64);
        self.count_objects(server, &server.resources.load());
        encode(&self.registry)
    }

    fn count_objects(&self, server: &Server, table: &ResourceTable) {
        for resource in table.resources().filter(|resource| resource.is_stored() && resource.is_storage_version()) {
            let Some(shelf) = server.cache.shelf(resource) else { continue };
            let count = shelf.len() as i64;
            self.objects.with_label_values(&[&*resource.group, &*resource.plural]).set(count);
            self.storage_objects.with_label_values(&[resource.qualified().as_str()]).set(count);
        }
    }

    fn store_duration(&self, labels: [&str; 3]) -> Histogram {
        self.store_durations.with_label_values(&labels)
    }
}

fn encode(registry: &Registry) -> Vec<u8> {
    let mut text = Vec::with_capacity(64 << 10);
    if let Err(error) = TextEncoder::new().encode(&registry.gather(), &mut text) {
        tracing::error!(%error, "writing metrics failed");
    }
    text
}

/// Registers a metric.
fn keep<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> prometheus::Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
