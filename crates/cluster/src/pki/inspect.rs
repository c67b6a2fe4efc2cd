//! Reads a certificate that is there and judges whether it still serves.

use std::time::{Duration, SystemTime};

use rcgen::{KeyPair, PublicKeyData};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::X509Certificate;

use super::{CertSpec, Pki, PkiError, RENEW_BEFORE_DAYS, Reason, San, Usage};
use crate::files;

/// What is worth knowing about a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub sans: Vec<San>,
    pub client: bool,
    pub serving: bool,
    /// Seconds since 1970.
    pub not_after: i64,
    pub public_key: Vec<u8>,
    pub subject_key_id: Vec<u8>,
    pub authority_key_id: Vec<u8>,
}

/// `None` where the text holds no certificate.
pub(super) fn facts(pem: &[u8]) -> Option<Facts> {
    let (_, pem) = parse_x509_pem(pem).ok()?;
    let cert = pem.parse_x509().ok()?;
    let subject = cert.subject();
    let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().ok().map(str::to_owned);
    let mut facts = Facts {
        common_name: subject.iter_common_name().next().and_then(text).unwrap_or_default(),
        organizations: subject.iter_organization().filter_map(text).collect(),
        not_after: cert.validity().not_after.timestamp(),
        public_key: cert.public_key().subject_public_key.data.to_vec(),
        ..Facts::default()
    };
    read_extensions(&cert, &mut facts);
    facts.sans.sort();
    Some(facts)
}

fn read_extensions(cert: &X509Certificate<'_>, facts: &mut Facts) {
    for extension in cert.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => {
                facts.sans.extend(names.general_names.iter().filter_map(san));
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                (facts.client, facts.serving) = (usage.client_auth, usage.server_auth);
            }
            ParsedExtension::SubjectKeyIdentifier(id) => facts.subject_key_id = id.0.to_vec(),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                facts.authority_key_id = id.key_identifier.as_ref().map(|i| i.0.to_vec()).unwrap_or_default();
            }
            _ => {}
        }
    }
}

fn san(name: &GeneralName<'_>) -> Option<San> {
    match name {
        GeneralName::DNSName(name) => Some(San::Dns((*name).to_owned())),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| San::Ip(b.into())),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| San::Ip(b.into())),
        },
        _ => None,
    }
}

/// Whether a certificate's end is within the time of renewal.
pub(super) fn expires_soon(facts: &Facts, now: SystemTime) -> bool {
    let horizon = now + Duration::from_secs(RENEW_BEFORE_DAYS * 24 * 3600);
    let horizon = horizon.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    // A negative end lies before 1970.
    u64::try_from(facts.not_after).unwrap_or(0) <= horizon
}

/// Why the certificate of `spec` must be issued; `None` when the one that is there serves.
pub(super) fn reason_to_issue(
    pki: &Pki,
    spec: &CertSpec,
    issuer: &Facts,
    now: SystemTime,
) -> Result<Option<Reason>, PkiError> {
    let (cert, key) = (files::read_optional(&pki.cert(spec.name))?, files::read_optional(&pki.key(spec.name))?);
    let (Some(cert), Some(key)) = (cert, key) else {
        return Ok(Some(Reason::Missing));
    };
    let public = public_key(&key);
    Ok(match facts(&cert) {
        Some(facts) if Some(&facts.public_key) == public.as_ref() => judge(&facts, spec, issuer, now),
        _ => Some(Reason::Unusable),
    })
}

/// The raw public key of a PEM key; `None` where the text holds no key that can be used.
pub(super) fn public_key(key_pem: &[u8]) -> Option<Vec<u8>> {
    let key = KeyPair::from_pem(std::str::from_utf8(key_pem).ok()?).ok()?;
    Some(key.der_bytes().to_vec())
}

fn judge(facts: &Facts, spec: &CertSpec, issuer: &Facts, now: SystemTime) -> Option<Reason> {
    let has = |usage| spec.usages.contains(&usage);
    if facts.authority_key_id != issuer.subject_key_id {
        Some(Reason::Issuer)
    } else if facts.common_name != spec.common_name
        || facts.organizations.iter().map(String::as_str).ne(spec.organization)
    {
        Some(Reason::Subject)
    } else if facts.sans != spec.sans {
        Some(Reason::Names)
    } else if facts.client != has(Usage::Client) || facts.serving != has(Usage::Serving) {
        Some(Reason::Usages)
    } else {
        expires_soon(facts, now).then_some(Reason::Expiring)
    }
}
