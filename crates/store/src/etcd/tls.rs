//! TLS towards etcd: files to a configuration, read anew for each connection, so that certificates can be replaced.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{Error, Result};

/// What TLS needs, as PEM files.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Whom we trust to sign servers (`--etcd-cafile`).
    pub ca: PathBuf,
    /// What we show ourselves (`--etcd-certfile`, `--etcd-keyfile`).
    pub identity: Option<Identity>,
}

#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl TlsFiles {
    pub(super) async fn load(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca).await? {
            roots.add(certificate).map_err(|error| unusable(&self.ca, &error))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&self.ca, &error))?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let chain = certificates(certificate).await?;
                let key_der =
                    PrivateKeyDer::from_pem_slice(&read(key).await?).map_err(|error| unusable(key, &error))?;
                builder.with_client_auth_cert(chain, key_der).map_err(|error| unusable(certificate, &error))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

async fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = read(path).await?;
    let parsed: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match parsed {
        Ok(chain) if chain.is_empty() => Err(unusable(path, &"there is no certificate in it")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(unusable(path, &error)),
    }
}

async fn read(path: &Path) -> Result<Vec<u8>> {
    tokio::fs::read(path).await.map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::Misconfigured { message: format!("cannot use {}: {why}", path.display()) }
}
