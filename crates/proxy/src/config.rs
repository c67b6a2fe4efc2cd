//! What a kube-proxy is told.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{Cidr, Family};

/// An nftables table, displayed as nft names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub family: Family,
    /// Whoever runs a second proxy on one kernel gives it another name.
    pub name: String,
}

impl Default for Table {
    fn default() -> Self {
        Table { family: Family::Ipv4, name: "kube-proxy".to_owned() }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// What the rules depend on besides Services, EndpointSlices and the Node.
#[derive(Clone, Debug)]
pub struct RulesConfig {
    pub family: Family,
    /// Pods' addresses (`--cluster-cidr`): traffic to a ClusterIP from elsewhere is masqueraded. Empty: unknown, none is.
    pub cluster_cidrs: Vec<Cidr>,
    /// Where set, traffic to addresses in these ranges that no Service has is dropped.
    pub service_cidrs: Vec<Cidr>,
    /// Local addresses on which NodePorts answer (`--nodeport-addresses`). Empty: all but loopback.
    pub node_port_addresses: Vec<Cidr>,
    pub masquerade_all: bool,
    /// `--iptables-masquerade-bit`: which bit of the packet mark says "masquerade".
    pub masquerade_bit: u8,
    /// The node's primary address, which loadBalancerSourceRanges may admit.
    pub node_ip: Option<IpAddr>,
}

impl Default for RulesConfig {
    fn default() -> Self {
        RulesConfig {
            family: Family::Ipv4,
            cluster_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            node_port_addresses: Vec::new(),
            masquerade_all: false,
            masquerade_bit: 14,
            node_ip: None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct ProxyConfig {
    pub node_name: String,
    /// Name of the table; its family is that of `rules`.
    pub table: String,
    pub rules: RulesConfig,
    /// Least time between two writes under churn (`--nftables-min-sync-period`). The first change is written at once.
    pub min_sync_period: Duration,
    /// Where `/healthz` and `/livez` answer, without authentication as upstream's do; `None`: nowhere.
    pub healthz_bind_address: Option<SocketAddr>,
    /// Programs, found in `PATH` unless they are paths.
    pub nft: String,
    pub conntrack: String,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        ProxyConfig {
            node_name: String::new(),
            table: Table::default().name,
            rules: RulesConfig::default(),
            min_sync_period: Duration::from_millis(50),
            healthz_bind_address: Some(SocketAddr::from(([0, 0, 0, 0], 10256))),
            nft: "nft".to_owned(),
            conntrack: "conntrack".to_owned(),
        }
    }
}

impl ProxyConfig {
    pub fn table(&self) -> Table {
        Table { family: self.rules.family, name: self.table.clone() }
    }
}
