//! Listeners, TLS and HTTP upgrades, as the API server, the kubelet and the clients need them. Knows no Kubernetes.

pub mod https;
pub mod server;
pub mod tls;
pub mod upgrade;
pub mod ws;

mod body;
mod linger;
mod reload;

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

/// What a body's stream can fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A response (or streamed request) body: whole, or a stream of shared chunks.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body of these bytes, not copied.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body without bytes.
pub fn empty() -> Body {
    full(Bytes::new())
}

/// The token of `Authorization: Bearer …`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The verified certificate that the peer of a connection presented: what authentication by certificate reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    pub common_name: String,
    pub organizations: Vec<String>,
    /// SHA-256 of the certificate's DER, lower-case hex.
    pub fingerprint: String,
}

impl fmt::Display for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CN={},O={}", self.common_name, self.organizations.join(","))
    }
}
