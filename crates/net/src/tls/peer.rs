//! What a verified client certificate says.

use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ServerSide;
use crate::PeerCertificate;

/// In the extensions of a request beside its [`PeerCertificate`]: the places, in `ServerTls::client_cas`, of the bundles
/// that verify the certificate. What the front proxy's authority signed is no user of the client CA, and the other way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBy(pub Vec<usize>);

/// `None` for a certificate that the TLS library takes and the parser does not: such a client is anonymous.
pub(crate) fn describe(chain: &[CertificateDer<'_>], side: &ServerSide) -> Option<(PeerCertificate, VerifiedBy)> {
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
    let verified_by = match side.verifiers.len() {
        1 => vec![0],
        bundles => (0..bundles).filter(verifies).collect(),
    };
    Some((peer, VerifiedBy(verified_by)))
}
