//! CertificateSigningRequests of kubelets approved, approved ones signed, old ones removed
//! (upstream pkg/controller/certificates: approver, signer, cleaner).

pub mod serving;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use client::{
    Client, Informer, ObjectKey,
    apimachinery::pkg::apis::meta::v1::Time,
    k8s_openapi::ByteString,
    kinds::{
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
        certificates::v1::{
            CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestStatus,
        },
    },
};
use jiff::Timestamp;
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    pem::parse_x509_pem,
    prelude::FromDer,
};

use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller, LiveController},
    shared::{after_seconds, created_at, owners, until},
    signer::Signer,
};

pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// When a request that its requester may not make is looked at again: soon while it is young.
const LOOK_AGAIN_MIN: Duration = Duration::from_secs(1);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(300);

fn has(request: &CertificateSigningRequest, name: &str) -> bool {
    let conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == name)
}

fn is_issued(request: &CertificateSigningRequest) -> bool {
    request
        .status
        .as_ref()
        .and_then(|status| status.certificate.as_ref())
        .is_some_and(|certificate| !certificate.0.is_empty())
}

/// Nothing has been decided yet.
fn is_open(request: &CertificateSigningRequest) -> bool {
    !is_issued(request) && !has(request, "Approved") && !has(request, "Denied")
}

/// The subject a request asks for; `None` where it is no request.
struct Subject {
    common_name: String,
    organizations: Vec<String>,
    /// Subject alternative names: DNS names and IP addresses; another kind of name is `?`.
    names: Vec<String>,
}

fn subject(request: &CertificateSigningRequest) -> Option<Subject> {
    let (_, pem) = parse_x509_pem(&request.spec.request.0).ok()?;
    let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let name = &parsed.certification_request_info.subject;
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue| attribute.as_str().unwrap_or_default().to_owned();
    let names = parsed.requested_extensions().into_iter().flatten().flat_map(|extension| match extension {
        ParsedExtension::SubjectAlternativeName(names) => names.general_names.iter().map(name_text).collect(),
        _ => Vec::new(),
    });
    Some(Subject {
        common_name: name.iter_common_name().next().map(text).unwrap_or_default(),
        organizations: name.iter_organization().map(text).collect(),
        names: names.collect(),
    })
}

fn name_text(name: &GeneralName) -> String {
    let unknown = || "?".to_owned();
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).map_or_else(|_| unknown(), |bytes| IpAddr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).map_or_else(|_| unknown(), |bytes| IpAddr::from(bytes).to_string()),
        },
        _ => unknown(),
    }
}

/// Exactly `purpose` and what every key is for; the latter without encipherment where the key cannot do it.
fn usages_are(usages: &Option<Vec<String>>, purpose: &str) -> bool {
    let usages: BTreeSet<&str> = usages.iter().flatten().map(String::as_str).collect();
    let allowed = [
        BTreeSet::from(["key encipherment", "digital signature", purpose]),
        BTreeSet::from(["digital signature", purpose]),
    ];
    allowed.contains(&usages)
}

fn is_node(subject: &Subject) -> bool {
    subject.organizations == ["system:nodes"] && subject.common_name.starts_with("system:node:")
}

/// A node's client certificate: its names, and no usage beyond (`IsKubeletClientCSR`).
fn is_kubelet_client(request: &CertificateSigningRequest, subject: &Subject) -> bool {
    request.spec.signer_name == KUBELET_CLIENT
        && is_node(subject)
        && subject.names.is_empty()
        && usages_are(&request.spec.usages, "client auth")
}

/// A node's serving certificate, for DNS names and addresses (`IsKubeletServingCSR`).
fn is_kubelet_serving(usages: &Option<Vec<String>>, subject: &Subject) -> bool {
    let names = &subject.names;
    is_node(subject) && !names.is_empty() && !names.iter().any(|name| name == "?") && usages_are(usages, "server auth")
}

/// Approves kubelets' client certificates where the requester may have them.
struct Approver {
    requests: Informer<CertificateSigningRequest>,
}

#[async_trait]
impl LiveController for Approver {
    fn name(&self) -> &'static str {
        "certificatesigningrequest-approving-controller"
    }

    async fn plan(&self, key: &ObjectKey, context: &Context, client: &Client) -> client::Result<Plan> {
        let Some(request) = self.requests.get("", &key.name).filter(|request| is_open(request)) else {
            return Ok(Plan::default());
        };
        let Some(subject) = subject(&request).filter(|subject| is_kubelet_client(&request, subject)) else {
            return Ok(Plan::default());
        };
        let is_own = request.spec.username.as_deref() == Some(&subject.common_name);
        let candidates = [
            (is_own, "selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."),
            (true, "nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
        ];
        for (applies, permission, message) in candidates {
            if applies && is_allowed(client, &request, permission).await? {
                return Ok(approve(&request, message, context.now));
            }
        }
        // Who may what can still become known.
        let mut plan = Plan::default();
        let age = Duration::try_from(context.now.duration_since(created_at(&*request))).unwrap_or_default();
        plan.requeue_after((age / 2).clamp(LOOK_AGAIN_MIN, LOOK_AGAIN_MAX));
        Ok(plan)
    }
}

