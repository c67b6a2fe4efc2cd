//! Signs certificate requests with an authority, as upstream's signing controller does
//! (`pkg/controller/certificates/signer`): the subject and names are the request's, the usages and times the signer's.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateSigningRequestParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use super::inspect;
use super::issue::BACKDATE;
use super::{PkiError, Usage};
use crate::files::fail;

/// What a request must look like, by the signer's name (`pkg/apis/certificates/helpers.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CsrPolicy {
    /// `kubernetes.io/kube-apiserver-client`: any subject, no names of a server.
    Client,
    /// `kubernetes.io/kube-apiserver-client-kubelet`: a node's user, no names of a server.
    KubeletClient,
    /// `kubernetes.io/kubelet-serving`: a node's user, at least one DNS name or address.
    KubeletServing,
    /// `kubernetes.io/legacy-unknown`: any subject and names.
    Any,
}

/// Why a request is not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("the request is not a PEM block CERTIFICATE REQUEST that can be read, or is not signed by its key")]
    Malformed,
    #[error("the organization must be system:nodes alone")]
    Organization,
    #[error("the common name must be system:node: and the node's name")]
    CommonName,
    #[error("this signer takes no DNS names, addresses, e-mail addresses or URIs")]
    UnwantedNames,
    #[error("at least one DNS name or address is needed, and no e-mail address or URI")]
    WantedNames,
    #[error("a subject attribute occurs more than once, which this signer cannot keep")]
    RepeatedAttribute,
    #[error("the request asks for an extension, key or name that this signer does not support")]
    Unsupported(#[source] rcgen::Error),
    #[error("the signer's own certificate ends before the requested certificate would begin")]
    AuthorityExpired,
    #[error("cannot sign")]
    Sign(#[source] rcgen::Error),
}

/// An authority that signs requests.
pub struct Signer {
    issuer: Issuer<'static, KeyPair>,
    not_after: SystemTime,
    pem: String,
}

/// Signs one request with the authority in `cert` and `key`; see [`Signer::sign`].
pub fn sign_csr(
    signer: &Signer,
    csr_pem: &str,
    usage: Usage,
    ttl: Duration,
    now: SystemTime,
) -> Result<String, SignError> {
    signer.sign(csr_pem, CsrPolicy::Any, &[usage], ttl, now)
}

impl Signer {
    /// From the PEM files of an authority, `--cluster-signing-cert-file` and `--cluster-signing-key-file`.
    pub fn load(cert: &Path, key: &Path) -> Result<Signer, PkiError> {
        let cert_pem = std::fs::read(cert).map_err(fail("read", cert))?;
        let key_pem = std::fs::read_to_string(key).map_err(fail("read", key))?;
        let facts = inspect::facts(&cert_pem).ok_or(PkiError::Certificate { path: cert.to_owned() })?;
        if inspect::public_key(key_pem.as_bytes()) != Some(facts.public_key) {
            return Err(PkiError::AuthorityMismatch { path: cert.to_owned() });
        }
        let key = KeyPair::from_pem(&key_pem).map_err(|source| PkiError::Key { path: key.to_owned(), source })?;
        let pem = String::from_utf8_lossy(&cert_pem).into_owned();
        let issuer = Issuer::from_ca_cert_pem(&pem, key)
            .map_err(|source| PkiError::Issue { name: cert.display().to_string(), source })?;
        let end = u64::try_from(facts.not_after).unwrap_or(0);
        Ok(Signer { issuer, not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(end), pem })
    }

    /// The authority's certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// A certificate (PEM) for the request's key, subject and names, good for `usages`, from five minutes before `now` for
    /// `ttl`, at most until the authority's own end.
    pub fn sign(
        &self,
        csr_pem: &str,
        policy: CsrPolicy,
        usages: &[Usage],
        ttl: Duration,
        now: SystemTime,
    ) -> Result<String, SignError> {
        check_subject(csr_pem)?;
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(|e| match e {
            rcgen::Error::CouldNotParseCertificationRequest | rcgen::Error::InvalidCertificationRequestSignature => {
                SignError::Malformed
            }
            other => SignError::Unsupported(other),
        })?;
        check_policy(&request, policy)?;
        let end = (now + ttl).min(self.not_after);
        if end <= now {
            return Err(SignError::AuthorityExpired);
        }
        let params = &mut request.params;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = usages.iter().map(|u| u.purpose()).collect();
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - BACKDATE).into();
        params.not_after = end.into();
        Ok(request.signed_by(&self.issuer).map_err(SignError::Sign)?.pem())
    }
}

/// Refuses what the library would drop in silence: it keeps one value per attribute, and a second organization is a group.
fn check_subject(csr_pem: &str) -> Result<(), SignError> {
    let (_, pem) = parse_x509_pem(csr_pem.as_bytes()).map_err(|_| SignError::Malformed)?;
    if !matches!(pem.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
        return Err(SignError::Malformed);
    }
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).map_err(|_| SignError::Malformed)?;
    let mut seen = Vec::new();
    for attribute in request.certification_request_info.subject.iter_attributes() {
        if seen.contains(attribute.attr_type()) {
            return Err(SignError::RepeatedAttribute);
        }
        seen.push(attribute.attr_type().clone());
    }
    Ok(())
}

fn check_policy(request: &CertificateSigningRequestParams, policy: CsrPolicy) -> Result<(), SignError> {
    let sans = &request.params.subject_alt_names;
    let subject = |kind| match request.params.distinguished_name.get(&kind) {
        Some(rcgen::DnValue::Utf8String(text)) => text.clone(),
        Some(rcgen::DnValue::PrintableString(text)) => text.as_str().to_owned(),
        Some(rcgen::DnValue::Ia5String(text)) => text.as_str().to_owned(),
        _ => String::new(),
    };
    if matches!(policy, CsrPolicy::KubeletClient | CsrPolicy::KubeletServing) {
        if subject(DnType::OrganizationName) != "system:nodes" {
            return Err(SignError::Organization);
        }
        if subject(DnType::CommonName).strip_prefix("system:node:").is_none_or(str::is_empty) {
            return Err(SignError::CommonName);
        }
    }
    let of_server = |san: &SanType| matches!(san, SanType::DnsName(_) | SanType::IpAddress(_));
    match policy {
        CsrPolicy::KubeletClient | CsrPolicy::Client if !sans.is_empty() => Err(SignError::UnwantedNames),
        CsrPolicy::KubeletServing if sans.is_empty() || !sans.iter().all(of_server) => Err(SignError::WantedNames),
        _ => Ok(()),
    }
}
