//! Starts the kubelet's HTTPS API over the workers.

use std::{fs, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use client::{Client, kinds::core::v1::Pod};
use jiff::Timestamp;
use net::{
    server::{ServeOptions, serve_tls},
    tls::{Identity, Pem, ServerTls, TlsError, server_config},
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use volumes::Layout;

use crate::{
    cri::RuntimeError,
    kubelet::{KubeletConfig, Serving},
    manager::Access,
    recover,
    server::{KubeletServer, NodeFacts, auth::Authority},
    stats::{StatsCollector, StatsConfig},
    worker::Node,
};

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("pod cgroups are switched off, and statistics need them")]
    NoCgroups,
}

struct Facts {
    node: Arc<Node>,
    configuration: serde_json::Value,
}

#[async_trait]
impl NodeFacts for Facts {
    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn configuration(&self) -> serde_json::Value {
        self.configuration.clone()
    }

    async fn running_pods(&self) -> Result<Vec<Pod>, RuntimeError> {
        let found = recover::find(&*self.node.runtime).await?;
        let running = found.into_values().filter(|(_, observed)| observed.running().next().is_some());
        Ok(running.map(|(pod, _)| pod).collect())
    }
}

/// The configuration as `/configz` shows it.
fn configz(config: &KubeletConfig) -> serde_json::Value {
    serde_json::json!({
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "clusterDNS": config.cluster_dns,
        "clusterDomain": config.cluster_domain,
        "cgroupsPerQOS": config.cgroups_per_qos,
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": config.container_runtime_endpoint,
        "cpuCFSQuota": config.cpu_cfs_quota,
        "maxPods": config.max_pods,
        "podLogsDir": config.pod_logs_dir,
        "podPidsLimit": config.pod_pids_limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(-1)),
        "registerNode": config.register_node,
        "rotateCertificates": config.rotate_certificates,
        "seccompDefault": config.seccomp_default,
        "serverTLSBootstrap": config.server_tls_bootstrap,
        "allowedUnsafeSysctls": config.allowed_unsafe_sysctls,
        "staticPodPath": config.static_pod_path,
        "systemReserved": config.system_reserved,
    })
}

fn boot_time() -> Timestamp {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What measures the node and its pods; `None` without pods' cgroups.
pub fn statistics(config: &KubeletConfig, node: &Arc<Node>, access: Arc<Access>) -> Option<Arc<StatsCollector>> {
    let clock = node.clock.clone();
    Some(Arc::new(StatsCollector::new(StatsConfig {
        node_name: config.node_name.clone(),
        cgroups: node.cgroups.clone()?,
        runtime: node.runtime.clone(),
        access,
        layout: Layout::new(&config.root_dir),
        boot_time: boot_time(),
        now: Arc::new(move || clock.now()),
    })))
}

/// A certificate that is asked of the cluster, with its key in one file.
pub struct Requested {
    pub pem: PathBuf,
    /// `true` once it is there.
    pub when_ready: watch::Receiver<bool>,
}

/// The API over the workers.
pub fn server(
    config: &KubeletConfig,
    node: &Arc<Node>,
    access: Arc<Access>,
    stats: Arc<StatsCollector>,
    client: Client,
) -> KubeletServer {
    let clock = node.clock.clone();
    KubeletServer {
        authority: Authority::new(client, &config.node_name),
        access,
        facts: Arc::new(Facts { node: node.clone(), configuration: configz(config) }),
        stats,
        node_log_dir: "/var/log".into(),
        now: Arc::new(move || clock.now()),
    }
}

/// Listens, and serves in the background until `cancel`; where the certificate is still to come, from then on.
pub async fn start(
    serving: &Serving,
    server: KubeletServer,
    requested: Option<Requested>,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let address = std::net::SocketAddr::new(serving.address, serving.port);
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    let client_cas = vec![Pem::File(serving.client_ca_file.clone())];
    let (handler, options) = (server.handler(), ServeOptions::default());
    let Some(mut requested) = requested else {
        let identity = Identity::files(&serving.tls_cert_file, &serving.tls_private_key_file);
        let tls = server_config(ServerTls { identity, client_cas })?;
        tokio::spawn(serve_tls(listener, tls, handler, options, cancel));
        return Ok(());
    };
    tokio::spawn(async move {
        // Ends without having been told when the kubelet does.
        match cancel.run_until_cancelled(requested.when_ready.wait_for(|ready| *ready)).await {
            Some(Ok(_)) => {}
            _ => return,
        }
        let identity = Identity::files(&requested.pem, &requested.pem);
        match server_config(ServerTls { identity, client_cas }) {
            Ok(tls) => serve_tls(listener, tls, handler, options, cancel).await,
            Err(error) => tracing::error!(%error, "cannot serve the kubelet's API"),
        }
    });
    Ok(())
}
