//! CertificateSigningRequests (`pkg/apis/certificates/validation`). Signatures are the signer's to check.

use super::{at::At, common};
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
    if let Err(error) = organizations(request.text()) {
        request.invalid_value(request.text(), error.to_string());
    }
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
    list.unique("type");
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
    let (list, before) = (status.get("conditions"), was.get("conditions"));
    let has = |list: &At, kind: &str| list.items().any(|condition| condition.get("type").text() == kind);
    for kind in ["Approved", "Denied"] {
        if has(&list, kind) && !has(&before, kind) {
            list.forbidden(format!("updates may not add a condition of type {kind:?}"));
        }
    }
    decisions(at, old);
    let (status, before) = (at.get("status"), old.get("status"));
    let was = before.get("certificate");
    if !was.is_empty() && !status.get("certificate").same(&was) {
        status.get("certificate").forbidden("updates may not modify existing certificate content");
    }
}
