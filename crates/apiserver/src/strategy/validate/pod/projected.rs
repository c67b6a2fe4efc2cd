//! Projected volumes (`pkg/apis/core/validation`: validateProjectionSources).

use std::collections::HashSet;

use super::volume::{downward_files, file_mode, key_to_path};
use crate::strategy::validate::{at::At, common};

/// `validateProjectionSources`.
pub(super) fn check(at: &At) {
    file_mode(&at.get("defaultMode"));
    let mut paths: HashSet<&str> = HashSet::new();
    for source in at.get("sources").items() {
        for name in ["secret", "configMap"] {
            let keys = source.get(name);
            if keys.is_set() {
                keys.get("name").need();
            }
            for item in keys.get("items").items() {
                key_to_path(&item);
                conflict(at, item.get("path").text(), keys.get("name").text(), &mut paths);
            }
        }
        let files = source.get("downwardAPI");
        downward_files(&files);
        for item in files.get("items").items() {
            let path = item.get("path").text();
            conflict(at, path, path, &mut paths);
        }
        token(at, &source.get("serviceAccountToken"));
        trust_bundle(at, &source.get("clusterTrustBundle"), &mut paths);
        pod_certificate(at, &source.get("podCertificate"), &mut paths);
        let kinds =
            ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
        if kinds.iter().filter(|kind| source.get(kind).is_set()).count() > 1 {
            source.forbidden("may not specify more than 1 volume type per source");
        }
    }
}

fn conflict<'v>(at: &At, path: &'v str, named: &str, paths: &mut HashSet<&'v str>) {
    if path.is_empty() {
        return;
    }
    if !paths.insert(path) {
        at.invalid_value(named, "conflicting duplicate paths");
    }
}

fn token(at: &At, token: &At) {
    if !token.is_set() {
        return;
    }
    let seconds = token.get("expirationSeconds");
    if seconds.int().is_some_and(|seconds| seconds < 600) {
        seconds.invalid("may not specify a duration less than 10 minutes");
    }
    if seconds.int().is_some_and(|seconds| seconds > 1 << 32) {
        seconds.invalid("may not specify a duration larger than 2^32 seconds");
    }
    let path = at.get("path");
    let path = path.holding(&token.get("path"));
    if path.need() {
        common::unreserved_path(&path);
    }
}

fn trust_bundle<'v>(at: &At, bundle: &At<'v, '_>, paths: &mut HashSet<&'v str>) {
    if !bundle.is_set() {
        return;
    }
    let (name, signer, selector) = (bundle.get("name"), bundle.get("signerName"), bundle.get("labelSelector"));
    match (name.is_set(), signer.is_set()) {
        (true, true) => bundle.invalid("only one of name and signerName may be used"),
        (true, false) => {
            name.need_because("must be a valid object name");
            if selector.is_set() {
                selector.invalid("labelSelector must be unset if name is specified");
            }
        }
        (false, true) => {
            signer.need_because("must be a valid signer name");
            common::signer_name(&signer);
            common::label_selector(&selector);
        }
        (false, false) => bundle.required("either name or signerName must be specified"),
    }
    bundle.get("path").need();
    common::unreserved_path(&bundle.get("path"));
    let path = bundle.get("path").text();
    conflict(at, path, path, paths);
}

fn pod_certificate<'v>(at: &At, certificate: &At<'v, '_>, paths: &mut HashSet<&'v str>) {
    if !certificate.is_set() {
        return;
    }
    common::signer_name(&certificate.get("signerName"));
    certificate.get("keyType").one_of(&["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"]);
    let seconds = certificate.get("maxExpirationSeconds");
    let is_own = certificate
        .get("signerName")
        .text()
        .split('/')
        .next()
        .is_some_and(|host| host == "kubernetes.io" || host.ends_with(".kubernetes.io"));
    let most = if is_own { 86_400 } else { 7_862_400 };
    if seconds.int().is_some_and(|number| number < 3600) {
        seconds.invalid("if provided, maxExpirationSeconds must be >= 3600");
    }
    if seconds.int().is_some_and(|number| number > most) {
        seconds.invalid(format!("if provided, maxExpirationSeconds must be <= {most}"));
    }
    let mut found = false;
    for name in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let path = certificate.get(name);
        found |= !path.is_empty();
        common::unreserved_path(&path);
        conflict(at, path.text(), path.text(), paths);
    }
    if !found {
        certificate.required("specify at least one of credentialBundlePath, keyPath, and certificateChainPath");
    }
}
