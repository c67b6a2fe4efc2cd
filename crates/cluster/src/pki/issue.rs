//! Makes keys and signs certificates with the cluster's authorities.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use super::inspect::{self, Facts};
use super::{Authority, CertSpec, Pki, PkiError, Reason, San, Usage};
use crate::files;

const DAY_S: u64 = 24 * 3600;
const AUTHORITY_DAYS: u64 = 3650;
const CERTIFICATE_DAYS: u64 = 365;

/// Certificates are valid a little before their making, for machines whose clocks are behind
/// (`pkg/controller/certificates/authority`, `Backdate`).
pub(super) const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// An authority, ready to sign.
pub(super) struct LoadedAuthority {
    pub facts: Facts,
    issuer: Issuer<'static, KeyPair>,
}

/// Loads the authority, makes it where it is missing, renews its certificate with the same key before it ends.
pub(super) fn ensure_authority(
    pki: &Pki,
    authority: Authority,
    now: SystemTime,
) -> Result<(LoadedAuthority, Option<Reason>), PkiError> {
    let (cert_path, key_path) = (pki.cert(authority.name()), pki.key(authority.name()));
    let cert = files::read_optional(&cert_path)?;
    let key = match files::read_optional(&key_path)? {
        Some(pem) => parse_key(&pem).map_err(|source| PkiError::Key { path: key_path, source })?,
        // What an authority of somebody else's signed would lose its trust if a new one took its place.
        None if cert.is_some() => return Err(PkiError::MissingAuthorityKey { path: key_path }),
        None => new_key(pki, authority.name())?,
    };
    let issue_error = |source| PkiError::Issue { name: authority.name().to_owned(), source };
    let reason = match &cert {
        None => Some(Reason::Missing),
        Some(pem) => {
            let facts = inspect::facts(pem).ok_or(PkiError::Certificate { path: cert_path.clone() })?;
            if inspect::public_key(key.serialize_pem().as_bytes()).as_ref() != Some(&facts.public_key) {
                return Err(PkiError::AuthorityMismatch { path: cert_path });
            }
            inspect::expires_soon(&facts, now).then_some(Reason::Expiring)
        }
    };
    let pem = match (cert, reason) {
        (Some(pem), None) => pem,
        _ => {
            let cert = authority_params(authority, now).self_signed(&key).map_err(issue_error)?;
            files::write_atomic(&cert_path, cert.pem().as_bytes(), 0o644)?;
            cert.pem().into_bytes()
        }
    };
    let text = String::from_utf8_lossy(&pem);
    let facts = inspect::facts(&pem).ok_or(PkiError::Certificate { path: cert_path })?;
    let issuer = Issuer::from_ca_cert_pem(&text, key).map_err(issue_error)?;
    Ok((LoadedAuthority { facts, issuer }, reason))
}

/// An authority that is there with its key; `None` where one of the two is not.
pub(super) fn load_authority(pki: &Pki, authority: Authority) -> Result<Option<LoadedAuthority>, PkiError> {
    let (cert, key) = (pki.cert(authority.name()), pki.key(authority.name()));
    let (Some(pem), Some(key_pem)) = (files::read_optional(&cert)?, files::read_optional(&key)?) else {
        return Ok(None);
    };
    let key = parse_key(&key_pem).map_err(|source| PkiError::Key { path: key, source })?;
    let facts = inspect::facts(&pem).ok_or(PkiError::Certificate { path: cert })?;
    let issue_error = |source| PkiError::Issue { name: authority.name().to_owned(), source };
    let issuer = Issuer::from_ca_cert_pem(&String::from_utf8_lossy(&pem), key).map_err(issue_error)?;
    Ok(Some(LoadedAuthority { facts, issuer }))
}

fn authority_params(authority: Authority, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(authority.common_name(), None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + Duration::from_secs(AUTHORITY_DAYS * DAY_S)).into();
    params
}

/// Makes a new key and a certificate for it. The key is written first: a crash in between leaves a pair that does not
/// fit, which the next start replaces.
pub(super) fn issue(pki: &Pki, spec: &CertSpec, authority: &LoadedAuthority, now: SystemTime) -> Result<(), PkiError> {
    let subject = subject(&spec.common_name, spec.organization);
    sign_new(pki, spec.name, subject, &spec.sans, spec.usages, authority, now)
}

/// The same for what a certificate that is there says.
pub(super) fn reissue(
    pki: &Pki,
    name: &str,
    old: &Facts,
    authority: &LoadedAuthority,
    now: SystemTime,
) -> Result<(), PkiError> {
    let usages = [(old.client, Usage::Client), (old.serving, Usage::Serving)];
    let usages: Vec<Usage> = usages.into_iter().filter(|(has, _)| *has).map(|(_, usage)| usage).collect();
    let subject = subject(&old.common_name, old.organizations.first().map(String::as_str));
    sign_new(pki, name, subject, &old.sans, &usages, authority, now)
}

fn sign_new(
    pki: &Pki,
    name: &str,
    subject: DistinguishedName,
    sans: &[San],
    usages: &[Usage],
    authority: &LoadedAuthority,
    now: SystemTime,
) -> Result<(), PkiError> {
    let issue_error = |source| PkiError::Issue { name: name.to_owned(), source };
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.subject_alt_names = sans.iter().map(san_type).collect::<Result<_, _>>().map_err(issue_error)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages.iter().map(|u| u.purpose()).collect();
    params.use_authority_key_identifier_extension = true;
    let end = (now + Duration::from_secs(CERTIFICATE_DAYS * DAY_S))
        .min(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(authority.facts.not_after).unwrap_or(0)));
    params.not_before = (now - BACKDATE).into();
    params.not_after = end.into();
    let key = new_key(pki, name)?;
    let cert = params.signed_by(&key, &authority.issuer).map_err(issue_error)?;
    files::write_atomic(&pki.cert(name), cert.pem().as_bytes(), 0o644)?;
    Ok(())
}

/// The key pair of service account tokens. Its public half is written anew from the key whenever they differ.
pub(super) fn ensure_service_account_key(pki: &Pki) -> Result<Option<Reason>, PkiError> {
    let path = pki.service_account_key();
    let (key, reason) = match files::read_optional(&path)? {
        Some(pem) => (parse_key(&pem).map_err(|source| PkiError::Key { path, source })?, None),
        None => (new_key(pki, "sa")?, Some(Reason::Missing)),
    };
    let rewritten = files::write_if_changed(&pki.service_account_public(), key.public_key_pem().as_bytes(), 0o644)?;
    Ok(reason.or(rewritten.then_some(Reason::Unusable)))
}

fn new_key(pki: &Pki, name: &str) -> Result<KeyPair, PkiError> {
    let key = KeyPair::generate().map_err(|source| PkiError::Issue { name: name.to_owned(), source })?;
    files::write_atomic(&pki.key(name), key.serialize_pem().as_bytes(), 0o600)?;
    Ok(key)
}

fn parse_key(pem: &[u8]) -> Result<KeyPair, rcgen::Error> {
    let text = std::str::from_utf8(pem).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    KeyPair::from_pem(text)
}

fn subject(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn san_type(san: &San) -> Result<SanType, rcgen::Error> {
    Ok(match san {
        San::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
        San::Ip(ip) => SanType::IpAddress(*ip),
    })
}
