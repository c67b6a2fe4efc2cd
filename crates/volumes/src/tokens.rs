//! Service account tokens, kept until they should be renewed (upstream `pkg/kubelet/token/token_manager.go`).

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::{ObjectSource, SourceError, Token, TokenQuery};

/// A token older than this is renewed whatever its lifetime.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(24);

#[derive(Default)]
pub(crate) struct TokenCache {
    tokens: Mutex<HashMap<TokenQuery, Issued>>,
}

#[derive(Clone)]
struct Issued {
    token: Token,
    at: Timestamp,
}

impl Issued {
    /// Past 80% of its life, or old.
    fn should_renew(&self, now: Timestamp) -> bool {
        let lifetime = self.token.expires.duration_since(self.at);
        let age = now.duration_since(self.at);
        age > AGE_MAX || age.as_secs().saturating_mul(5) > lifetime.as_secs().saturating_mul(4)
    }
}

impl TokenCache {
    /// The token at hand while it is fresh, else a new one; where none can be had, the old one while it still holds.
    pub(crate) async fn get(
        &self,
        source: &dyn ObjectSource,
        query: &TokenQuery,
        now: Timestamp,
    ) -> Result<String, SourceError> {
        let present = self.tokens.lock().get(query).cloned();
        if let Some(issued) = present.as_ref().filter(|issued| !issued.should_renew(now)) {
            return Ok(issued.token.token.clone());
        }
        match source.service_account_token(query).await {
            Ok(token) => {
                let text = token.token.clone();
                self.tokens.lock().insert(query.clone(), Issued { token, at: now });
                Ok(text)
            }
            Err(error) => match present {
                Some(issued) if now < issued.token.expires => Ok(issued.token.token),
                _ => Err(error),
            },
        }
    }

    pub(crate) fn forget_pod(&self, uid: &str) {
        self.tokens.lock().retain(|query, _| query.pod_uid != uid);
    }
}
