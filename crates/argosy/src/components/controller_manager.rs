//! kube-controller-manager.

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use apiserver::Server;
use async_trait::async_trait;
use clap::Args;
use cluster::{
    layout::Settings,
    pki::{self, CsrPolicy, Pki, Usage},
    progress::chain,
};
use controllers::{
    ControllerManager, ControllerManagerConfig,
    signer::{SignError, Signer},
};
use net::tls::Identity;
use tokio_util::sync::CancellationToken;

use super::{HealthFlags, LeaderFlags, host_name, read, remote_client, serve_health};
use crate::{clients, flags::GoDuration, logging::LogFlags, supervisor::Supervisor};

const NAME: &str = "kube-controller-manager";

/// Default of `--cluster-signing-duration`: a year.
const SIGNING_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// Where the API server is, and who this is
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Controllers to run: names, `*` for all that are on by default, `-NAME` for all but that
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    controllers: Vec<String>,
    /// Give every node a part of --cluster-cidr for its pods
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    allocate_node_cidrs: bool,
    /// Range of all pods' addresses
    #[arg(long, default_value = "")]
    cluster_cidr: String,
    /// Size of a node's part of --cluster-cidr
    #[arg(long, default_value_t = 24)]
    node_cidr_mask_size: u8,
    /// Range of ClusterIPs
    #[arg(long, default_value = "")]
    service_cluster_ip_range: String,
    /// Authority that pods are told to trust
    #[arg(long)]
    root_ca_file: Option<PathBuf>,
    /// Authority that signs certificate requests
    #[arg(long, requires = "cluster_signing_key_file")]
    cluster_signing_cert_file: Option<PathBuf>,
    /// Key of --cluster-signing-cert-file
    #[arg(long, requires = "cluster_signing_cert_file")]
    cluster_signing_key_file: Option<PathBuf>,
    /// How long signed certificates are valid at most
    #[arg(long, default_value = "8760h")]
    cluster_signing_duration: GoDuration,
    /// How long a node may be silent before it counts as gone
    #[arg(long, default_value = "50s")]
    node_monitor_grace_period: GoDuration,
    /// How many finished pods may be before the oldest are removed
    #[arg(long, default_value_t = 12_500)]
    terminated_pod_gc_threshold: usize,
    /// Port for health checks
    #[arg(long, default_value_t = 10_257)]
    secure_port: u16,
    #[command(flatten)]
    health: HealthFlags,
    #[command(flatten)]
    leader: LeaderFlags,
    #[command(flatten)]
    pub log: LogFlags,
}

/// The controller manager as a process of its own, until `cancel`.
pub async fn run(flags: Flags, cancel: CancellationToken) -> anyhow::Result<()> {
    let client = remote_client(NAME, &flags.kubeconfig)?;
    let config = flags.config()?;
    flags.health.start(NAME, flags.secure_port, cancel.clone())?;
    let lead = client.clone();
    let work = async move |token| Ok(ControllerManager::run(config, lead, token).await?);
    flags.leader.run(NAME, &client, cancel, work).await
}

impl Flags {
    fn config(&self) -> anyhow::Result<ControllerManagerConfig> {
        let root_ca = self.root_ca_file.as_ref().map(|path| read("root-ca-file", path)).transpose()?;
        let signer = match (&self.cluster_signing_cert_file, &self.cluster_signing_key_file) {
            (Some(certificate), Some(key)) => {
                let signer = pki::Signer::load(certificate, key)?;
                Some(ClusterSigner::boxed(signer, self.cluster_signing_duration.0))
            }
            _ => None,
        };
        Ok(ControllerManagerConfig {
            controllers: self.controllers.clone(),
            cluster_cidr: if self.allocate_node_cidrs { self.cluster_cidr.clone() } else { String::new() },
            node_cidr_mask_size: self.node_cidr_mask_size,
            service_cidr: self.service_cluster_ip_range.clone(),
            root_ca_pem: String::from_utf8(root_ca.unwrap_or_default())?,
            node_monitor_grace_period: self.node_monitor_grace_period.0,
            terminated_pod_gc_threshold: self.terminated_pod_gc_threshold,
            signer,
            host: host_name(),
            ..ControllerManagerConfig::default()
        })
    }
}

/// Signs with the cluster's authority, which holds the key.
struct ClusterSigner {
    signer: pki::Signer,
    /// Longest validity.
    duration: Duration,
}

impl ClusterSigner {
    fn boxed(signer: pki::Signer, duration: Duration) -> Arc<dyn Signer> {
        Arc::new(ClusterSigner { signer, duration })
    }
}

#[async_trait]
impl Signer for ClusterSigner {
    async fn sign(
        &self,
        signer_name: &str,
        request_pem: &[u8],
        usages: &[String],
        expiration: Option<Duration>,
    ) -> Result<Vec<u8>, SignError> {
        let refuse = |why: String| SignError(format!("{signer_name}: {why}"));
        let request = std::str::from_utf8(request_pem).map_err(|error| refuse(error.to_string()))?;
        let mut purposes = Vec::new();
        for usage in usages {
            match usage.as_str() {
                "client auth" => purposes.push(Usage::Client),
                "server auth" => purposes.push(Usage::Serving),
                _ => {}
            }
        }
        // Who may ask for which name was decided where requests are approved and admitted.
        let ttl = expiration.map_or(self.duration, |wanted| wanted.min(self.duration));
        let now = std::time::SystemTime::now();
        let signed = self.signer.sign(request, CsrPolicy::Any, &purposes, ttl, now);
        signed.map(String::into_bytes).map_err(|error| refuse(chain(&error)))
    }
}

/// The controllers of the one process: no other can lead, so there is no election.
pub fn all_in_one(supervisor: &Supervisor, settings: &Settings, pki: &Pki, server: &Arc<Server>) -> anyhow::Result<()> {
    let client = clients::local(server, NAME, clients::user("system:kube-controller-manager"));
    let ca = pki.cert("ca");
    let root_ca_pem = String::from_utf8(std::fs::read(&ca)?)?;
    let signer = ClusterSigner::boxed(pki::Signer::load(&ca, &pki.key("ca"))?, SIGNING_DURATION);
    let beyond = ["bootstrap-signer-controller", "token-cleaner-controller", "kubelet-serving-csr-approver"];
    let config = ControllerManagerConfig {
        controllers: ["*"].into_iter().chain(beyond).map(str::to_owned).collect(),
        cluster_cidr: settings.cluster_cidr.to_string(),
        node_cidr_mask_size: settings.pod_cidr.prefix(),
        service_cidr: settings.service_cidr.to_string(),
        root_ca_pem,
        signer: Some(signer),
        host: settings.node_name.clone(),
        ..ControllerManagerConfig::default()
    };
    let port = settings.ports.controller_manager;
    let identity = Identity::files(pki.cert("components"), pki.key("components"));
    supervisor.run(NAME, move |cancel: CancellationToken| {
        let (config, client, identity) = (config.clone(), client.clone(), identity.clone());
        async move {
            serve_health(NAME, Ipv4Addr::LOCALHOST.into(), port, identity, cancel.clone())?;
            Ok(ControllerManager::run(config, client, cancel).await?)
        }
    });
    Ok(())
}
