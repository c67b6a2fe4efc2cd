//! Asks the cluster for a certificate and waits for the answer (client-go `util/certificate/csr`).

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use client::{
    Client, ListParams, WatchEvent,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    k8s_openapi::ByteString,
    kinds::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
};
use futures_util::StreamExt;
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData, SanType};
use sha2::{Digest, Sha512_256};
use tokio::time::Instant;
use x509_parser::{certification_request::X509CertificationRequest, pem::parse_x509_pem, prelude::FromDer};

use super::{CertificateError, NODES_GROUP, Template};

/// One watch at most; then the request is read anew.
const WATCH_SECONDS: u32 = 60;
/// After a failure on the way to the API server.
const RETRY: Duration = Duration::from_secs(1);
/// Waited in silence; then the log says what is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What has become of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Pending,
    /// The certificate as PEM.
    Issued(String),
    Denied {
        reason: String,
        message: String,
    },
    Failed {
        reason: String,
        message: String,
    },
}

pub fn outcome(request: &CertificateSigningRequest) -> Outcome {
    let status = request.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let find = |name: &str| conditions.iter().find(|condition| condition.type_ == name);
    let words = |text: &Option<String>| text.clone().unwrap_or_default();
    if let Some(denied) = find("Denied") {
        return Outcome::Denied { reason: words(&denied.reason), message: words(&denied.message) };
    }
    if let Some(failed) = find("Failed") {
        return Outcome::Failed { reason: words(&failed.reason), message: words(&failed.message) };
    }
    let certificate = status.and_then(|status| status.certificate.as_ref()).filter(|bytes| !bytes.0.is_empty());
    match (find("Approved"), certificate) {
        (Some(_), Some(certificate)) => Outcome::Issued(String::from_utf8_lossy(&certificate.0).into_owned()),
        _ => Outcome::Pending,
    }
}

/// The PKCS #10 request as PEM.
pub fn signing_request(template: &Template, key: &KeyPair) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, NODES_GROUP);
    params.distinguished_name.push(DnType::CommonName, template.common_name());
    for name in &template.dns_names {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    params.subject_alt_names.extend(template.ip_addresses.iter().copied().map(SanType::IpAddress));
    params.serialize_request(key)?.pem()
}

/// The name of a node's first request: the same for the same key, so that it is asked for once (`digestedName`).
pub fn digested_name(template: &Template, key: &KeyPair) -> String {
    let mut hash = Sha512_256::new();
    let mut add = |part: &[u8]| {
        hash.update(BASE64_URL_SAFE_NO_PAD.encode(part));
        hash.update(b"|");
    };
    add(&key.subject_public_key_info());
    add(template.common_name().as_bytes());
    add(NODES_GROUP.as_bytes());
    template.purpose.usages().iter().for_each(|usage| add(usage.as_bytes()));
    format!("node-csr-{}", BASE64_URL_SAFE_NO_PAD.encode(hash.finalize()))
}

/// A request that the API server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    pub name: String,
    pub uid: String,
}

