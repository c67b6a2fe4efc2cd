//! `argosy agent`: this machine as a node of a cluster whose API server runs elsewhere.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ::kubelet::KubeletConfig;
use anyhow::{Context, bail};
use clap::Args;
use client::SystemClock;
use cluster::{
    containerd, files,
    images::{ImageStore, PAUSE_IMAGE},
    joining::{pin::CaPin, token::BootstrapToken},
    layout::{Cidr, Layout, Settings},
    machine,
    pki::Pki,
    supervise::{self, Lock, Process, SUPERVISOR},
};
use tokio_util::sync::CancellationToken;

use super::{DataFlags, network};
use crate::{
    cli::TOOLS,
    clients,
    components::{
        kubelet::{self, Options},
        proxy,
    },
    joining::{Invitation, credentials},
    logging::LogFlags,
    node,
    supervisor::Supervisor,
};

/// How long kubelet and kube-proxy may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(5);

#[derive(Args, Clone, Debug)]
pub struct Flags {
    #[command(flatten)]
    data: DataFlags,
    /// The API server of the cluster to join, as `argosy token create --print-join-command` prints it
    #[arg(long, value_name = "URL", requires = "token", help_heading = "Joining")]
    server: Option<String>,
    /// The bootstrap token to join with; later starts do without
    #[arg(long, requires = "server", help_heading = "Joining")]
    token: Option<BootstrapToken>,
    /// Hash of the cluster's authority: sha256:HEX
    #[arg(long, value_name = "HASH", value_delimiter = ',', requires = "token", help_heading = "Joining")]
    ca_cert_hash: Vec<CaPin>,
    /// Trust whoever knows the token, without --ca-cert-hash
    #[arg(long, requires = "token", conflicts_with = "ca_cert_hash", help_heading = "Joining")]
    unsafe_skip_ca_verification: bool,
    /// Where the API server is and who this node is, instead of joining
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "token"])]
    kubeconfig: Option<PathBuf>,
    /// Range of all pods' addresses
    #[arg(long, value_name = "CIDR", default_value = "10.244.0.0/16")]
    cluster_cidr: Cidr,
    #[command(flatten)]
    kubelet: Options,
    #[command(flatten)]
    pub log: LogFlags,
}

pub async fn run(flags: Flags, cancel: CancellationToken) -> anyhow::Result<()> {
    let layout = flags.data.layout()?;
    let settings = settings(&flags)?;
    let Some(joined) = cancel.run_until_cancelled(join(&flags, &layout, &settings)).await else { return Ok(()) };
    let (kubeconfig, _lock) = joined?;
    // What `argosy down` goes by, when the node is to be taken off the machine.
    settings.save(&layout)?;
    let pid_file = layout.pid_file(SUPERVISOR);
    supervise::write_pid_file(&pid_file, &Process::current().context("this process is not in /proc")?)?;
    let outcome = run_node(&flags, &layout, &settings, &kubeconfig, cancel).await;
    files::remove(&pid_file)?;
    outcome
}

async fn run_node(
    flags: &Flags,
    layout: &Layout,
    settings: &Settings,
    kubeconfig: &Path,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let client = clients::remote(kubeconfig, "argosy")?;
    let kubelet = kubelet_config(flags, layout, settings)?;
    let supervisor = Supervisor::new(cancel.child_token());
    if settings.runtime_endpoint.is_none() {
        let started = containerd::start(layout, PAUSE_IMAGE).await?;
        let store = ImageStore { cri: &started.cri, socket: layout.containerd_socket() };
        store.ensure_built_in(layout, &TOOLS).await?;
        node::keep_containerd(&supervisor, layout, started);
        // Once the controllers have given this node its part of the addresses.
        network::keep_running(&supervisor, Some(layout), settings, client.clone());
    }
    kubelet::keep(&supervisor, kubelet, client.clone());
    proxy::keep(&supervisor, proxy::config(settings)?, client);
    cancel.cancelled().await;
    supervisor.stop(STOP_LIMIT).await;
    Ok(())
}

/// The node's kubeconfig, got from the cluster where there is none yet. What can be found out without writing anything is
/// found out before the data folder is made.
async fn join(flags: &Flags, layout: &Layout, settings: &Settings) -> anyhow::Result<(PathBuf, Lock)> {
    if let Some(kubeconfig) = &flags.kubeconfig {
        return Ok((kubeconfig.clone(), Lock::take(&layout.lock_file())?));
    }
    let (name, invitation) = (&settings.node_name, invitation(flags)?);
    credentials::check_folder(layout)?;
    let bootstrap = credentials::prepare(layout, invitation.as_ref(), name, &SystemClock).await?;
    let lock = Lock::take(&layout.lock_file())?;
    credentials::keep(layout, bootstrap.as_ref(), invitation.as_ref(), name, &SystemClock).await?;
    Ok((layout.kubeconfig("kubelet"), lock))
}

fn invitation(flags: &Flags) -> anyhow::Result<Option<Invitation>> {
    let (Some(server), Some(token)) = (&flags.server, &flags.token) else { return Ok(None) };
    if flags.ca_cert_hash.is_empty() && !flags.unsafe_skip_ca_verification {
        bail!(
            "--ca-cert-hash is needed: it says which cluster this is, and `argosy token create --print-join-command` prints it \
             (--unsafe-skip-ca-verification does without, and trusts whoever knows the token)"
        );
    }
    Ok(Some(Invitation::new(server, token, &flags.ca_cert_hash)))
}

fn settings(flags: &Flags) -> anyhow::Result<Settings> {
    let (name, address) = machine::name_and_address(flags.kubelet.hostname_override.clone(), flags.kubelet.node_ip)?;
    let mut settings = Settings::new(name, address);
    settings.cluster_cidr = flags.cluster_cidr;
    // Its own part is what the controllers give it.
    settings.pod_cidr = flags.cluster_cidr;
    settings.runtime_endpoint = flags.kubelet.container_runtime_endpoint.clone();
    Ok(settings)
}

/// What the flags say, and for the rest the folders and the runtime of the data folder.
fn kubelet_config(flags: &Flags, layout: &Layout, settings: &Settings) -> anyhow::Result<KubeletConfig> {
    let mut options = flags.kubelet.clone();
    options.root_dir.get_or_insert_with(|| layout.kubelet_dir());
    options.container_runtime_endpoint.get_or_insert_with(|| layout.containerd_endpoint());
    options.node_ip.get_or_insert(settings.node_ip);
    options.resolv_conf = options.resolv_conf.or_else(node::resolv_conf);
    if options.cluster_dns.is_empty() {
        options.cluster_dns.push(settings.dns_ip.to_string());
    }
    if flags.kubeconfig.is_none() {
        options.cert_dir.get_or_insert_with(|| credentials::cert_dir(layout));
        options.rotate_certificates.get_or_insert(true);
        options.rotate_server_certificates.get_or_insert(options.tls_cert_file.is_none());
        options.client_ca_file.get_or_insert_with(|| Pki::new(layout.pki_dir()).cert("ca"));
    }
    Ok(KubeletConfig { pod_logs_dir: layout.log_dir().join("pods"), ..options.into_config()? })
}
