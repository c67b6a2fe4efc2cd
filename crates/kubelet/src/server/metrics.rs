//! What Prometheus and metrics-server scrape (upstream `pkg/kubelet/metrics/collectors/resource_metrics.go`; of cAdvisor's
//! metrics only those dashboards and autoscalers ask for). Pure, but for the process's own registry.

use std::fmt::Write;

use prometheus::{Encoder, TextEncoder};

use crate::stats::summary::{ContainerStats, PodStats, Summary};

/// `/metrics`: the process's own registry.
pub fn own() -> String {
    let mut buffer = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&prometheus::gather(), &mut buffer) {
        tracing::error!(%error, "cannot encode metrics");
    }
    String::from_utf8(buffer).unwrap_or_default()
}

#[derive(Default)]
struct Text(String);

impl Text {
    /// A metric with its samples: labels as they are printed, value, milliseconds since the epoch.
    fn metric(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (String, f64, Option<i64>)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value, time) in samples {
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            let time = time.map(|time| format!(" {time}")).unwrap_or_default();
            let _ = writeln!(self.0, "{name}{labels} {value}{time}");
        }
    }
}

/// A label's value as the text format wants it.
fn quote(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn of_pod(pod: &PodStats) -> String {
    format!("namespace={},pod={}", quote(&pod.pod_ref.namespace), quote(&pod.pod_ref.name))
}

fn of_container(pod: &PodStats, container: &ContainerStats) -> String {
    format!("container={},{}", quote(&container.name), of_pod(pod))
}

fn containers(summary: &Summary) -> impl Iterator<Item = (&PodStats, &ContainerStats)> {
    summary.pods.iter().flat_map(|pod| pod.containers.iter().map(move |container| (pod, container)))
}

const NANO: f64 = 1e9;

/// `/metrics/resource`.
pub fn resource(summary: &Summary) -> String {
    let mut text = Text::default();
    let cpu = |stats: &Option<crate::stats::summary::CpuStats>| {
        let stats = stats.as_ref()?;
        Some((stats.usage_core_nano_seconds? as f64 / NANO, Some(stats.time.as_millisecond())))
    };
    let memory = |stats: &Option<crate::stats::summary::MemoryStats>| {
        let stats = stats.as_ref()?;
        Some((stats.working_set_bytes? as f64, Some(stats.time.as_millisecond())))
    };
    let name = "container_cpu_usage_seconds_total";
    let help = "[STABLE] Cumulative cpu time consumed by the container in core-seconds";
    let samples = containers(summary).filter_map(|(pod, c)| cpu(&c.cpu).map(|(v, t)| (of_container(pod, c), v, t)));
    text.metric(name, "counter", help, samples);
    let help = "[STABLE] Current working set of the container in bytes";
    let samples =
        containers(summary).filter_map(|(pod, c)| memory(&c.memory).map(|(v, t)| (of_container(pod, c), v, t)));
    text.metric("container_memory_working_set_bytes", "gauge", help, samples);
    let help = "[STABLE] Start time of the container since unix epoch in seconds";
    let samples = containers(summary).map(|(pod, c)| {
        let started = c.start_time.as_millisecond() as f64 / 1000.0;
        (of_container(pod, c), started, None)
    });
    text.metric("container_start_time_seconds", "gauge", help, samples);
    let help = "[STABLE] Cumulative cpu time consumed by the node in core-seconds";
    let node = cpu(&summary.node.cpu).map(|(v, t)| (String::new(), v, t));
    text.metric("node_cpu_usage_seconds_total", "counter", help, node);
    let help = "[STABLE] Current working set of the node in bytes";
    let node = memory(&summary.node.memory).map(|(v, t)| (String::new(), v, t));
    text.metric("node_memory_working_set_bytes", "gauge", help, node);
    let help = "[STABLE] Cumulative cpu time consumed by the pod in core-seconds";
    let pods = summary.pods.iter().filter_map(|pod| cpu(&pod.cpu).map(|(v, t)| (of_pod(pod), v, t)));
    text.metric("pod_cpu_usage_seconds_total", "counter", help, pods);
    let help = "[STABLE] Current working set of the pod in bytes";
    let pods = summary.pods.iter().filter_map(|pod| memory(&pod.memory).map(|(v, t)| (of_pod(pod), v, t)));
    text.metric("pod_memory_working_set_bytes", "gauge", help, pods);
    scrape_error(&mut text, 0.0);
    text.0
}

/// `/metrics/resource` where nothing could be read: scrapers still learn that.
pub fn resource_error() -> String {
    let mut text = Text::default();
    scrape_error(&mut text, 1.0);
    text.0
}

fn scrape_error(text: &mut Text, value: f64) {
    let help = "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise";
    text.metric("resource_scrape_error", "gauge", help, [(String::new(), value, None)]);
}

/// `/metrics/cadvisor`: CPU, memory, file system and network of containers and pods.
pub fn cadvisor(summary: &Summary) -> String {
    let mut text = Text::default();
    type Read = fn(&ContainerStats) -> Option<f64>;
    let table: [(&str, &str, &str, Read); 6] = [
        ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", |c| {
            Some(c.cpu?.usage_core_nano_seconds? as f64 / NANO)
        }),
        ("container_memory_usage_bytes", "gauge", "Current memory usage in bytes.", |c| {
            Some(c.memory?.usage_bytes? as f64)
        }),
        ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", |c| {
            Some(c.memory?.working_set_bytes? as f64)
        }),
        ("container_memory_rss", "gauge", "Size of RSS in bytes.", |c| Some(c.memory?.rss_bytes? as f64)),
        ("container_fs_usage_bytes", "gauge", "Number of bytes used on this filesystem.", |c| {
            Some(c.rootfs?.used_bytes? as f64)
        }),
        ("container_start_time_seconds", "gauge", "Start time of the container since unix epoch.", |c| {
            Some(c.start_time.as_second() as f64)
        }),
    ];
    for (name, kind, help, read) in table {
        let samples = containers(summary).filter_map(|(pod, c)| read(c).map(|v| (of_container(pod, c), v, None)));
        text.metric(name, kind, help, samples);
    }
    let network = |read: fn(&crate::stats::summary::InterfaceStats) -> u64| {
        summary.pods.iter().flat_map(move |pod| {
            let interfaces = pod.network.iter().flat_map(|network| &network.interfaces);
            interfaces.map(move |i| (format!("interface={},{}", quote(&i.name), of_pod(pod)), read(i) as f64, None))
        })
    };
    let help = "Cumulative count of bytes received";
    text.metric("container_network_receive_bytes_total", "counter", help, network(|i| i.rx_bytes));
    let help = "Cumulative count of bytes transmitted";
    text.metric("container_network_transmit_bytes_total", "counter", help, network(|i| i.tx_bytes));
    text.0
}
