//! ClusterTrustBundles and PodCertificateRequests (`pkg/apis/certificates/validation`). Who may sign, and whether what is
//! signed is of this moment, is for admission, which knows the user and the time.

use api::{names, time};
use base64::{Engine, engine::general_purpose::STANDARD};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{
    at::At,
    common,
    pem::{self, Block, Key},
};

const BUNDLE_BYTES_MAX: usize = 1024 * 1024;
const CHAIN_BYTES_MAX: usize = 100 * 1024;
const PART_BYTES_MAX: usize = 10 * 1024;
const UID_BYTES_MAX: usize = 128;
const EXPIRATION_SECONDS_MIN: i64 = 60 * 60;
const EXPIRATION_SECONDS_MAX: i64 = 91 * 24 * 60 * 60;
/// Signers of Kubernetes' own sign for a day at most.
const KUBERNETES_EXPIRATION_SECONDS_MAX: i64 = 24 * 60 * 60;
const REFRESH_MARGIN_SECONDS: i64 = 10 * 60;
const CERTIFICATE: &str = "CERTIFICATE";

fn bundle_spec(at: &At) {
    let (metadata, spec) = (at.get("metadata"), at.get("spec"));
    let (name, signer) = (metadata.get("name"), spec.get("signerName"));
    if signer.is_empty() {
        if name.text().contains(':') {
            name.invalid("ClusterTrustBundle without signer name must not have \":\" in its name");
        } else {
            name.named(names::dns1123_subdomain);
        }
        return;
    }
    let prefix = signer.text().replace('/', ":") + ":";
    match name.text().strip_prefix(&prefix) {
        Some(rest) => names::dns1123_subdomain(rest).into_iter().for_each(|problem| name.invalid(problem)),
        None => {
            let signer = signer.text();
            name.invalid(format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"));
        }
    }
    common::signer_name(&signer);
}

pub(super) fn bundle(at: &At) {
    bundle_spec(at);
    trust_anchors(&at.get("spec").get("trustBundle"));
}

pub(super) fn bundle_update(at: &At, old: &At) {
    let (spec, before) = (at.get("spec"), old.get("spec"));
    bundle_spec(at);
    if !spec.get("trustBundle").same(&before.get("trustBundle")) {
        trust_anchors(&spec.get("trustBundle"));
    }
    spec.get("signerName").immutable(&before.get("signerName"));
}

/// `validateTrustBundle`: certificates of authorities, each once.
fn trust_anchors(at: &At) {
    let before = at.errors();
    let refuse = |detail: String| at.invalid_value("<value omitted>", detail);
    if at.text().len() > BUNDLE_BYTES_MAX {
        return at.too_long(BUNDLE_BYTES_MAX);
    }
    let blocks = pem::blocks(at.text());
    for (index, block) in blocks.iter().enumerate() {
        let authority = pem::certificate(&block.der).map(|certificate| certificate.is_ca());
        if block.label != CERTIFICATE {
            refuse(format!("entry {index} has bad block type: {}", block.label));
        } else if block.has_headers {
            refuse(format!("entry {index} has PEM block headers"));
        } else if authority.is_none() {
            refuse(format!("entry {index} does not parse as X.509"));
        } else if authority == Some(false) {
            refuse(format!("entry {index} does not have the CA bit set"));
        }
    }
    if at.errors() > before {
        return;
    }
    if blocks.is_empty() {
        refuse("at least one trust anchor must be provided".into());
    }
    for (index, block) in blocks.iter().enumerate() {
        let same: Vec<String> =
            (0..blocks.len()).filter(|other| blocks[*other].der == block.der).map(|other| other.to_string()).collect();
        if same.len() > 1 && same[0] == index.to_string() {
            refuse(format!("duplicate trust anchor (indices [{}])", same.join(" ")));
        }
    }
}

pub(super) fn pod_request(at: &At) {
    let spec = at.get("spec");
    let signer = spec.get("signerName");
    common::signer_name(&signer);
    user_annotations(&spec.get("unverifiedUserAnnotations"));
    for owner in ["pod", "serviceAccount", "node"] {
        let (name, uid) = (format!("{owner}Name"), format!("{owner}UID"));
        let (name, uid) = (spec.get(&name), spec.get(&uid));
        name.named(names::dns1123_subdomain);
        if uid.is_empty() {
            uid.invalid_value("", "must not be empty");
        }
        uid.max_bytes(UID_BYTES_MAX);
    }
    let expiration = spec.get("maxExpirationSeconds");
    let Some(seconds) = expiration.int() else {
        return expiration.required("must be set");
    };
    let host = signer.text().split('/').next().unwrap_or_default();
    let is_own = host == "kubernetes.io" || host.ends_with(".kubernetes.io");
    let max = if is_own { KUBERNETES_EXPIRATION_SECONDS_MAX } else { EXPIRATION_SECONDS_MAX };
    if !(EXPIRATION_SECONDS_MIN..=max).contains(&seconds) {
        expiration.invalid(format!("must be in the range [{EXPIRATION_SECONDS_MIN}, {max}]"));
    }
    let [stub, key, proof] = ["stubPKCS10Request", "pkixPublicKey", "proofOfPossession"].map(|name| spec.get(name));
    match (!stub.is_empty(), !key.is_empty(), !proof.is_empty()) {
        (true, false, false) => stub_request(&stub),
        (false, true, true) => public_key(&key, &proof, spec.get("podUID").text()),
        _ => {
            spec.invalid_unseen("exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set")
        }
    }
}

/// `ValidateUserAnnotations`: keys of a domain, in whatever case.
fn user_annotations(at: &At) {
    let mut size = 0;
    for (key, value) in at.entries() {
        size += key.len() + value.text().len();
        let key = key.to_lowercase();
        let problems = names::qualified_name(&key);
        if key.is_empty() {
            at.required("");
        } else if problems.is_empty() && !key.contains('/') {
            at.invalid_value(&key, "must be a domain-prefixed key (such as \"acme.io/foo\")");
        } else {
            problems.into_iter().for_each(|problem| at.invalid_value(&key, problem));
        }
    }
    if size > names::ANNOTATIONS_MAX {
        at.too_long(names::ANNOTATIONS_MAX);
    }
}

/// The bytes here; nothing if they are too many, which is said.
fn bytes(at: &At) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(at.text()).unwrap_or_default();
    if bytes.len() > PART_BYTES_MAX {
        at.too_long(PART_BYTES_MAX);
        return None;
    }
    Some(bytes)
}

