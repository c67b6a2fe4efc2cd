//! kubelet.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use client::{Client, Clock, SystemClock, apimachinery::pkg::api::resource::Quantity, kinds::core::v1::Taint};
use cluster::machine;
use kubelet::{
    Kubelet, KubeletConfig, Serving,
    certificate::{
        Purpose,
        bootstrap::{Bootstrap, WAIT_LIMIT, is_still_valid},
        store::CertificateStore,
    },
};
use tokio_util::sync::CancellationToken;

use super::{kubelet_file::KubeletFile, kubelet_limits::LimitFlags, remote_client};
use crate::{
    clients,
    flags::{KeyValues, TaintFlag},
    logging::LogFlags,
    supervisor::Supervisor,
};

/// What a flag does not say, the file of --config does, and what neither says has upstream's default.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// A KubeletConfiguration file (kubelet.config.k8s.io/v1beta1)
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Folder for volumes and state [default: /var/lib/kubelet]
    #[arg(long)]
    pub root_dir: Option<PathBuf>,
    /// The node's name, where it is not the host's
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// The node's address, where it is not the default route's
    #[arg(long)]
    pub node_ip: Option<IpAddr>,
    /// cgroup that pods' cgroups are made in
    #[arg(long)]
    pub cgroup_root: Option<String>,
    /// Whether pods get cgroups of their own
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub cgroups_per_qos: Option<bool>,
    /// The runtime's socket [default: unix:///run/containerd/containerd.sock]
    #[arg(long)]
    pub container_runtime_endpoint: Option<String>,
    /// Folder of static pods' manifests
    #[arg(long)]
    pub pod_manifest_path: Option<PathBuf>,
    /// Addresses of cluster DNS
    #[arg(long, value_delimiter = ',')]
    pub cluster_dns: Vec<String>,
    /// The cluster's domain [default: cluster.local]
    #[arg(long)]
    pub cluster_domain: Option<String>,
    /// Resolver file that pods inherit
    #[arg(long)]
    pub resolv_conf: Option<PathBuf>,
    /// Labels that the node is registered with
    #[arg(long)]
    pub node_labels: Option<KeyValues>,
    /// Taints that the node is registered with: KEY=VALUE:EFFECT
    #[arg(long, value_delimiter = ',')]
    pub register_with_taints: Vec<TaintFlag>,
    /// Whether the node registers itself
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub register_node: Option<bool>,
    /// How many pods fit [default: 110]
    #[arg(long)]
    pub max_pods: Option<u32>,
    /// How many processes a pod may have
    #[arg(long)]
    pub pod_max_pids: Option<i64>,
    /// Whether CPU limits are enforced
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub cpu_cfs_quota: Option<bool>,
    /// Kernel parameters that pods may set beside the safe ones: names, or beginnings before a *
    #[arg(long, value_delimiter = ',', value_parser = sysctl_pattern)]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Whether RuntimeDefault is the seccomp profile of pods that name none
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub seccomp_default: Option<bool>,
    /// What of the machine pods may not count on: cpu=100m,memory=1Gi
    #[arg(long)]
    pub system_reserved: Option<KeyValues>,
    #[command(flatten)]
    pub limits: LimitFlags,
    /// Address to listen on [default: 0.0.0.0]
    #[arg(long)]
    pub address: Option<IpAddr>,
    /// Port to listen on [default: 10250]
    #[arg(long)]
    pub port: Option<u16>,
    /// Certificate to serve with; without one there is no API for logs and exec
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// Key of --tls-cert-file
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// Authorities whose client certificates are users
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Folder of the certificates that the kubelet asks for itself [default: /var/lib/kubelet/pki]
    #[arg(long)]
    pub cert_dir: Option<PathBuf>,
    /// Replace the client certificate before it ends
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub rotate_certificates: Option<bool>,
    /// Ask the cluster for the certificate to serve with, and replace it before it ends
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub rotate_server_certificates: Option<bool>,
}

#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// Where the API server is, and who this is
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// A kubeconfig to ask for a client certificate with, while that of --kubeconfig is missing or has expired
    #[arg(long)]
    bootstrap_kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    pub log: LogFlags,
}

/// The kubelet as a process of its own, until `cancel`.
pub async fn run(flags: Flags, cancel: CancellationToken) -> anyhow::Result<()> {
    let config = flags.options.into_config()?;
    if let Some(bootstrap) = &flags.bootstrap_kubeconfig {
        let Some(kubeconfig) = &flags.kubeconfig else {
            bail!("--bootstrap-kubeconfig needs --kubeconfig: its result")
        };
        match cancel.run_until_cancelled(first_certificate(&config, bootstrap, kubeconfig)).await {
            Some(outcome) => outcome?,
            None => return Ok(()),
        }
    }
    let client = remote_client("kubelet", &flags.kubeconfig)?;
    Ok(Kubelet::run(config, client, cancel).await?)
}

/// Asks for a client certificate with the bootstrap kubeconfig, where there is none that is valid.
async fn first_certificate(config: &KubeletConfig, bootstrap: &Path, kubeconfig: &Path) -> anyhow::Result<()> {
    let name = || format!("--bootstrap-kubeconfig {}", bootstrap.display());
    let task = Bootstrap {
        node_name: config.node_name.clone(),
        cert_dir: config.cert_dir.clone(),
        kubeconfig: kubeconfig.to_owned(),
        limit: WAIT_LIMIT,
    };
    // As upstream: what is no longer needed may be gone.
    if is_still_valid(kubeconfig, SystemClock.now())? {
        return Ok(());
    }
    let from = client::kubeconfig::load(bootstrap).with_context(name)?;
    let client = Client::from_kubeconfig(&from, &clients::user_agent("kubelet")).with_context(name)?;
    task.run(&client, &from, &SystemClock).await.with_context(name)
}

