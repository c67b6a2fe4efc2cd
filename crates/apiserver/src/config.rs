//! What an API server is started with. Flags and files are read by the binary; here are their contents.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use api::enablement::RuntimeConfig;

/// How long a client may take to send a request's body.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Config {
    /// Where other components reach this server: the address in the `kubernetes` Service's endpoints.
    pub advertise_address: IpAddr,
    pub secure_port: u16,
    /// IPv4 range of ClusterIPs; its first address is the `kubernetes` Service's.
    pub service_cluster_ip_range: ServiceRange,
    pub service_node_port_range: std::ops::RangeInclusive<u16>,
    pub service_account: ServiceAccountKeys,
    /// How this server reaches kubelets; `None`: logs, exec and the like are answered with an error.
    pub kubelet: Option<KubeletAccess>,
    pub event_ttl: Duration,
    /// Which of the built-in APIs are served.
    pub runtime_config: RuntimeConfig,
    pub max_requests_inflight: usize,
    pub max_mutating_requests_inflight: usize,
    /// The authorities whose client certificates are users, as PEM: told to extension API servers through the ConfigMap
    /// `extension-apiserver-authentication`.
    pub client_ca: Option<String>,
    /// Who keeps the endpoints of the Service `kubernetes`.
    pub endpoint_reconciler: EndpointReconciler,
    /// Name of this host, under which the server keeps its identity lease; without, it keeps none.
    pub host_name: Option<String>,
    /// Whether tokens out of Secrets of type `bootstrap.kubernetes.io/token` are taken.
    pub bootstrap_token_auth: bool,
    /// `v1.36.0`-like version that /version shows.
    pub git_version: String,
}

impl Config {
    /// With the defaults of the flags.
    pub fn new(advertise_address: IpAddr, secure_port: u16, service_account: ServiceAccountKeys) -> Config {
        Config {
            advertise_address,
            secure_port,
            service_cluster_ip_range: ServiceRange { address: Ipv4Addr::new(10, 96, 0, 0), prefix: 16 },
            service_node_port_range: 30000..=32767,
            service_account,
            kubelet: None,
            event_ttl: Duration::from_secs(3600),
            runtime_config: RuntimeConfig::default(),
            max_requests_inflight: 400,
            max_mutating_requests_inflight: 200,
            client_ca: None,
            endpoint_reconciler: EndpointReconciler::default(),
            host_name: None,
            bootstrap_token_auth: false,
            git_version: "v1.36.0".into(),
        }
    }
}

/// `--endpoint-reconciler-type`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointReconciler {
    /// The servers themselves, each by a lease in the store.
    #[default]
    Lease,
    /// Somebody else.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceRange {
    pub address: Ipv4Addr,
    pub prefix: u8,
}

#[derive(Clone)]
pub struct ServiceAccountKeys {
    pub issuer: String,
    pub api_audiences: Vec<String>,
    /// PEM of the private key that signs tokens.
    pub signing_key: Arc<[u8]>,
    /// PEMs of the public keys that tokens are checked with.
    pub verification_keys: Vec<Arc<[u8]>>,
}

#[derive(Clone)]
pub struct KubeletAccess {
    /// TLS with the client certificate that kubelets trust.
    pub tls: Arc<net::tls::ReloadingClientConfig>,
}

impl ServiceRange {
    /// The `index`-th address of the range.
    pub fn address_at(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network()).wrapping_add(index))
    }

    pub fn network(&self) -> Ipv4Addr {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        Ipv4Addr::from(u32::from(self.address) & mask)
    }

    pub fn size(&self) -> u64 {
        1 << (32 - u32::from(self.prefix))
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (u64::from(u32::from(address)).wrapping_sub(u64::from(u32::from(self.network())))) < self.size()
    }

    /// An IPv4 range of any size; [`FromStr`](std::str::FromStr) takes those that a cluster can live on.
    pub fn of_any_size(text: &str) -> Option<ServiceRange> {
        let (address, prefix) = text.split_once('/')?;
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
        Some(ServiceRange { address: address.parse().ok()?, prefix })
    }
}

impl std::fmt::Display for ServiceRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix)
    }
}

impl std::str::FromStr for ServiceRange {
    type Err = String;

    fn from_str(text: &str) -> Result<ServiceRange, String> {
        let bad = || format!("{text:?} is not an IPv4 range such as 10.96.0.0/16");
        ServiceRange::of_any_size(text).filter(|range| (8..=30).contains(&range.prefix)).ok_or_else(bad)
    }
}
