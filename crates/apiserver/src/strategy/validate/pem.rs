//! What is in the PEM and DER that objects carry: blocks, public keys and signatures. Where upstream uses Go's
//! `encoding/pem` and `crypto/x509`, this is as lenient: text around blocks is skipped.

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::{PrivateKeyDer, SignatureVerificationAlgorithm};
use x509_parser::{
    prelude::{AlgorithmIdentifier, FromDer, X509Certificate, X509CertificationRequest},
    x509::SubjectPublicKeyInfo,
};

use super::at::At;

/// One block between BEGIN and END.
pub(super) struct Block {
    pub label: String,
    pub has_headers: bool,
    pub der: Vec<u8>,
}

/// `pem.Decode` until nothing is left. What is no block is skipped.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut lines = text.lines().map(str::trim_end);
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        let label = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        let Some(label) = label else { continue };
        let end = format!("-----END {label}-----");
        let rest = lines.clone();
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
        let is_header = |line: &&str| line.contains(':');
        let headers = body.iter().take_while(|line| is_header(line)).count();
        let has_end = rest.clone().nth(body.len()).is_some_and(|line| line == end);
        match STANDARD.decode(body[headers..].concat().replace([' ', '\t'], "")) {
            Ok(der) if has_end => blocks.push(Block { label: label.to_owned(), has_headers: headers > 0, der }),
            // Another block may begin inside of what is none.
            _ => lines = rest,
        }
    }
    blocks
}

/// The certificate that DER is, and nothing after it.
pub(super) fn certificate(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, parsed)| parsed)
}

/// `ParseCertificates`: one after another, nothing between them.
pub(super) fn are_certificates(mut der: &[u8]) -> bool {
    while !der.is_empty() {
        match X509Certificate::from_der(der) {
            Ok((rest, _)) => der = rest,
            Err(_) => return false,
        }
    }
    true
}

/// The request that DER is, and nothing after it.
pub(super) fn request(der: &[u8]) -> Option<X509CertificationRequest<'_>> {
    X509CertificationRequest::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, parsed)| parsed)
}

/// What kind of key it is, as far as rules depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Ed25519,
    /// On a curve that rules name: P-256, P-384 or P-521.
    Elliptic,
    /// On P-224.
    SmallCurve,
    /// With a modulus of so many bits.
    Rsa(usize),
    Unknown,
}

const RSA: &str = "1.2.840.113549.1.1.1";
const ELLIPTIC: &str = "1.2.840.10045.2.1";
const ED25519: &str = "1.3.101.112";
const CURVES: [&str; 3] = ["1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"];

pub(super) fn key(info: &SubjectPublicKeyInfo) -> Key {
    let curve = info.algorithm.parameters.as_ref().and_then(|any| any.clone().oid().ok()).map(|oid| oid.to_id_string());
    match &*info.algorithm.algorithm.to_id_string() {
        ED25519 => Key::Ed25519,
        ELLIPTIC if curve.as_deref().is_some_and(|curve| CURVES.contains(&curve)) => Key::Elliptic,
        ELLIPTIC => Key::SmallCurve,
        RSA => match info.parsed() {
            Ok(x509_parser::public_key::PublicKey::RSA(key)) => Key::Rsa(key.key_size()),
            _ => Key::Unknown,
        },
        _ => Key::Unknown,
    }
}

/// The content of an AlgorithmIdentifier whose parameters are absent, null or one object identifier.
fn identifier(algorithm: &AlgorithmIdentifier) -> Option<Vec<u8>> {
    let tagged = |tag: u8, content: &[u8]| Some([&[tag, u8::try_from(content.len()).ok()?], content].concat());
    let mut out = tagged(6, algorithm.algorithm.as_bytes())?;
    if let Some(parameters) = &algorithm.parameters {
        out.extend(tagged(u8::try_from(parameters.tag().0).ok()?, parameters.data)?);
    }
    Some(out)
}

/// Whether the key signed the message. What cannot be told, for keys and algorithms that are not supported, counts as
/// signed: whoever trusts the request checks it again.
pub(super) fn is_signed(
    info: &SubjectPublicKeyInfo,
    algorithm: &AlgorithmIdentifier,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let is_small = matches!(key(info), Key::Rsa(bits) if bits < 2048);
    is_small || identifier(algorithm).is_none_or(|algorithm| is_signed_by(info, &algorithm, message, signature))
}

