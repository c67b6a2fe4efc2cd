//! kube-proxy.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use anyhow::bail;
use apiserver::Server;
use clap::Args;
use client::Client;
use cluster::{layout::Settings, machine};
use proxy::{Cidr, Family, NftCli, Proxy, ProxyConfig, RulesConfig, Table, cleanup};
use tokio_util::sync::CancellationToken;

use super::remote_client;
use crate::{clients, logging::LogFlags, supervisor::Supervisor};

const NAME: &str = "kube-proxy";

#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// Where the API server is, and who this is
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The node's name, where it is not the host's
    #[arg(long)]
    hostname_override: Option<String>,
    /// How Services are made; nftables alone
    #[arg(long, default_value = "nftables")]
    proxy_mode: String,
    /// Range of the pods' addresses: what comes to a ClusterIP from elsewhere is masqueraded
    #[arg(long, value_delimiter = ',')]
    cluster_cidr: Vec<Cidr>,
    /// Masquerade whatever goes to a ClusterIP
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    masquerade_all: bool,
    /// The bit of the packet mark that says "masquerade"
    #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u8).range(0..32))]
    iptables_masquerade_bit: u8,
    /// Ranges of local addresses that node ports answer on; all but loopback where nothing is said
    #[arg(long, value_delimiter = ',')]
    nodeport_addresses: Vec<Cidr>,
    /// Where health checks are answered; empty: nowhere
    #[arg(long, default_value = "0.0.0.0:10256")]
    healthz_bind_address: String,
    /// Take all rules away and exit
    #[arg(long)]
    cleanup: bool,
    #[command(flatten)]
    pub log: LogFlags,
}

/// kube-proxy as a process of its own, until `cancel`.
pub async fn run(flags: Flags, cancel: CancellationToken) -> anyhow::Result<()> {
    if flags.proxy_mode != "nftables" {
        bail!("--proxy-mode {}: Argosy's kube-proxy has nftables alone", flags.proxy_mode);
    }
    if flags.cleanup {
        return Ok(cleanup(&Table::default(), &NftCli::new("nft")).await?);
    }
    let client = remote_client(NAME, &flags.kubeconfig)?;
    Ok(Proxy::run(flags.into_config()?, client, cancel).await?)
}

impl Flags {
    fn into_config(self) -> anyhow::Result<ProxyConfig> {
        let node_name = match self.hostname_override {
            Some(name) => name,
            None => machine::node_name()?,
        };
        let healthz: Option<SocketAddr> = match self.healthz_bind_address.as_str() {
            "" => None,
            text => Some(text.parse::<SocketAddr>().or_else(|_| text.parse::<IpAddr>().map(|ip| (ip, 10256).into()))?),
        };
        let rules = RulesConfig {
            cluster_cidrs: self.cluster_cidr,
            node_port_addresses: self.nodeport_addresses,
            masquerade_all: self.masquerade_all,
            masquerade_bit: self.iptables_masquerade_bit,
            node_ip: machine::node_ip().ok(),
            ..RulesConfig::default()
        };
        Ok(ProxyConfig { node_name, rules, healthz_bind_address: healthz, ..ProxyConfig::default() })
    }
}

/// The table of a cluster's rules; a second cluster on the machine has one of its own.
fn table(settings: &Settings) -> Table {
    let family = if settings.service_cidr.address().is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
    Table { family, name: settings.instance_name(&Table::default().name) }
}

/// What kube-proxy is told by the cluster's settings.
pub fn config(settings: &Settings) -> anyhow::Result<ProxyConfig> {
    let Table { family, name } = table(settings);
    let rules = RulesConfig {
        family,
        cluster_cidrs: vec![settings.cluster_cidr.to_string().parse()?],
        service_cidrs: vec![settings.service_cidr.to_string().parse()?],
        node_ip: Some(settings.node_ip),
        ..RulesConfig::default()
    };
    let health = SocketAddr::from(([0, 0, 0, 0], settings.ports.proxy_health));
    Ok(ProxyConfig {
        node_name: settings.node_name.clone(),
        table: name,
        rules,
        healthz_bind_address: Some(health),
        ..ProxyConfig::default()
    })
}

/// kube-proxy of the one process.
pub fn all_in_one(supervisor: &Supervisor, settings: &Settings, server: &Arc<Server>) -> anyhow::Result<()> {
    let client = clients::local(server, NAME, clients::user("system:kube-proxy"));
    keep(supervisor, config(settings)?, client);
    Ok(())
}

/// Runs kube-proxy as a part of this process.
pub fn keep(supervisor: &Supervisor, config: ProxyConfig, client: Client) {
    supervisor.run(NAME, move |cancel| {
        let (config, client) = (config.clone(), client.clone());
        async move { Ok(Proxy::run(config, client, cancel).await?) }
    });
}

/// Takes the rules of Services off this machine.
pub async fn clean_up(settings: &Settings) -> anyhow::Result<()> {
    Ok(cleanup(&table(settings), &NftCli::new("nft")).await?)
}
