//! What ends a benchmark before it has measured.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{server}: {source}")]
    Client { server: String, source: client::Error },
    #[error("{server}: cannot connect: {source}")]
    Connect { server: String, source: io::Error },
    #[error(transparent)]
    Kubeconfig(#[from] client::kubeconfig::KubeconfigError),
    #[error(transparent)]
    Tls(#[from] net::tls::TlsError),
    /// Preparing or cleaning up, where every request has to succeed.
    #[error("{server}: {what}: {failures}")]
    Prepare { server: String, what: String, failures: String },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("the bare TLS server: {0}")]
    Bare(String),
    #[error("requests did not end within {0:?}")]
    Stuck(std::time::Duration),
    #[error("interrupted; what was made for the measurement is removed")]
    Interrupted,
    #[error("nothing to measure: {0}")]
    Nothing(String),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { what: what.into(), source }
    }
}
