//! TLS from PEM files that may change: server and client configurations, and the certificates peers present.

mod client;
mod peer;
mod server;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustls::{RootCertStore, crypto::CryptoProvider};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

pub use client::{ClientTls, ReloadingClientConfig, Trust, client_config, dial_tls};
pub(crate) use peer::{Certificate, describe};
pub use peer::{UnverifiedCertificate, VerifiedBy};
pub use server::{ReloadingServerConfig, ServerTls, server_config};

pub(crate) use client::handshake;
pub(crate) use server::ServerSide;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{origin} is not PEM: {source}")]
    Pem { origin: String, source: rustls_pki_types::pem::Error },
    #[error("{origin} has no certificate")]
    NoCertificate { origin: String },
    #[error("{origin} has a certificate that cannot be trusted: {source}")]
    Root { origin: String, source: rustls::Error },
    #[error("cannot verify certificates with {origin}: {source}")]
    Verifier { origin: String, source: rustls::server::VerifierBuilderError },
    #[error("TLS configuration: {0}")]
    Config(#[from] rustls::Error),
    #[error("{origin} holds no usable bearer token")]
    Token { origin: String },
    #[error("{0:?} is not a server name")]
    ServerName(String),
}

/// PEM text in a file that is read again when it changes, or in memory.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    File(PathBuf),
    Inline(Arc<[u8]>),
}

/// Keys never reach a log.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

impl From<&Path> for Pem {
    fn from(path: &Path) -> Pem {
        Pem::File(path.to_owned())
    }
}

impl From<PathBuf> for Pem {
    fn from(path: PathBuf) -> Pem {
        Pem::File(path)
    }
}

impl Pem {
    pub fn inline(text: impl AsRef<[u8]>) -> Pem {
        Pem::Inline(text.as_ref().into())
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Pem::File(path) => Some(path),
            Pem::Inline(_) => None,
        }
    }

    fn origin(&self) -> String {
        match self {
            Pem::File(path) => path.display().to_string(),
            Pem::Inline(_) => "inline PEM".to_owned(),
        }
    }

    pub(crate) fn read(&self) -> Result<Vec<u8>, TlsError> {
        match self {
            Pem::File(path) => std::fs::read(path).map_err(|source| TlsError::Read { path: path.clone(), source }),
            Pem::Inline(text) => Ok(text.to_vec()),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let text = self.read()?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let certificates = certificates.map_err(|source| TlsError::Pem { origin: self.origin(), source })?;
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate { origin: self.origin() });
        }
        Ok(certificates)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let text = self.read()?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|source| TlsError::Pem { origin: self.origin(), source })
    }

    /// The certificates as trust anchors.
    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|source| TlsError::Root { origin: self.origin(), source })?;
        }
        Ok(roots)
    }
}

/// A certificate (chain) with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub certificate: Pem,
    pub key: Pem,
}

impl Identity {
    pub fn files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Identity {
        Identity { certificate: Pem::File(certificate.into()), key: Pem::File(key.into()) }
    }
}

/// The one cryptography of the process (aws-lc), also installed as the default for libraries that ask for that.
pub fn install_provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| {
        // Fails where a test's library was first; that is the same provider.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Arc::new(rustls::crypto::aws_lc_rs::default_provider())
    });
    provider.clone()
}