/// Creates the request; with a name, one of an earlier run that waits for the same key is taken up.
pub async fn submit(
    client: &Client,
    template: &Template,
    key: &KeyPair,
    name: Option<String>,
) -> Result<Submitted, CertificateError> {
    let text = signing_request(template, key)?;
    let generate_name = name.is_none().then(|| "csr-".to_owned());
    let request = CertificateSigningRequest {
        metadata: ObjectMeta { name: name.clone(), generate_name, ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(text.into_bytes()),
            signer_name: template.purpose.signer_name().to_owned(),
            usages: Some(template.purpose.usages().map(str::to_owned).into()),
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    };
    let requests = client.all::<CertificateSigningRequest>();
    let found = match (requests.create(&request).await, name) {
        (Ok(created), _) => created,
        (Err(error), Some(name)) if error.is_already_exists() => {
            let found = requests.get(&name).await.map_err(CertificateError::Request)?;
            if requested_key(&found) != Some(key.der_bytes().to_vec())
                || found.spec.signer_name != request.spec.signer_name
            {
                return Err(CertificateError::Incompatible { name });
            }
            found
        }
        (Err(error), _) => return Err(CertificateError::Request(error)),
    };
    let metadata = found.metadata;
    Ok(Submitted { name: metadata.name.unwrap_or_default(), uid: metadata.uid.unwrap_or_default() })
}

fn requested_key(request: &CertificateSigningRequest) -> Option<Vec<u8>> {
    let (_, pem) = parse_x509_pem(&request.spec.request.0).ok()?;
    let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    Some(parsed.certification_request_info.subject_pki.subject_public_key.data.to_vec())
}

/// Waits until the request is answered, at most `limit`, through failures of the API server.
pub async fn wait(client: &Client, submitted: &Submitted, limit: Duration) -> Result<String, CertificateError> {
    let name = &submitted.name;
    let begin = Instant::now();
    let answered = async {
        let mut said = false;
        loop {
            match read_or_watch(client, submitted).await {
                Ok(Some(certificate)) => return Ok(certificate),
                Ok(None) => {}
                Err(CertificateError::Request(error)) => {
                    tracing::warn!(name, %error, "cannot see what has become of the certificate request");
                    tokio::time::sleep(RETRY).await;
                }
                Err(other) => return Err(other),
            }
            if !said && begin.elapsed() >= PATIENCE {
                tracing::warn!(
                    name,
                    "waiting for the certificate request to be approved: kubectl certificate approve {name}"
                );
                said = true;
            }
        }
    };
    let in_time = tokio::time::timeout(limit, answered).await;
    in_time.unwrap_or_else(|_| Err(CertificateError::NotApproved { name: name.clone(), limit }))
}

/// Reads the request and follows it for a while; the certificate once it is there.
async fn read_or_watch(client: &Client, submitted: &Submitted) -> Result<Option<String>, CertificateError> {
    let requests = client.all::<CertificateSigningRequest>();
    let found = requests.find(&submitted.name).await.map_err(CertificateError::Request)?;
    let found = found.ok_or_else(|| CertificateError::Gone { name: submitted.name.clone() })?;
    if let Some(certificate) = judge(&found, submitted)? {
        return Ok(Some(certificate));
    }
    let version = found.metadata.resource_version.unwrap_or_default();
    let this = ListParams::fields(format!("metadata.name={}", submitted.name));
    let seconds = WATCH_SECONDS.min(u32::try_from(PATIENCE.as_secs()).unwrap_or(WATCH_SECONDS));
    let mut events = requests.watch(&this, &version, seconds).await.map_err(CertificateError::Request)?;
    while let Some(event) = events.next().await {
        let found = match event.map_err(CertificateError::Request)? {
            WatchEvent::Added(found) | WatchEvent::Modified(found) => found,
            WatchEvent::Deleted(_) => return Err(CertificateError::Gone { name: submitted.name.clone() }),
            WatchEvent::Bookmark { .. } => continue,
        };
        if let Some(certificate) = judge(&found, submitted)? {
            return Ok(Some(certificate));
        }
    }
    Ok(None)
}

fn judge(request: &CertificateSigningRequest, submitted: &Submitted) -> Result<Option<String>, CertificateError> {
    let name = submitted.name.clone();
    if request.metadata.uid.as_deref() != Some(&submitted.uid) {
        return Err(CertificateError::Gone { name });
    }
    match outcome(request) {
        Outcome::Pending => Ok(None),
        Outcome::Issued(certificate) => Ok(Some(certificate)),
        Outcome::Denied { reason, message } => Err(CertificateError::Denied { name, reason, message }),
        Outcome::Failed { reason, message } => Err(CertificateError::Failed { name, reason, message }),
    }
}

#[cfg(test)]
mod tests {
    use client::kinds::certificates::v1::{CertificateSigningRequestCondition, CertificateSigningRequestStatus};

    use super::*;

    fn request(conditions: &[&str], certificate: &str) -> CertificateSigningRequest {
        let condition = |name: &&str| CertificateSigningRequestCondition {
            type_: (*name).to_owned(),
            status: "True".into(),
            reason: Some("Because".into()),
            message: Some("so it is".into()),
            ..CertificateSigningRequestCondition::default()
        };
        let status = CertificateSigningRequestStatus {
            conditions: Some(conditions.iter().map(condition).collect()),
            certificate: Some(ByteString(certificate.into())),
        };
        CertificateSigningRequest { status: Some(status), ..CertificateSigningRequest::default() }
    }

    #[test]
    fn only_an_approved_request_with_a_certificate_is_answered() {
        let (reason, message) = ("Because".to_owned(), "so it is".to_owned());
        let denied = Outcome::Denied { reason: reason.clone(), message: message.clone() };
        let failed = Outcome::Failed { reason, message };
        let cases: [(&[&str], &str, Outcome); 6] = [
            (&[], "", Outcome::Pending),
            (&["Approved"], "", Outcome::Pending),
            (&[], "pem", Outcome::Pending),
            (&["Approved"], "pem", Outcome::Issued("pem".into())),
            (&["Approved", "Denied"], "pem", denied),
            (&["Approved", "Failed"], "", failed),
        ];
        for (conditions, certificate, expected) in cases {
            assert_eq!(outcome(&request(conditions, certificate)), expected, "{conditions:?} {certificate}");
        }
        assert_eq!(outcome(&CertificateSigningRequest::default()), Outcome::Pending);
    }

    #[test]
    fn the_name_of_a_request_is_that_of_its_key_and_subject() {
        let (one, other) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let n1 = Template::client("n1");
        assert_eq!(digested_name(&n1, &one), digested_name(&n1, &one));
        assert_ne!(digested_name(&n1, &one), digested_name(&n1, &other));
        assert_ne!(digested_name(&n1, &one), digested_name(&Template::client("n2"), &one));
        assert_eq!(digested_name(&n1, &one).len(), "node-csr-".len() + 43);
    }
}