/// Whether a key is of a kind and size that is certified.
fn acceptable(at: &At, key: Key, curves: &str) -> bool {
    match key {
        Key::Ed25519 | Key::Elliptic | Key::Rsa(3072 | 4096) => return true,
        Key::SmallCurve => at.invalid_value("curve P-224", format!("elliptic public keys must use curve {curves}")),
        Key::Rsa(bits) => {
            at.invalid_value(format!("{bits}-bit modulus"), "RSA keys must have modulus size 3072 or 4096");
        }
        Key::Unknown => at.invalid_unseen("unknown public key type; supported types are Ed25519, ECDSA, and RSA"),
    }
    false
}

fn stub_request(at: &At) {
    let Some(der) = bytes(at) else { return };
    let Some(request) = pem::request(&der) else {
        return at.invalid_unseen("must be a valid PKCS#10 CSR");
    };
    let key = pem::key(&request.certification_request_info.subject_pki);
    if acceptable(at, key, "P256, P384, or P521") && pem::check_request(&request).is_err() {
        at.invalid_unseen("invalid signature");
    }
}

/// `validateDeprecatedPKIXPublicKey`: whoever asks shows to have the key by signing the pod's UID.
fn public_key(at: &At, proof_at: &At, uid: &str) {
    let (Some(der), Some(proof)) = (bytes(at), bytes(proof_at)) else { return };
    let Ok((_, info)) = x509_parser::x509::SubjectPublicKeyInfo::from_der(&der) else {
        return at.invalid("must be a valid PKIX-serialized public key");
    };
    let key = pem::key(&info);
    if acceptable(at, key, "P256 or P384") && !pem::proves(&info, key, uid.as_bytes(), &proof) {
        proof_at.invalid_unseen("could not verify proof-of-possession signature");
    }
}

const OUTCOMES: [&str; 3] = ["Issued", "Denied", "Failed"];

fn outcome<'v>(status: &At<'v, '_>) -> Option<&'v str> {
    let list = status.get("conditions");
    let ended = |condition: &At| condition.get("status").text() == "True";
    let mut kinds = list.items().filter(ended).map(|condition| condition.get("type").text());
    kinds.find(|kind| OUTCOMES.contains(kind))
}

