//! Why a machine cannot join, and what to do about it.

use std::{io, path::PathBuf};

use client::{TransportError, kubeconfig::KubeconfigError};
use cluster::{
    files::FileError,
    joining::{cluster_info::DistrustError, masters::MastersError},
};
use jiff::Timestamp;
use kubelet::certificate::CertificateError;
use net::https::SendCause;
use rustls::CertificateError as Verification;

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(
        "no answer from {server}: {cause}. Check --server, and that the API server runs and its port can be reached from here"
    )]
    NoAnswer { server: String, cause: TransportError },
    #[error("{server} answers and is no Kubernetes API server: check the address and port of --server")]
    NotKubernetes { server: String },
    #[error(
        "the cluster does not show the ConfigMap cluster-info ({status}): run `argosy token create` on the control plane, which sets it up"
    )]
    NoClusterInfo { status: String },
    #[error(transparent)]
    Distrust(#[from] DistrustError),
    #[error(
        "{server} has no certificate of the cluster's authority ({cause}): --server leads elsewhere, or somebody answers in its place"
    )]
    Impostor { server: String, cause: TransportError },
    #[error(
        "the certificate of {server} does not name that address: join with an address that it names, or give the API server's certificate this one too"
    )]
    ServerName { server: String },
    #[error("{server} says something else over a connection that is verified: do not trust it")]
    Changed { server: String },
    #[error(
        "this machine's clock says {here}, the API server's {there}: set the clock (NTP) and join again, for certificates would not be valid"
    )]
    Clock { here: Timestamp, there: Timestamp },
    #[error(
        "the certificate of {server} is not valid at {here}, the time of this machine's clock: set the clock (NTP), or renew the certificate (`argosy certs renew`)"
    )]
    Validity { server: String, here: Timestamp },
    #[error(
        "the API server does not accept the token {id}: it is wrong, has expired or was deleted. \
         `argosy token create --print-join-command` on the control plane makes a new one"
    )]
    Token { id: String },
    #[error(
        "the token {id} is not allowed to ask for a node's certificate ({status}): run `argosy token create` on the control plane, which sets this up"
    )]
    NotAllowed { id: String, status: String },
    #[error(
        "a node {name} is there already and Ready: choose another name with --hostname-override, or remove that node first (`kubectl delete node {name}`)"
    )]
    NodeTaken { name: String },
    #[error("cannot get the node's certificate: {0}")]
    Certificate(#[from] CertificateError),
    #[error(
        "the token {id} does not invite a master, or the invitation is older than two hours: \
         `argosy token create --role master --print-join-command` makes a new one, where the cluster's authorities are"
    )]
    NotMaster { id: String },
    #[error(transparent)]
    Masters(#[from] MastersError),
    #[error("{} holds something: pass another --data-dir to join as a master, or empty it", path.display())]
    FolderTaken { path: PathBuf },
    #[error("asking {server}: {cause}")]
    Request { server: String, cause: client::Error },
    #[error(
        "this machine has no certificate of a cluster in {}: pass --server, --token and --ca-cert-hash, \
         which `argosy token create --print-join-command` on the control plane prints", path.display()
    )]
    NoCredentials { path: PathBuf },
    #[error(
        "this machine has joined another cluster, whose authority is {found}: pass a --data-dir of its own for the new one, \
         or `argosy down --purge` to leave the old one"
    )]
    OtherCluster { found: String },
    #[error("{} belongs to a cluster that `argosy up` has made: pass another --data-dir to join one", path.display())]
    OwnCluster { path: PathBuf },
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// What a failed connection to a server whose authority is known means.
pub fn unreachable(server: &str, source: TransportError, here: Timestamp) -> JoinError {
    let server = server.to_owned();
    match verification(&source) {
        None => JoinError::NoAnswer { server, cause: source },
        Some(
            Verification::NotValidYet
            | Verification::NotValidYetContext { .. }
            | Verification::Expired
            | Verification::ExpiredContext { .. },
        ) => JoinError::Validity { server, here },
        Some(Verification::NotValidForName | Verification::NotValidForNameContext { .. }) => {
            JoinError::ServerName { server }
        }
        Some(_) => JoinError::Impostor { server, cause: source },
    }
}

/// What TLS had against the server's certificate.
fn verification(error: &TransportError) -> Option<&Verification> {
    let SendCause::Connect(cause) = error.source.downcast_ref::<SendCause>()? else { return None };
    let inner: &io::Error = cause;
    match inner.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(why) => Some(why),
        _ => None,
    }
}
