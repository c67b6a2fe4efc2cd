//! The configuration of a pod's sandbox (upstream `kuberuntime_sandbox.go: generatePodSandboxConfig`).

use std::collections::HashMap;

use client::kinds::core::v1::Pod;
use k8s_cri::v1::{LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol};

use super::{ConfigError, NodeFacts, dns, names, resources, security};
use crate::plan::spec;

/// `cgroup_parent` as the runtime takes it: the pod's cgroup, empty for the runtime's own choice.
pub fn config(pod: &Pod, node: &NodeFacts, attempt: u32, cgroup_parent: &str) -> Result<PodSandboxConfig, ConfigError> {
    let (hostname, _) = dns::hostname(pod, node)?;
    let meta = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let on_host = spec::host_network(pod);
    Ok(PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: text(&meta.name),
            namespace: text(&meta.namespace),
            uid: text(&meta.uid),
            attempt,
        }),
        // On the host's network the node's own name stays.
        hostname: if on_host { String::new() } else { hostname },
        log_directory: names::pod_log_dir(&node.pod_logs, pod).to_string_lossy().into_owned(),
        dns_config: Some(dns::config(pod, node)),
        port_mappings: if on_host { Vec::new() } else { port_mappings(pod) },
        labels: names::pod_labels(pod),
        annotations: names::pod_annotations(pod),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.to_owned(),
            security_context: Some(security::sandbox(pod, node)),
            sysctls: sysctls(pod),
            overhead: None,
            resources: Some(resources::of_pod(pod)),
        }),
        ..PodSandboxConfig::default()
    })
}

fn sysctls(pod: &Pod) -> HashMap<String, String> {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let sysctls = context.and_then(|context| context.sysctls.as_deref()).unwrap_or_default();
    sysctls.iter().map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value.clone())).collect()
}

/// Ports of all containers that live as long as the pod; only those with a host port matter to the network.
fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    let containers = spec::containers(pod);
    let ports = containers.iter().flat_map(|(_, container)| container.ports.clone().unwrap_or_default());
    ports
        .map(|port| PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp as i32,
                Some("SCTP") => Protocol::Sctp as i32,
                _ => Protocol::Tcp as i32,
            },
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.unwrap_or_default(),
        })
        .collect()
}