pub(super) fn pod_request_status(at: &At, old: &At) {
    let (status, before) = (at.get("status"), old.get("status"));
    let list = status.get("conditions");
    let errors = at.errors();
    let mut known = 0;
    for (index, condition) in list.items().enumerate() {
        // Upstream's index is a member of the path.
        let step = format!("[{index}]");
        let place = list.get(&step);
        let (kind, state) = (condition.get("type"), condition.get("status"));
        if !OUTCOMES.contains(&kind.text()) {
            place.get("type").not_supported_value(kind.text(), &OUTCOMES);
            continue;
        }
        known += 1;
        if known > 1 {
            let detail = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            place.get("type").invalid_value(kind.text(), detail);
        }
        if state.text() != "True" {
            place.get("status").not_supported_value(state.text(), &["True"]);
        }
    }
    common::conditions(&list);
    if at.errors() > errors {
        return;
    }
    let has_only_conditions = status.entries().all(|(name, value)| name == "conditions" || value.is_empty());
    match (outcome(&before), outcome(&status)) {
        (Some(_), _) if !status.same(&before) => {
            status.invalid_unseen("immutable after PodCertificateRequest is issued, denied, or failed");
        }
        (Some(_), _) => {}
        (None, Some("Issued")) => issued(&status, &old.get("spec")),
        (None, Some(_)) if !has_only_conditions => status.invalid_unseen(
            "non-condition status fields must be empty when denying or failing the PodCertificateRequest",
        ),
        (None, Some(_)) => {}
        (None, None) if !status.same(&before) => {
            status.invalid_unseen("status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"");
        }
        (None, None) => {}
    }
}

/// What was issued is for the key that was asked for, and for the time that the status says.
fn issued(status: &At, spec: &At) {
    let chain = status.get("certificateChain");
    if chain.text().len() > CHAIN_BYTES_MAX {
        return chain.too_long(CHAIN_BYTES_MAX);
    }
    let blocks = pem::blocks(chain.text());
    let Some((first, rest)) = blocks.split_first() else {
        return chain.invalid_value(chain.text(), "issued certificate chain must contain at least one certificate");
    };
    if first.label != CERTIFICATE {
        return chain.invalid("issued certificate chain must consist entirely of CERTIFICATE PEM blocks");
    }
    let Some(leaf) = pem::certificate(&first.der) else {
        return chain.invalid("leaf certificate does not parse as valid X.509");
    };
    let errors = chain.errors();
    leaf_names(&chain, &leaf);
    if !is_for_key(&leaf, spec) {
        return chain.invalid("leaf certificate was not issued to the requested public key");
    }
    for (name, detail) in [
        ("notBefore", "must be present and consistent with the issued certificate"),
        ("notAfter", "must be present and consistent with the issued certificate"),
        ("beginRefreshAt", "must be present and in the range [notbefore+10min, notafter-10min]"),
    ] {
        status.get(name).need_because(detail);
    }
    if chain.errors() == errors {
        let max = spec.get("maxExpirationSeconds").int().unwrap_or(i64::MAX);
        if is_in_time(status, &leaf, max) {
            rest_of_chain(&chain, rest);
        }
    }
}

fn leaf_names(chain: &At, leaf: &X509Certificate) {
    let names = leaf.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        let GeneralName::DNSName(name) = name else { continue };
        if name.is_empty() {
            chain.invalid_value(name, "leaf certificate should not contain empty DNSName");
        }
        if name.contains("..") {
            chain.invalid_value(name, "leaf certificate's DNSName should not contain '..'");
        }
        if name.starts_with('.') || name.ends_with('.') {
            chain.invalid_value(name, "leaf certificate's DNSName should not start or end with '.'");
        }
    }
}

fn is_for_key(leaf: &X509Certificate, spec: &At) -> bool {
    let stub = STANDARD.decode(spec.get("stubPKCS10Request").text()).unwrap_or_default();
    let key = STANDARD.decode(spec.get("pkixPublicKey").text()).unwrap_or_default();
    match pem::request(&stub) {
        Some(request) => request.certification_request_info.subject_pki.raw == leaf.public_key().raw,
        None => key == leaf.public_key().raw,
    }
}

/// Seconds of the moment that is said here.
fn seconds(at: &At) -> i64 {
    time::parse(at.text()).map_or(0, |time| time.as_second())
}

fn is_in_time(status: &At, leaf: &X509Certificate, max: i64) -> bool {
    let [before_at, after_at, refresh_at] = ["notBefore", "notAfter", "beginRefreshAt"].map(|name| status.get(name));
    let (before, after) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    let (chain, lifetime) = (status.get("certificateChain"), after - before);
    if seconds(&before_at) != before {
        before_at.invalid("must be set to the NotBefore time encoded in the leaf certificate");
    } else if seconds(&after_at) != after {
        after_at.invalid("must be set to the NotAfter time encoded in the leaf certificate");
    } else if lifetime < EXPIRATION_SECONDS_MIN {
        chain.invalid_printed(&duration(lifetime), "leaf certificate lifetime must be >= 1 hour");
    } else if lifetime > max {
        let detail = format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({max})");
        chain.invalid_printed(&duration(lifetime), &detail);
    } else if seconds(&refresh_at) < before + REFRESH_MARGIN_SECONDS {
        refresh_at.invalid("must be at least 10 minutes after status.notBefore");
    } else if seconds(&refresh_at) > after - REFRESH_MARGIN_SECONDS {
        refresh_at.invalid("must be at least 10 minutes before status.notAfter");
    } else {
        return true;
    }
    false
}

/// As Go prints a duration of whole seconds.
fn duration(seconds: i64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn rest_of_chain(chain: &At, blocks: &[Block]) {
    for block in blocks {
        if block.label != CERTIFICATE {
            return chain.invalid("issued certificate chain must consist entirely of CERTFICATE PEM blocks");
        }
        if pem::certificate(&block.der).is_none() {
            return chain.invalid("intermediate certificate does not parse as valid X.509");
        }
    }
}
