//! Who asks: a client certificate that the cluster's CA signed, or a bearer token of a service account or of a machine that
//! joins.

use std::sync::Arc;

use api::Status;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Extensions, HeaderMap, header};
use net::{PeerCertificate, tls::UnverifiedCertificate};

use super::{
    UserInfo,
    bootstrap::BootstrapTokens,
    tokens::{Tokens, Verified},
};
use crate::{Clock, Config, cache::Cache};

pub struct Authentication {
    pub(crate) tokens: Tokens,
    /// `None`: not taken.
    bootstrap: Option<BootstrapTokens>,
}

impl Authentication {
    pub fn new(config: &Config, cache: Arc<Cache>, clock: Arc<dyn Clock>) -> Result<Authentication, String> {
        let bootstrap = config.bootstrap_token_auth.then(|| BootstrapTokens::new(cache.clone(), clock.clone()));
        Ok(Authentication { tokens: Tokens::new(&config.service_account, cache, clock)?, bootstrap })
    }

    /// Whose bearer token it is, and for which of `audiences` (or of this server's, where none are named). Why it is none is
    /// for the log; `None` to those who showed it.
    pub(crate) async fn verify(&self, token: &str, audiences: &[String]) -> Option<Verified> {
        let own = self.tokens.default_audiences();
        if let Some(bootstrap) = &self.bootstrap
            && let Some(found) = bootstrap.verify(token).await
        {
            // It names no audience, so it is for this server.
            let shared = own.iter().filter(|audience| audiences.is_empty() || audiences.contains(audience));
            let shared: Vec<String> = shared.cloned().collect();
            return match found {
                Ok(user) => {
                    Some(Verified { user, audiences: shared }).filter(|verified| !verified.audiences.is_empty())
                }
                Err(error) => {
                    tracing::debug!(%error, "bootstrap token refused");
                    None
                }
            };
        }
        let verified = self.tokens.verify(token, audiences).await;
        verified.inspect_err(|error| tracing::debug!(%error, "bearer token refused")).ok()
    }

    /// Credentials that are wrong are refused; a request without any is anonymous.
    pub async fn authenticate(&self, extensions: &Extensions, headers: &HeaderMap) -> Result<UserInfo, Status> {
        if let Some(certificate) = extensions.get::<PeerCertificate>()
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
            let is_stranger = extensions.get::<UnverifiedCertificate>().is_some();
            if is_stranger || headers.contains_key(header::AUTHORIZATION) {
                return Err(Status::unauthorized());
            }
            return Ok(UserInfo::anonymous());
        };
        self.verify(&token, &[]).await.map(|verified| verified.user).ok_or_else(Status::unauthorized)
    }
}

/// The token of `Authorization: Bearer …`, or of a WebSocket's `base64url.bearer.authorization.k8s.io.` subprotocol.
fn bearer(headers: &HeaderMap) -> Option<String> {
    if headers.contains_key(header::AUTHORIZATION) {
        net::bearer(headers).map(str::to_owned)
    } else {
        websocket_bearer(headers)
    }
}

/// Browsers cannot set headers of a WebSocket, so they name the token among its subprotocols (upstream apiserver
/// `pkg/authentication/request/websocket/protocol.go`).
fn websocket_bearer(headers: &HeaderMap) -> Option<String> {
    let is_websocket = headers.get(header::UPGRADE)?.to_str().ok()?.eq_ignore_ascii_case("websocket");
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut protocols = offered.flat_map(|value| value.split(',')).map(str::trim);
    let token = protocols.find_map(|protocol| protocol.strip_prefix("base64url.bearer.authorization.k8s.io."))?;
    let token = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).ok()?;
    String::from_utf8(token).ok().filter(|token| is_websocket && !token.is_empty())
}
