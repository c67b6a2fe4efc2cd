//! The kubelet's own certificates: asked of the cluster with a bootstrap credential, and replaced before they end
//! (upstream `pkg/kubelet/certificate`, client-go `util/certificate`).
//!
//! [`deadline`] decides when, [`request`] asks and waits, [`store`] keeps key and certificate in one file behind a link,
//! [`manager`] goes round these for as long as the kubelet runs. Whoever uses the files sees the new ones by itself.

pub mod bootstrap;
pub mod deadline;
mod facts;
pub mod manager;
pub mod request;
pub mod store;

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use client::kinds::core::v1::NodeAddress;
use jiff::Timestamp;

pub use facts::Facts;

/// The group of all kubelets.
pub const NODES_GROUP: &str = "system:nodes";

/// The user that the kubelet of a node is.
pub fn user_name(node_name: &str) -> String {
    format!("system:node:{node_name}")
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("cannot {action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is no symbolic link; move it away: it is in the place of the link to the current certificate", path.display())]
    NoLink { path: PathBuf },
    #[error("cannot make a key or a certificate request: {0}")]
    Key(#[from] rcgen::Error),
    #[error("cannot ask for a certificate: {0}")]
    Request(#[source] client::Error),
    #[error("a certificate request {name} is already there with another key; delete it (`kubectl delete csr {name}`)")]
    Incompatible { name: String },
    #[error("the certificate request {name} was denied ({reason}): {message}")]
    Denied { name: String, reason: String, message: String },
    #[error("the certificate request {name} was approved and could not be signed ({reason}): {message}")]
    Failed { name: String, reason: String, message: String },
    #[error("the certificate request {name} was deleted before it was answered")]
    Gone { name: String },
    #[error("the certificate request {name} was not approved within {limit:?}; see `kubectl certificate approve`")]
    NotApproved { name: String, limit: Duration },
    #[error("what the cluster has issued is no certificate for the key that it was asked for with")]
    Unusable,
    #[error(
        "the new certificate is valid from {not_before} on and this machine's clock says {now}: set the clock (NTP), and try again"
    )]
    NotYetValid { not_before: Timestamp, now: Timestamp },
    #[error(transparent)]
    Kubeconfig(#[from] client::KubeconfigError),
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CertificateError {
    let path = path.to_owned();
    move |source| CertificateError::File { action, path, source }
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The kubelet as a client of the API server.
    Client,
    /// The kubelet's HTTPS API.
    Serving,
}

impl Purpose {
    pub fn signer_name(self) -> &'static str {
        match self {
            Purpose::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Purpose::Serving => "kubernetes.io/kubelet-serving",
        }
    }

    /// Those of a key that cannot encipher, as ECDSA's (`DefaultKubeletClientGetUsages`).
    pub fn usages(self) -> [&'static str; 2] {
        match self {
            Purpose::Client => ["digital signature", "client auth"],
            Purpose::Serving => ["digital signature", "server auth"],
        }
    }

    /// What the names of its files begin with.
    pub fn file_prefix(self) -> &'static str {
        match self {
            Purpose::Client => "kubelet-client",
            Purpose::Serving => "kubelet-server",
        }
    }
}

/// The certificate that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub purpose: Purpose,
    pub node_name: String,
    pub dns_names: BTreeSet<String>,
    pub ip_addresses: BTreeSet<IpAddr>,
}

impl Template {
    pub fn client(node_name: &str) -> Template {
        Template {
            purpose: Purpose::Client,
            node_name: node_name.to_owned(),
            dns_names: BTreeSet::new(),
            ip_addresses: BTreeSet::new(),
        }
    }

    /// For what the node object says the node is reached by (`addressesToHostnamesAndIPs`); `None` while it says nothing:
    /// nobody would approve a request without names.
    pub fn serving(node_name: &str, addresses: &[NodeAddress]) -> Option<Template> {
        let mut template = Template { purpose: Purpose::Serving, ..Template::client(node_name) };
        for NodeAddress { type_, address } in addresses.iter().filter(|entry| !entry.address.is_empty()) {
            match (type_.as_str(), address.parse::<IpAddr>()) {
                ("Hostname" | "InternalIP" | "ExternalIP", Ok(ip)) => drop(template.ip_addresses.insert(ip)),
                ("Hostname" | "InternalDNS" | "ExternalDNS", _) => drop(template.dns_names.insert(address.clone())),
                _ => {}
            }
        }
        let names = template.dns_names.len() + template.ip_addresses.len();
        (names > 0).then_some(template)
    }

    pub fn common_name(&self) -> String {
        user_name(&self.node_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serving_certificate_names_what_the_node_is_reached_by() {
        let addresses = [
            ("InternalIP", "192.0.2.7"),
            ("ExternalIP", "2001:db8::7"),
            ("Hostname", "n1"),
            ("InternalDNS", "n1.example"),
            ("InternalIP", "no address"),
            ("ExternalDNS", ""),
        ];
        let addresses = addresses.map(|(kind, address)| NodeAddress { type_: kind.into(), address: address.into() });
        let template = Template::serving("n1", &addresses).expect("names");
        assert_eq!(template.dns_names, ["n1", "n1.example"].map(str::to_owned).into());
        assert_eq!(template.ip_addresses, ["192.0.2.7", "2001:db8::7"].map(|ip| ip.parse().expect("an ip")).into());
        assert_eq!(Template::serving("n1", &addresses[4..]), None, "no names, no request");
    }
}
