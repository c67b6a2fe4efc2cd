//! `argosy agent`: this machine as a node of a cluster whose API server runs elsewhere.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use ::kubelet::KubeletConfig;
use clap::Args;
use client::{Client, kinds::core::v1::Node};
use cluster::{
    containerd::{self, network},
    images::{ImageStore, PAUSE_IMAGE},
    layout::{Cidr, Layout, Settings},
    machine,
    supervise::Lock,
};
use tokio_util::sync::CancellationToken;

use super::DataFlags;
use crate::{
    cli::TOOLS,
    clients,
    components::{
        kubelet::{self, Options},
        proxy,
    },
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
    /// Where the API server is, and who this node is
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
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
    let _lock = Lock::take(&layout.lock_file())?;
    let client = clients::remote(&flags.kubeconfig, "argosy")?;
    let settings = settings(&flags)?;
    let kubelet = kubelet_config(&flags, &layout, &settings)?;
    let supervisor = Supervisor::new(cancel.child_token());
    if settings.runtime_endpoint.is_none() {
        let started = containerd::start(&layout, PAUSE_IMAGE).await?;
        let store = ImageStore { cri: &started.cri, socket: layout.containerd_socket() };
        store.ensure_built_in(&layout, &TOOLS).await?;
        node::keep_containerd(&supervisor, &layout, started);
        keep_network(&supervisor, &layout, settings.clone(), client.clone());
    }
    kubelet::keep(&supervisor, kubelet, client.clone());
    proxy::keep(&supervisor, proxy::config(&settings)?, client);
    cancel.cancelled().await;
    supervisor.stop(STOP_LIMIT).await;
    Ok(())
}

fn settings(flags: &Flags) -> anyhow::Result<Settings> {
    let name = match &flags.kubelet.hostname_override {
        Some(name) => name.clone(),
        None => machine::node_name()?,
    };
    let address: IpAddr = match flags.kubelet.node_ip {
        Some(address) => address,
        None => machine::node_ip()?,
    };
    let mut settings = Settings::new(name, address);
    settings.cluster_cidr = flags.cluster_cidr;
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
    Ok(KubeletConfig { pod_logs_dir: layout.log_dir().join("pods"), ..options.into_config()? })
}

/// Sets the pod network up once the controllers have given this node its part of the addresses.
fn keep_network(supervisor: &Supervisor, layout: &Layout, settings: Settings, client: Client) {
    let layout = layout.clone();
    supervisor.run("pod network", move |cancel: CancellationToken| {
        let (layout, settings, client) = (layout.clone(), settings.clone(), client.clone());
        async move {
            let Some(range) = cancel.run_until_cancelled(pod_cidr(&client, &settings.node_name)).await else {
                return Ok(());
            };
            let range = range?;
            let settings = Settings { pod_cidr: range, ..settings };
            network::write_conflist(&layout, &settings, range)?;
            network::set_up(&settings, range).await?;
            tracing::info!(%range, "pod network is up");
            cancel.cancelled().await;
            Ok(())
        }
    });
}

async fn pod_cidr(client: &Client, name: &str) -> anyhow::Result<Cidr> {
    const PAUSE: Duration = Duration::from_millis(500);
    loop {
        let found = client.all::<Node>().find(name).await?;
        if let Some(range) = found.and_then(|node| node.spec).and_then(|spec| spec.pod_cidr) {
            return Ok(range.parse()?);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
