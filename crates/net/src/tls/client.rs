//! The dialling side: servers are verified against one given bundle, never against the machine's.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Identity, Pem, TlsError, install_provider};
use crate::reload::Reloading;

/// Whom to trust, and as whom to come.
#[derive(Clone, Debug)]
pub struct ClientTls {
    pub trust: Trust,
    pub identity: Option<Identity>,
    /// The name the server's certificate must have, where it is not the host that is dialled.
    pub server_name: Option<String>,
}

#[derive(Clone, Debug)]
pub enum Trust {
    /// Servers with a certificate from these authorities.
    Bundle(Pem),
    /// Any server: only where someone asked for exactly that.
    AnyCertificate,
}

/// A client configuration that follows its files.
pub struct ReloadingClientConfig {
    pub(crate) server_name: Option<String>,
    side: Reloading<ClientSide>,
}

/// With the protocols offered: any, or only the one that can be upgraded.
pub(crate) struct ClientSide {
    pub any: Arc<ClientConfig>,
    pub http1: Arc<ClientConfig>,
    /// Unlike that of every other: connections made with another configuration are told apart by it.
    pub generation: u64,
}

pub fn client_config(tls: ClientTls) -> Result<Arc<ReloadingClientConfig>, TlsError> {
    let mut sources = Vec::new();
    if let Trust::Bundle(bundle) = &tls.trust {
        sources.push(bundle.clone());
    }
    if let Some(identity) = &tls.identity {
        sources.extend([identity.certificate.clone(), identity.key.clone()]);
    }
    let server_name = tls.server_name.clone();
    let side = Reloading::new(sources, move || build(&tls))?;
    Ok(Arc::new(ReloadingClientConfig { server_name, side }))
}

impl ReloadingClientConfig {
    pub(crate) fn current(&self) -> Arc<ClientSide> {
        self.side.current()
    }

    /// Reads changed files now, and not after ten seconds.
    pub fn reload(&self) {
        self.side.current_within(std::time::Duration::ZERO);
    }

    /// For libraries that take a rustls configuration, as it is now; without ALPN.
    pub fn rustls(&self) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.current().http1);
        config.alpn_protocols.clear();
        Arc::new(config)
    }
}

fn build(tls: &ClientTls) -> Result<ClientSide, TlsError> {
    static GENERATION: AtomicU64 = AtomicU64::new(1);
    let provider = install_provider();
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match &tls.trust {
        Trust::Bundle(bundle) => builder.with_root_certificates(bundle.roots()?),
        Trust::AnyCertificate => builder.dangerous().with_custom_certificate_verifier(Arc::new(NoVerification)),
    };
    let mut http1 = match &tls.identity {
        Some(Identity { certificate, key }) => {
            builder.with_client_auth_cert(certificate.certificates()?, key.key()?)?
        }
        None => builder.with_no_client_auth(),
    };
    http1.resumption = Resumption::disabled();
    http1.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut any = http1.clone();
    any.alpn_protocols.insert(0, b"h2".to_vec());
    let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
    Ok(ClientSide { any: Arc::new(any), http1: Arc::new(http1), generation })
}

/// A TLS connection on which HTTP/1.1 is spoken: what an upgrade is sent over. Has no time limit of its own.
pub async fn dial_tls(host: &str, port: u16, tls: &ReloadingClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let config = tls.current().http1.clone();
    handshake(host, port, tls.server_name.as_deref(), config).await
}

pub(crate) async fn handshake(
    host: &str,
    port: u16,
    server_name: Option<&str>,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let name = server_name.unwrap_or(host).to_owned();
    let name = ServerName::try_from(name.clone())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, TlsError::ServerName(name)))?;
    let tcp = TcpStream::connect((host, port)).await?;
    tcp.set_nodelay(true)?;
    TlsConnector::from(config).connect(name, tcp).await
}

/// Takes any certificate, but only from someone who has its key.
#[derive(Debug)]
struct NoVerification;

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = install_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = install_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        install_provider().signature_verification_algorithms.supported_schemes()
    }
}
