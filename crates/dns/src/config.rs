//! What a DNS server is told.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// Where to answer, UDP and TCP each.
    pub listen: Vec<SocketAddr>,
    /// Without a dot at its end: `cluster.local`.
    pub cluster_domain: String,
    /// Who resolves what is not of the cluster, tried in this order; see [`resolvers`].
    pub upstreams: Vec<SocketAddr>,
    /// Of records and of their absence (kubeadm's: 30 s). Also the longest that an upstream's answer is kept.
    pub ttl: Duration,
    /// How long one upstream may take.
    pub upstream_timeout: Duration,
    /// Plain HTTP: `/health`, `/ready` and `/metrics`; `None`: nowhere.
    pub health: Option<SocketAddr>,
    pub ready: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
}

impl Default for DnsConfig {
    fn default() -> Self {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        DnsConfig {
            listen: vec![any(53)],
            cluster_domain: "cluster.local".to_owned(),
            upstreams: Vec::new(),
            ttl: Duration::from_secs(30),
            upstream_timeout: Duration::from_secs(2),
            health: Some(any(8080)),
            ready: Some(any(8181)),
            metrics: Some(any(9153)),
        }
    }
}

/// The name servers that a resolv.conf names. Lines that say something else are passed over.
pub fn resolvers(resolv_conf: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let address: IpAddr = words.next().filter(|word| *word == "nameserver").and(words.next())?.parse().ok()?;
        Some(SocketAddr::new(address, 53))
    };
    resolv_conf.lines().filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read() {
        let text =
            "# nameserver 9.9.9.9\nsearch a b\nnameserver 10.0.0.2\nnameserver\t::1 # local\nnameserver x\nnameserver";
        assert_eq!(resolvers(text), ["10.0.0.2:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    }
}