fn is_signed_by(info: &SubjectPublicKeyInfo, algorithm: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key_id = identifier(&info.algorithm);
    let fits = |known: &&&dyn SignatureVerificationAlgorithm| {
        Some(known.public_key_alg_id().as_ref()) == key_id.as_deref() && known.signature_alg_id().as_ref() == algorithm
    };
    let known = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let Some(verifier) = known.all.iter().find(fits) else { return true };
    verifier.verify_signature(&info.subject_public_key.data, message, signature).is_ok()
}

/// Whether a key is that of a certificate, both PEM in base64: what Go's `tls.X509KeyPair` says is wrong.
pub(super) fn key_pair(certificate: &At, key: &At) -> Result<(), String> {
    let decoded = |at: &At| String::from_utf8(STANDARD.decode(at.text()).unwrap_or_default()).unwrap_or_default();
    let (certificates, keys) = (blocks(&decoded(certificate)), blocks(&decoded(key)));
    let labels = |blocks: &[Block]| blocks.iter().map(|block| block.label.as_str()).collect::<Vec<_>>().join(" ");
    let Some(leaf) = certificates.iter().find(|block| block.label == "CERTIFICATE") else {
        return Err(match certificates.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".into(),
            [only] if only.label.ends_with("PRIVATE KEY") => "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched".into(),
            others => format!("tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [{}]", labels(others)),
        });
    };
    let Some(own) = keys.iter().find(|block| block.label == "PRIVATE KEY" || block.label.ends_with(" PRIVATE KEY"))
    else {
        return Err(match keys.as_slice() {
            [] => "tls: failed to find any PEM data in key input".into(),
            [only] if only.label == "CERTIFICATE" => {
                "tls: found a certificate rather than a key in the PEM for the private key".into()
            }
            others => format!(
                "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the following types: [{}]",
                labels(others)
            ),
        });
    };
    let Some(parsed) = self::certificate(&leaf.der) else { return Err("x509: malformed certificate".into()) };
    let der = match own.label.as_str() {
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(own.der.clone().into()),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(own.der.clone().into()),
        _ => PrivateKeyDer::Pkcs8(own.der.clone().into()),
    };
    let Ok(signer) = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der) else {
        // Keys of other kinds and sizes are not told from what is no key.
        return if key_is_told(&parsed) { Err("tls: failed to parse private key".into()) } else { Ok(()) };
    };
    match signer.public_key() {
        Some(public) if public.as_ref() != parsed.public_key().raw => {
            let kinds =
                x509_parser::x509::SubjectPublicKeyInfo::from_der(&public).ok().map(|(_, info)| self::key(&info));
            let same = matches!(
                (kinds, self::key(parsed.public_key())),
                (Some(Key::Rsa(_)), Key::Rsa(_))
                    | (Some(Key::Elliptic), Key::Elliptic)
                    | (Some(Key::Ed25519), Key::Ed25519)
            );
            let what = if same { "private key does not match" } else { "private key type does not match" };
            Err(format!("tls: {what} public key{}", if same { "" } else { " type" }))
        }
        _ => Ok(()),
    }
}

/// Whether this is a certificate for a key that can be read here.
fn key_is_told(certificate: &X509Certificate) -> bool {
    matches!(key(certificate.public_key()), Key::Ed25519 | Key::Elliptic | Key::Rsa(2048..))
}

const SHA256_WITH_ECDSA: &[u8] = &[6, 8, 42, 134, 72, 206, 61, 4, 3, 2];
const ED25519_ID: &[u8] = &[6, 3, 43, 101, 112];

/// Whether whoever made `proof` has the key: it signed the message's SHA-256, or the message itself. That an RSA key did,
/// with a salt of any length, is not told apart.
pub(super) fn proves(info: &SubjectPublicKeyInfo, key: Key, message: &[u8], proof: &[u8]) -> bool {
    let algorithm = match key {
        Key::Ed25519 => ED25519_ID,
        Key::Elliptic => SHA256_WITH_ECDSA,
        _ => return true,
    };
    is_signed_by(info, algorithm, message, proof)
}

/// `CertificateRequest.CheckSignature`, with what Go says of a bad one.
pub(super) fn check_request(request: &X509CertificationRequest) -> Result<(), &'static str> {
    let info = &request.certification_request_info;
    let (algorithm, signature) = (&request.signature_algorithm, &request.signature_value.data);
    if is_signed(&info.subject_pki, algorithm, info.raw, signature) {
        return Ok(());
    }
    Err(match key(&info.subject_pki) {
        Key::Ed25519 => "x509: Ed25519 verification failure",
        Key::Rsa(_) => "crypto/rsa: verification error",
        _ => "x509: ECDSA verification failure",
    })
}