/// Runs the kubelet as a part of this process.
pub fn keep(supervisor: &Supervisor, config: KubeletConfig, client: Client) {
    supervisor.run("kubelet", move |cancel| {
        let (config, client) = (config.clone(), client.clone());
        async move { Ok(Kubelet::run(config, client, cancel).await?) }
    });
}

fn sysctl_pattern(text: &str) -> Result<String, String> {
    kubelet::sysctl::check_pattern(text).map(|()| text.to_owned())
}

impl Options {
    pub fn into_config(self) -> anyhow::Result<KubeletConfig> {
        let file = match &self.config {
            Some(path) => KubeletFile::read(path).with_context(|| format!("--config {}", path.display()))?,
            None => KubeletFile::default(),
        };
        let default = KubeletConfig::default();
        let cert_dir = match self.cert_dir.as_deref().map(std::path::absolute) {
            Some(dir) => dir.context("--cert-dir")?,
            None => default.cert_dir,
        };
        let server_tls_bootstrap = self.rotate_server_certificates.or(file.server_tls_bootstrap).unwrap_or(false);
        let serving = self.serving(&file, server_tls_bootstrap.then_some(&*cert_dir))?;
        let node_name = match self.hostname_override {
            Some(name) => name.trim().to_lowercase(),
            None => machine::node_name()?,
        };
        let taints = self.register_with_taints.into_iter().map(|flag| flag.0).collect::<Vec<Taint>>();
        let reserved = self.system_reserved.map(|list| list.0).or(file.system_reserved).unwrap_or_default();
        for pattern in &file.allowed_unsafe_sysctls {
            sysctl_pattern(pattern).map_err(anyhow::Error::msg).context("allowedUnsafeSysctls")?;
        }
        let mut config = KubeletConfig {
            node_name,
            root_dir: self.root_dir.unwrap_or(default.root_dir),
            pod_logs_dir: file.pod_logs_dir.unwrap_or(default.pod_logs_dir),
            container_runtime_endpoint: self
                .container_runtime_endpoint
                .or(file.container_runtime_endpoint)
                .unwrap_or(default.container_runtime_endpoint),
            cluster_dns: if self.cluster_dns.is_empty() { file.cluster_dns } else { self.cluster_dns },
            cluster_domain: self.cluster_domain.or(file.cluster_domain).unwrap_or_default(),
            resolv_conf: self.resolv_conf.or(file.resolv_conf).or(default.resolv_conf),
            node_ip: self.node_ip.map(|ip| ip.to_string()),
            node_labels: self.node_labels.map(|list| list.0).unwrap_or_default(),
            register_with_taints: if taints.is_empty() { file.register_with_taints } else { taints },
            register_node: self.register_node.or(file.register_node).unwrap_or(true),
            max_pods: self.max_pods.or(file.max_pods).unwrap_or(default.max_pods),
            system_reserved: quantities(reserved),
            static_pod_path: self.pod_manifest_path.or(file.static_pod_path),
            cgroups_per_qos: self.cgroups_per_qos.or(file.cgroups_per_qos).unwrap_or(true),
            cgroup_root: self.cgroup_root.or(file.cgroup_root).unwrap_or_default(),
            cpu_cfs_quota: self.cpu_cfs_quota.or(file.cpu_cfs_quota).unwrap_or(true),
            pod_pids_limit: self.pod_max_pids.or(file.pod_pids_limit).and_then(|limit| u64::try_from(limit).ok()),
            seccomp_default: self.seccomp_default.or(file.seccomp_default).unwrap_or(false),
            allowed_unsafe_sysctls: if self.allowed_unsafe_sysctls.is_empty() {
                file.allowed_unsafe_sysctls
            } else {
                self.allowed_unsafe_sysctls
            },
            cert_dir,
            rotate_certificates: self.rotate_certificates.or(file.rotate_certificates).unwrap_or(false),
            server_tls_bootstrap,
            serving,
            ..KubeletConfig::default()
        };
        self.limits.apply(&file.limits, &mut config)?;
        Ok(config)
    }

    fn serving(&self, file: &KubeletFile, requested: Option<&Path>) -> anyhow::Result<Option<Serving>> {
        let certificate = self.tls_cert_file.as_ref().or(file.tls_cert_file.as_ref());
        let key = self.tls_private_key_file.as_ref().or(file.tls_private_key_file.as_ref());
        let authority = self.client_ca_file.as_ref().or(file.authentication.x509.client_ca_file.as_ref());
        let own = requested.map(|dir| CertificateStore::new(dir, Purpose::Serving).current_path());
        let (certificate, key) = if own.is_some() { (own.as_ref(), own.as_ref()) } else { (certificate, key) };
        let (certificate, key, client_ca_file) = match (certificate, key, authority) {
            (_, _, None) if own.is_some() => {
                bail!("--rotate-server-certificates (serverTLSBootstrap) needs --client-ca-file")
            }
            (None, None, _) => return Ok(None),
            (Some(certificate), Some(key), Some(authority)) => (certificate, key, authority),
            _ => bail!("serving needs all of --tls-cert-file, --tls-private-key-file and --client-ca-file"),
        };
        Ok(Some(Serving {
            address: self.address.or(file.address).unwrap_or(IpAddr::from([0, 0, 0, 0])),
            port: self.port.or(file.port).unwrap_or(10250),
            tls_cert_file: certificate.clone(),
            tls_private_key_file: key.clone(),
            client_ca_file: client_ca_file.clone(),
        }))
    }
}

fn quantities(list: BTreeMap<String, String>) -> BTreeMap<String, Quantity> {
    list.into_iter().map(|(name, amount)| (name, Quantity(amount))).collect()
}
