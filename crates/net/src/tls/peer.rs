//! What a verified client certificate says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ServerSide;
use crate::PeerCertificate;

/// In the extensions of a request beside its [`PeerCertificate`]: the places, in `ServerTls::client_cas`, of the bundles
/// that verify the certificate. What the front proxy's authority signed is no user of the client CA, and the other way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBy(pub Vec<usize>);

/// In the extensions of a request instead of [`PeerCertificate`]: the client showed a certificate that no bundle verifies,
/// or that has expired since the connection was made. It counts for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnverifiedCertificate;

/// What a connection's certificate is worth.
pub(crate) struct Certificate {
    peer: PeerCertificate,
    /// Empty: no bundle verifies it.
    verified_by: VerifiedBy,
    not_after: SystemTime,
}

impl Certificate {
    /// Puts into a request's extensions what its handler may know. A connection can outlive its certificate.
    pub fn show(&self, extensions: &mut http::Extensions, now: SystemTime) {
        if self.verified_by.0.is_empty() || self.not_after < now {
            extensions.insert(UnverifiedCertificate);
        } else {
            extensions.insert(self.peer.clone());
            extensions.insert(self.verified_by.clone());
        }
    }
}

/// `None` for a certificate that the TLS library takes and the parser does not: such a client is anonymous.
pub(crate) fn describe(chain: &[CertificateDer<'_>], side: &ServerSide) -> Option<Certificate> {
    let (leaf, intermediates) = chain.split_first()?;
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let subject = certificate.subject();
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
    let peer = PeerCertificate {
        common_name: subject.iter_common_name().last().and_then(text).unwrap_or_default(),
        organizations: subject.iter_organization().filter_map(text).collect(),
        fingerprint: Sha256::digest(leaf).iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let now = UnixTime::now();
    let verifies = |place: &usize| side.verifiers[*place].verify_client_cert(leaf, intermediates, now).is_ok();
    let verified_by = VerifiedBy((0..side.verifiers.len()).filter(verifies).collect());
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
    Some(Certificate { peer, verified_by, not_after: UNIX_EPOCH + Duration::from_secs(seconds) })
}
