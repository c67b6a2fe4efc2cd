//! Who asks: a client certificate that the cluster's CA signed, or a bearer token of a service account.

use std::sync::Arc;

use api::Status;
use http::{HeaderMap, header};
use net::PeerCertificate;

use super::{UserInfo, tokens::Tokens};
use crate::{Clock, Config, cache::Cache};

pub struct Authentication {
    pub(crate) tokens: Tokens,
}

impl Authentication {
    pub fn new(config: &Config, cache: Arc<Cache>, clock: Arc<dyn Clock>) -> Result<Authentication, String> {
        Ok(Authentication { tokens: Tokens::new(&config.service_account, cache, clock)? })
    }

    /// Credentials that are wrong are refused; a request without any is anonymous.
    pub async fn authenticate(&self, certificate: Option<&PeerCertificate>, headers: &HeaderMap) -> Result<UserInfo, Status> {
        if let Some(certificate) = certificate
            && !certificate.common_name.is_empty()
        {
            let mut user = UserInfo::authenticated(&certificate.common_name, certificate.organizations.iter().cloned());
            user.extra.insert(
                "authentication.kubernetes.io/credential-id".into(),
                vec![format!("X509SHA256={}", certificate.fingerprint)],
            );
            return Ok(user);
        }
        let Some(token) = bearer(headers) else {
            if headers.contains_key(header::AUTHORIZATION) {
                return Err(Status::unauthorized());
            }
            return Ok(UserInfo::anonymous());
        };
        match self.tokens.verify(token, &[]).await {
            Ok(verified) => Ok(verified.user),
            Err(error) => {
                tracing::debug!(%error, "bearer token refused");
                Err(Status::unauthorized())
            }
        }
    }
}

/// The token of `Authorization: Bearer …`, or of a WebSocket's `base64url.bearer.authorization.k8s.io.` subprotocol.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