async fn is_allowed(client: &Client, request: &CertificateSigningRequest, permission: &str) -> client::Result<bool> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: request.spec.username.clone(),
            uid: request.spec.uid.clone(),
            groups: request.spec.groups.clone(),
            extra: request.spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".into()),
                resource: Some("certificatesigningrequests".into()),
                verb: Some("create".into()),
                subresource: Some(permission.into()),
                version: Some("*".into()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = client.all::<SubjectAccessReview>().create(&review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

fn approve(request: &CertificateSigningRequest, message: &str, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut approved = request.clone();
    approved.status.get_or_insert_default().conditions.get_or_insert_default().push(condition(
        "Approved",
        "AutoApproved",
        message,
        now,
    ));
    plan.update_sub(&approved, "approval");
    plan
}

fn condition(name: &str, reason: &str, message: &str, now: Timestamp) -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: name.into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Why a request is not one its signer may sign; `None` where it is.
fn refusal(request: &CertificateSigningRequest) -> Option<&'static str> {
    let Some(subject) = subject(request) else {
        return Some("the request cannot be parsed");
    };
    let usages: BTreeSet<&str> = request.spec.usages.iter().flatten().map(String::as_str).collect();
    let only = |allowed: &[&str]| usages.iter().all(|usage| allowed.contains(usage));
    match request.spec.signer_name.as_str() {
        KUBELET_CLIENT if !is_kubelet_client(request, &subject) => Some("not a node client certificate"),
        KUBELET_SERVING if !is_kubelet_serving(&request.spec.usages, &subject) => {
            Some("not a node serving certificate")
        }
        CLIENT
            if !(only(&["key encipherment", "digital signature", "client auth"]) && usages.contains("client auth")) =>
        {
            Some("usages are not those of a client certificate")
        }
        CLIENT if subject.organizations.iter().any(|group| group == "system:masters") => {
            Some("system:masters is not given out")
        }
        _ => None,
    }
}

/// Signs what has been approved.
struct Signing {
    requests: Informer<CertificateSigningRequest>,
    signer: Arc<dyn Signer>,
}

#[async_trait]
impl LiveController for Signing {
    fn name(&self) -> &'static str {
        "certificatesigningrequest-signing-controller"
    }

    async fn plan(&self, key: &ObjectKey, context: &Context, _: &Client) -> client::Result<Plan> {
        let mut plan = Plan::default();
        let ready = |request: &Arc<CertificateSigningRequest>| {
            let is_ours = [KUBELET_CLIENT, KUBELET_SERVING, CLIENT, LEGACY].contains(&&*request.spec.signer_name);
            is_ours
                && has(request, "Approved")
                && !has(request, "Denied")
                && !has(request, "Failed")
                && !is_issued(request)
        };
        let Some(request) = self.requests.get("", &key.name).filter(ready) else {
            return Ok(plan);
        };
        let spec = &request.spec;
        let mut signed = (*request).clone();
        let status: &mut CertificateSigningRequestStatus = signed.status.get_or_insert_default();
        let outcome = match refusal(&request) {
            Some(why) => Err(why.to_owned()),
            None => {
                let expiration =
                    spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
                let usages = spec.usages.clone().unwrap_or_default();
                self.signer
                    .sign(&spec.signer_name, &spec.request.0, &usages, expiration)
                    .await
                    .map_err(|error| error.to_string())
            }
        };
        match outcome {
            Ok(certificate) => status.certificate = Some(ByteString(certificate)),
            Err(why) => status.conditions.get_or_insert_default().push(condition(
                "Failed",
                "SignerValidationFailure",
                &why,
                context.now,
            )),
        }
        plan.update_status(&signed);
        Ok(plan)
    }
}

/// Removes requests nobody needs any more.
struct Cleaner(Informer<CertificateSigningRequest>);

/// Approved or denied ones stay an hour, others a day.
fn clean(request: &CertificateSigningRequest, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let is_settled = ["Approved", "Denied", "Failed"].iter().any(|name| has(request, name));
    let seconds = if is_settled { 3600 } else { 24 * 3600 };
    match until(after_seconds(created_at(request), seconds), now) {
        Some(left) => plan.requeue_after(left),
        None => {
            plan.delete(request);
        }
    }
    plan
}

impl Controller for Cleaner {
    fn name(&self) -> &'static str {
        "certificatesigningrequest-cleaner-controller"
    }

    fn plan(&self, key: &ObjectKey, context: &Context) -> Plan {
        self.0.get("", &key.name).map(|request| clean(&request, context.now)).unwrap_or_default()
    }
}

fn with_requests(
    setup: &mut Setup,
    name: &'static str,
) -> (Informer<CertificateSigningRequest>, client::WorkQueue<ObjectKey>) {
    let requests = setup.informer::<CertificateSigningRequest>();
    let queue = setup.queue(name);
    owners::enqueue_self(&requests, &queue);
    (requests, queue)
}

pub fn register_approving(setup: &mut Setup) {
    let (requests, queue) = with_requests(setup, "certificatesigningrequest-approving-controller");
    setup.run(Approver { requests }, queue, 2);
}

pub fn register_signing(setup: &mut Setup) {
    let Some(signer) = setup.config.signer.clone() else {
        tracing::info!("no certificate requests are signed: no signing key was given");
        return;
    };
    let (requests, queue) = with_requests(setup, "certificatesigningrequest-signing-controller");
    setup.run(Signing { requests, signer }, queue, 2);
}

pub fn register_cleaner(setup: &mut Setup) {
    let (requests, queue) = with_requests(setup, "certificatesigningrequest-cleaner-controller");
    setup.run(Cleaner(requests), queue, 1);
}
