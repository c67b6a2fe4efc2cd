//! CertificateSigningRequests (`pkg/apis/certificates/validation`).

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{at::At, common, pem};
use crate::admission::certificates::organizations;

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub(super) fn request(at: &At) {
    let spec = at.get("spec");
    let request = spec.get("request");
    signed(&request);
    let usages = spec.get("usages");
    usages.need();
    usages.items().for_each(|usage| usage.one_of(&USAGES));
    usages.unique("");
    let signer = spec.get("signerName");
    if signer.text() == "kubernetes.io/legacy-unknown" {
        signer.invalid("the legacy signerName is not allowed via this API version");
    } else {
        common::signer_name(&signer);
    }
    let seconds = spec.get("expirationSeconds");
    if seconds.int().is_some_and(|seconds| seconds < 600) {
        seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)");
    }
    conditions(at);
}

/// Text of PEM, which the API carries in base64.
fn decoded(at: &At) -> String {
    String::from_utf8_lossy(&STANDARD.decode(at.text()).unwrap_or_default()).into_owned()
}

/// `validateCSR`: whoever asks has the key.
fn signed(at: &At) {
    if let Err(error) = organizations(at.text()) {
        return at.invalid_value(at.text(), error.to_string());
    }
    let blocks = pem::blocks(&decoded(at));
    let Some(Err(problem)) =
        blocks.first().and_then(|block| pem::request(&block.der).map(|request| pem::check_request(&request)))
    else {
        return;
    };
    at.invalid_value(at.text(), problem);
}

/// `validateCertificate`: nothing, or certificates one after another.
fn certificates(pem: &str) -> Result<(), String> {
    let blocks = pem::blocks(pem);
    for block in &blocks {
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        if block.has_headers {
            return Err("no PEM block headers are permitted".into());
        }
        if block.der.is_empty() {
            return Err("found CERTIFICATE PEM block containing 0 certificates".into());
        }
        if !pem::are_certificates(&block.der) {
            return Err("x509: malformed certificate".into());
        }
    }
    if blocks.is_empty() && !pem.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".into());
    }
    Ok(())
}

/// What is issued has to be certificates, unless what was issued before was none.
fn issued(at: &At, old: &At) {
    if at.same(old) || certificates(&decoded(old)).is_err() {
        return;
    }
    if let Err(problem) = certificates(&decoded(at)) {
        at.invalid_value("<certificate data>", problem);
    }
}

fn conditions(at: &At) {
    let status = at.get("status");
    let list = status.get("conditions");
    let mut decided = "";
    for condition in list.items() {
        let kind = condition.get("type");
        kind.need();
        match kind.text() {
            "Approved" | "Denied" | "Failed" => condition.get("status").need_one_of(&["True"]),
            _ => condition.get("status").need_one_of(&["False", "True", "Unknown"]),
        }
        if matches!(kind.text(), "Approved" | "Denied") {
            if !decided.is_empty() && decided != kind.text() {
                list.invalid_value(kind.text(), "Approved and Denied conditions are mutually exclusive");
            }
            decided = kind.text();
        }
    }
    list.all_unique("type");
}

/// Decisions stay.
fn decisions(at: &At, old: &At) {
    let (status, before) = (at.get("status"), old.get("status"));
    let count = |status: &At, kind: &str| {
        status.get("conditions").items().filter(|condition| condition.get("type").text() == kind).count()
    };
    for kind in ["Approved", "Denied", "Failed"] {
        if count(&status, kind) < count(&before, kind) {
            status.get("conditions").forbidden(format!("updates may not remove a condition of type {kind:?}"));
        }
    }
}

pub(super) fn update(at: &At, old: &At) {
    decisions(at, old);
    let (status, before) = (at.get("status"), old.get("status"));
    if !status.get("certificate").same(&before.get("certificate")) {
        status.get("certificate").forbidden("updates may not set certificate content");
    }
}

pub(super) fn status(at: &At, old: &At) {
    conditions(at);
    let (status, was) = (at.get("status"), old.get("status"));
    let (certificate, before) = (status.get("certificate"), was.get("certificate"));
    issued(&certificate, &before);
    decisions(at, old);
    let (list, had) = (status.get("conditions"), was.get("conditions"));
    let count = |list: &At, kind: &str| list.items().filter(|condition| condition.get("type").text() == kind).count();
    for kind in ["Approved", "Denied"].into_iter().filter(|kind| count(&list, kind) > count(&had, kind)) {
        list.forbidden(format!("updates may not add a condition of type {kind:?}"));
    }
    if !before.is_empty() && !certificate.same(&before) {
        certificate.forbidden("updates may not modify existing certificate content");
    }
}

/// What is set through `approval`: decisions, once.
pub(super) fn approval(at: &At, old: &At) {
    conditions(at);
    decisions(at, old);
}
