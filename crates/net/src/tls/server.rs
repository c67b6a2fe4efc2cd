//! The serving side: one certificate, and bundles of authorities that client certificates may come from.

use std::{sync::Arc, time::Duration};

use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{Identity, Pem, TlsError, install_provider};
use crate::reload::Reloading;

/// What a listener serves with.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub identity: Identity,
    /// Bundles of authorities whose client certificates count: the client CA, the front proxy's. A client may come
    /// without certificate, or with one that no bundle verifies: it then is nobody, and is told so in HTTP's terms by
    /// whoever answers, as upstream does (`tls.RequestClientCert`). Empty: none is asked for.
    pub client_cas: Vec<Pem>,
}

/// A server configuration that follows its files.
pub struct ReloadingServerConfig {
    side: Reloading<ServerSide>,
}

/// The configuration with what tells afterwards which bundle verified a client.
pub(crate) struct ServerSide {
    pub config: Arc<ServerConfig>,
    pub verifiers: Vec<Arc<dyn ClientCertVerifier>>,
}

/// ALPN h2 and http/1.1. Sessions are not resumed: every connection shows its certificate and is verified.
pub fn server_config(tls: ServerTls) -> Result<Arc<ReloadingServerConfig>, TlsError> {
    let mut sources = vec![tls.identity.certificate.clone(), tls.identity.key.clone()];
    sources.extend(tls.client_cas.iter().cloned());
    let side = Reloading::new(sources, move || build(&tls))?;
    Ok(Arc::new(ReloadingServerConfig { side }))
}

impl ReloadingServerConfig {
    pub(crate) fn current(&self) -> Arc<ServerSide> {
        self.side.current()
    }

    /// Reads changed files now, and not after ten seconds.
    pub fn reload(&self) {
        self.side.current_within(Duration::ZERO);
    }
}

fn build(tls: &ServerTls) -> Result<ServerSide, TlsError> {
    let provider = install_provider();
    let mut verifiers: Vec<Arc<dyn ClientCertVerifier>> = Vec::new();
    for bundle in &tls.client_cas {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(bundle.roots()?), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|source| TlsError::Verifier { origin: bundle.origin(), source })?;
        verifiers.push(verifier);
    }
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let hints = verifiers.iter().flat_map(|verifier| verifier.root_hint_subjects().to_vec()).collect();
    let builder = match verifiers.first() {
        None => builder.with_no_client_auth(),
        Some(_) => builder.with_client_cert_verifier(Arc::new(AnyCertificate { hints })),
    };
    let mut config = builder.with_single_cert(tls.identity.certificate.certificates()?, tls.identity.key.key()?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(ServerSide { config: Arc::new(config), verifiers })
}

/// Asks for a certificate of any of the bundles and checks that the client holds its key. Whether a bundle verifies it is
/// seen afterwards (`describe`), so that a stranger gets an answer and not a broken connection.
#[derive(Debug)]
struct AnyCertificate {
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
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
