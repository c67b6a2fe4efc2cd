//! Admission of certificate signing requests: who asks, who may approve and sign for a signer, and which subjects a client
//! certificate may have.

use api::{Status, Value, status::FieldError};
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::{Operation, Plugin, Review};
use crate::auth::{Attributes, MASTERS};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";

fn is_about(review: &Review<'_>, plural: &str, subresource: &str) -> bool {
    &*review.resource.group == GROUP && &*review.resource.plural == plural && review.subresource == subresource
}

fn is_update(review: &Review<'_>, subresource: &str) -> bool {
    review.operation == Operation::Update && is_about(review, REQUESTS, subresource)
}

/// Whether the user may `verb` for a signer, by its name or by its domain (upstream `pkg/certauthorization`).
async fn may(review: &Review<'_>, verb: &str, signer: &str) -> Result<bool, Status> {
    let domain = format!("{}/*", signer.split('/').next().unwrap_or_default());
    for name in [signer, &domain] {
        if review.is_allowed(&Attributes { name, ..review.asks(verb, GROUP, "signers") }).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Upstream `plugin/pkg/admission/certificates/approval`.
pub struct CertificateApproval;

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    async fn validate(&self, review: &Review<'_>, _object: &Value) -> Result<(), Status> {
        if !is_update(review, "approval") {
            return Ok(());
        }
        let signer = review.old.map(|old| old.str_at(&["spec", "signerName"])).unwrap_or_default();
        if may(review, "approve", signer).await? {
            return Ok(());
        }
        Err(review.forbidden(&format!("user not permitted to approve requests with signerName \"{signer}\"")))
    }
}

/// Upstream `plugin/pkg/admission/certificates/signing`.
pub struct CertificateSigning;

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<(), Status> {
        if !is_update(review, "status") {
            return Ok(());
        }
        let Some(old) = review.old else { return Ok(()) };
        let is_same = |path: &[&str]| object.at(path) == old.at(path);
        if is_same(&["status", "certificate"]) && is_same(&["status", "conditions"]) {
            return Ok(());
        }
        let signer = old.str_at(&["spec", "signerName"]);
        if may(review, "sign", signer).await? {
            return Ok(());
        }
        Err(review.forbidden(&format!("user not permitted to sign requests with signerName \"{signer}\"")))
    }
}

/// Upstream `plugin/pkg/admission/certificates/ctbattest`.
pub struct ClusterTrustBundleAttest;

#[async_trait]
impl Plugin for ClusterTrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<(), Status> {
        if !review.is(GROUP, "clustertrustbundles") || review.operation == Operation::Delete {
            return Ok(());
        }
        let signer = object.str_at(&["spec", "signerName"]);
        if signer.is_empty() || review.is_collection_only(object) || may(review, "attest", signer).await? {
            return Ok(());
        }
        Err(review.forbidden(&format!("user not permitted to attest for signerName \"{signer}\"")))
    }
}

/// A PodCertificateRequest is answered by who may sign, with a certificate of this moment
/// (`pkg/registry/certificates/podcertificaterequest/strategy.go`).
pub struct PodCertificateSigning;

/// How far the beginning of a certificate may be from the server's time.
const SKEW_SECONDS: i64 = 5 * 60;

#[async_trait]
impl Plugin for PodCertificateSigning {
    fn name(&self) -> &'static str {
        "PodCertificateSigning"
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<(), Status> {
        let Some(old) = review.old.filter(|_| is_about(review, "podcertificaterequests", "status")) else {
            return Ok(());
        };
        if object.get("status") == old.get("status") {
            return Ok(());
        }
        let refused = |error| Err(Status::invalid(GROUP, &review.resource.kind.kind, review.name, vec![error]));
        let begins = object.str_at(&["status", "notBefore"]);
        let now = review.server.clock.now().as_second();
        if api::time::parse(begins).is_ok_and(|time| (time.as_second() - now).abs() >= SKEW_SECONDS) {
            let detail = "must be set to within 5 minutes of kube-apiserver's current time";
            return refused(FieldError::invalid("status.notBefore", begins, detail));
        }
        let signer = old.str_at(&["spec", "signerName"]);
        if may(review, "sign", signer).await? {
            return Ok(());
        }
        let detail = format!("User {:?} is not permitted to \"sign\" for signer {signer:?}", review.user.name);
        refused(FieldError::forbidden("spec.signerName", detail))
    }
}

/// Upstream `plugin/pkg/admission/certificates/subjectrestriction`.
pub struct CertificateSubjectRestriction;

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<(), Status> {
        if review.operation != Operation::Create || !review.is(GROUP, REQUESTS) {
            return Ok(());
        }
        if object.str_at(&["spec", "signerName"]) != CLIENT_SIGNER {
            return Ok(());
        }
        let groups = organizations(object.str_at(&["spec", "request"]))
            .map_err(|error| review.forbidden(&format!("failed to parse CSR: {error}")))?;
        if groups.iter().any(|group| group == MASTERS) {
            return Err(review.forbidden(&format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed")));
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Pem,
    #[error("{0}")]
    Request(String),
}

/// The organizations in the subject of a PEM request in base64.
pub(crate) fn organizations(request: &str) -> Result<Vec<String>, RequestError> {
    let pem = STANDARD.decode(request).map_err(|_| RequestError::Pem)?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).map_err(|_| RequestError::Pem)?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(RequestError::Pem);
    }
    let (_, parsed) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|error| RequestError::Request(error.to_string()))?;
    let names = parsed.certification_request_info.subject.iter_organization();
    names
        .map(|name| name.as_str().map(str::to_owned).map_err(|error| RequestError::Request(error.to_string())))
        .collect()
}

/// Who asks is what the server knows, not what the request says (`pkg/registry/certificates/certificates/strategy.go`,
/// PrepareForCreate): signers trust these fields.
pub struct CertificateRequester;

#[async_trait]
impl Plugin for CertificateRequester {
    fn name(&self) -> &'static str {
        "CertificateRequester"
    }

    async fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
        if review.operation != Operation::Create || !review.is(GROUP, REQUESTS) {
            return Ok(());
        }
        for name in ["username", "uid", "groups", "extra"] {
            object.take(&["spec", name]);
        }
        let texts = |list: &[String]| list.iter().map(|text| Value::from(text.as_str())).collect::<Vec<_>>();
        let user = review.user;
        object.set(&["spec", "username"], user.name.as_str());
        if !user.uid.is_empty() {
            object.set(&["spec", "uid"], user.uid.as_str());
        }
        if !user.groups.is_empty() {
            object.set(&["spec", "groups"], texts(&user.groups));
        }
        for (name, values) in &user.extra {
            object.set(&["spec", "extra", name], texts(values));
        }
        Ok(())
    }
}
