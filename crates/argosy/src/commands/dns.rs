//! `argosy dns`: cluster DNS, as it runs in its pods.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use clap::Args;
use client::Client;
use dns::{Dns, DnsConfig, resolvers};
use tokio_util::sync::CancellationToken;

use crate::{clients, logging::LogFlags};

#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// Where to answer, UDP and TCP
    #[arg(long, value_delimiter = ',', default_value = "0.0.0.0:53")]
    listen: Vec<SocketAddr>,
    /// Domain of the Services' names
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// Names the servers that resolve everything else
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    resolv_conf: PathBuf,
    /// Where the API server is, and who this is [default: the pod's service account]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub log: LogFlags,
}

pub async fn run(flags: Flags, cancel: CancellationToken) -> anyhow::Result<()> {
    const NAME: &str = "argosy-dns";
    let client = match &flags.kubeconfig {
        Some(file) => clients::remote(file, NAME)?,
        None => Client::in_cluster(&clients::user_agent(NAME))?,
    };
    let text = std::fs::read_to_string(&flags.resolv_conf);
    let upstreams = resolvers(&text.with_context(|| format!("--resolv-conf {}", flags.resolv_conf.display()))?);
    let config =
        DnsConfig { listen: flags.listen, cluster_domain: flags.cluster_domain, upstreams, ..DnsConfig::default() };
    Ok(Dns::run(config, client, cancel).await?)
}
