//! The table of certificates: who they name, who signs them and what they are good for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use rcgen::ExtendedKeyUsagePurpose;

/// The two authorities of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    Cluster,
    /// Signs the certificate with which the API server vouches for users towards extension API servers.
    FrontProxy,
}

impl Authority {
    pub const ALL: [Authority; 2] = [Authority::Cluster, Authority::FrontProxy];

    /// The name of its files.
    pub fn name(self) -> &'static str {
        match self {
            Authority::Cluster => "ca",
            Authority::FrontProxy => "front-proxy-ca",
        }
    }

    pub(super) fn common_name(self) -> &'static str {
        match self {
            Authority::Cluster => "kubernetes",
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

/// Who the machine and the cluster are, as far as certificates say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
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

/// Every certificate that one machine with control plane and node holds.
pub fn certificates(identity: &Identity) -> Vec<CertSpec> {
    let node = format!("system:node:{}", identity.node_name);
    let client = |name, common_name: &str, organization| CertSpec {
        name,
        issuer: Authority::Cluster,
        common_name: common_name.to_owned(),
        organization,
        usages: CLIENT,
        sans: Vec::new(),
    };
    let serving = |name, common_name: &str, organization, sans| CertSpec {
        name,
        issuer: Authority::Cluster,
        common_name: common_name.to_owned(),
        organization,
        usages: SERVING,
        sans,
    };
    vec![
        serving("apiserver", "kube-apiserver", None, apiserver_sans(identity)),
        client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", Some("system:masters")),
        client("admin", "kubernetes-admin", Some("system:masters")),
        client("controller-manager", "system:kube-controller-manager", None),
        client("scheduler", "system:kube-scheduler", None),
        client("kube-proxy", "system:kube-proxy", None),
        client("kubelet-client", &node, Some("system:nodes")),
        serving("kubelet", &node, Some("system:nodes"), node_sans(identity, false)),
        // The secure ports of controller manager and scheduler, which upstream signs by itself.
        serving("components", "kubernetes-components", None, node_sans(identity, true)),
        CertSpec { issuer: Authority::FrontProxy, ..client("front-proxy-client", "front-proxy-client", None) },
    ]
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
