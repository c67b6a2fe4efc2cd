//! The table of certificates: who they name, who signs them and what they are good for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use rcgen::ExtendedKeyUsagePurpose;

/// The authorities of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    Cluster,
    /// Signs etcd's members and whoever may ask them: the API servers.
    Etcd,
    /// Signs the certificate with which the API server vouches for users towards extension API servers.
    FrontProxy,
}

impl Authority {
    pub const ALL: [Authority; 3] = [Authority::Cluster, Authority::FrontProxy, Authority::Etcd];

    /// The name of its files.
    pub fn name(self) -> &'static str {
        match self {
            Authority::Cluster => "ca",
            Authority::Etcd => "etcd/ca",
            Authority::FrontProxy => "front-proxy-ca",
        }
    }

    pub(super) fn common_name(self) -> &'static str {
        match self {
            Authority::Cluster => "kubernetes",
            Authority::Etcd => "etcd-ca",
            Authority::FrontProxy => "front-proxy-ca",
        }
    }
}

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Client,
    Serving,
}

impl Usage {
    pub(super) fn purpose(self) -> ExtendedKeyUsagePurpose {
        match self {
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Usage::Serving => ExtendedKeyUsagePurpose::ServerAuth,
        }
    }
}

/// A name a server answers under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum San {
    Dns(String),
    Ip(IpAddr),
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            San::Dns(name) => write!(f, "DNS:{name}"),
            San::Ip(ip) => write!(f, "IP:{ip}"),
        }
    }
}

/// What runs on a machine, which decides the certificates that it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    pub control_plane: bool,
    /// The control plane's data is in etcd: the API server shows it a certificate.
    pub asks_etcd: bool,
    /// A member of etcd.
    pub etcd: bool,
    pub node: bool,
}

impl Roles {
    /// One machine that is everything, on the embedded store.
    pub const ALL_IN_ONE: Roles = Roles { control_plane: true, asks_etcd: false, etcd: false, node: true };

    /// Whether certificates of this authority are held or checked.
    pub fn know(self, authority: Authority) -> bool {
        match authority {
            Authority::Cluster => self.control_plane || self.node,
            Authority::FrontProxy => self.control_plane,
            Authority::Etcd => self.etcd || self.asks_etcd,
        }
    }
}

/// Who the machine and the cluster are, as far as certificates say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub roles: Roles,
    pub node_name: String,
    /// The node's addresses, the one that others reach it by first.
    pub node_ips: Vec<IpAddr>,
    /// The address of the Service `kubernetes`.
    pub kubernetes_service_ip: IpAddr,
    pub cluster_domain: String,
    /// Further names and addresses of the API server, such as a load balancer's.
    pub apiserver_sans: Vec<San>,
}

/// One certificate of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertSpec {
    /// The name of its files.
    pub name: &'static str,
    pub issuer: Authority,
    pub common_name: String,
    pub organization: Option<&'static str>,
    pub usages: &'static [Usage],
    /// Sorted, each once.
    pub sans: Vec<San>,
}

const CLIENT: &[Usage] = &[Usage::Client];
const SERVING: &[Usage] = &[Usage::Serving];
const BOTH: &[Usage] = &[Usage::Serving, Usage::Client];

/// Every certificate that the machine holds.
pub fn certificates(identity: &Identity) -> Vec<CertSpec> {
    let Roles { control_plane, asks_etcd, etcd, node } = identity.roles;
    let of = |wanted: bool, list: fn(&Identity) -> Vec<CertSpec>| if wanted { list(identity) } else { Vec::new() };
    [of(control_plane, of_control_plane), of(node, of_node), of(etcd, of_etcd), of(asks_etcd, of_etcd_client)].concat()
}

fn client(name: &'static str, common_name: &str, organization: Option<&'static str>) -> CertSpec {
    CertSpec {
        name,
        issuer: Authority::Cluster,
        common_name: common_name.to_owned(),
        organization,
        usages: CLIENT,
        sans: Vec::new(),
    }
}

fn serving(name: &'static str, common_name: &str, organization: Option<&'static str>, sans: Vec<San>) -> CertSpec {
    CertSpec { usages: SERVING, sans, ..client(name, common_name, organization) }
}

fn of_control_plane(identity: &Identity) -> Vec<CertSpec> {
    vec![
        serving("apiserver", "kube-apiserver", None, apiserver_sans(identity)),
        client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", Some("system:masters")),
        client("admin", "kubernetes-admin", Some("system:masters")),
        client("controller-manager", "system:kube-controller-manager", None),
        client("scheduler", "system:kube-scheduler", None),
        // The secure ports of controller manager and scheduler, which upstream signs by itself.
        serving("components", "kubernetes-components", None, node_sans(identity, true)),
        CertSpec { issuer: Authority::FrontProxy, ..client("front-proxy-client", "front-proxy-client", None) },
    ]
}

fn of_node(identity: &Identity) -> Vec<CertSpec> {
    let node = format!("system:node:{}", identity.node_name);
    vec![
        client("kube-proxy", "system:kube-proxy", None),
        client("kubelet-client", &node, Some("system:nodes")),
        serving("kubelet", &node, Some("system:nodes"), node_sans(identity, false)),
    ]
}

/// As kubeadm's (`cmd/kubeadm/app/phases/certs/certlist.go`): members are clients of one another too.
fn of_etcd(identity: &Identity) -> Vec<CertSpec> {
    let member = |name| CertSpec {
        issuer: Authority::Etcd,
        usages: BOTH,
        ..serving(name, &identity.node_name, None, node_sans(identity, true))
    };
    vec![member("etcd/server"), member("etcd/peer")]
}

fn of_etcd_client(_: &Identity) -> Vec<CertSpec> {
    vec![CertSpec { issuer: Authority::Etcd, ..client("apiserver-etcd-client", "kube-apiserver-etcd-client", None) }]
}

/// As kubeadm's `GetAPIServerAltNames` (`cmd/kubeadm/app/util/pkiutil/pki_helpers.go`), with loopback.
fn apiserver_sans(identity: &Identity) -> Vec<San> {
    let service = format!("kubernetes.default.svc.{}", identity.cluster_domain);
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", &service];
    let mut sans = node_sans(identity, true);
    sans.extend(names.map(|n| San::Dns(n.to_owned())));
    sans.push(San::Ip(identity.kubernetes_service_ip));
    sans.extend(identity.apiserver_sans.iter().cloned());
    sorted(sans)
}

fn node_sans(identity: &Identity, loopback: bool) -> Vec<San> {
    let mut sans = vec![San::Dns(identity.node_name.clone())];
    sans.extend(identity.node_ips.iter().copied().map(San::Ip));
    if loopback {
        sans.extend([San::Dns("localhost".into()), San::Ip(Ipv4Addr::LOCALHOST.into())]);
    }
    sorted(sans)
}

fn sorted(mut sans: Vec<San>) -> Vec<San> {
    sans.sort();
    sans.dedup();
    sans
}
