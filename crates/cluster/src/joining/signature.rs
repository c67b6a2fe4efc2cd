//! The signature by which `cluster-info` proves that it comes from somebody who knows the token: a JWS of HS256 with the
//! content left out (RFC 7515, appendix F; `k8s.io/cluster-bootstrap/token/jws`), under `jws-kubeconfig-ID`.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::token::BootstrapToken;

const KEY_PREFIX: &str = "jws-kubeconfig-";

/// The key of the ConfigMap under which the token's signature lies.
pub fn key_of(token: &BootstrapToken) -> String {
    format!("{KEY_PREFIX}{}", token.id())
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

/// Whether a signature is the token's, over this content.
pub fn verify(signature: &str, content: &str, token: &BootstrapToken) -> bool {
    let mut parts = signature.split('.');
    let (Some(header), Some(""), Some(tag), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let read = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
    let known = read(header).and_then(|json| serde_json::from_slice::<Header>(&json).ok());
    let is_tokens = known.is_some_and(|header| header.alg == "HS256" && header.kid == token.id());
    let signed = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(content));
    is_tokens && read(tag).is_some_and(|tag| hmac::verify(&key(token), signed.as_bytes(), &tag).is_ok())
}

/// The token's signature over this content.
pub fn sign(content: &str, token: &BootstrapToken) -> String {
    let header = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{}"}}"#, token.id()));
    let signed = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(content));
    let tag = hmac::sign(&key(token), signed.as_bytes());
    format!("{header}..{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
}

fn key(token: &BootstrapToken) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, token.secret().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_signature_is_verified_and_made() {
        // Made by other means, which make the signatures of upstream's jws_test.go too.
        let known = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..psz1NayrXM3IaFzKZGsb5n_mBl7MjtlsZ1xE8MRmF_4";
        let token: BootstrapToken = "abcdef.0123456789abcdef".parse().expect("a token");
        let signature = sign("content", &token);
        assert_eq!(signature, known);
        assert!(verify(&signature, "content", &token));
        assert!(!verify(&signature, "other content", &token));
        let (wrong_secret, wrong_id) = ("abcdef.0123456789abcdee", "abcdee.0123456789abcdef");
        for other in [wrong_secret, wrong_id] {
            assert!(!verify(&signature, "content", &other.parse().expect("a token")), "{other}");
        }
        let unsigned = format!("{}..", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"abcdef"}"#));
        for bad in
            ["", "..", "a.b.c", unsigned.as_str(), &signature.replace("..", ".Y29udGVudA."), &format!("{signature}.")]
        {
            assert!(!verify(bad, "content", &token), "{bad}");
        }
    }
}
