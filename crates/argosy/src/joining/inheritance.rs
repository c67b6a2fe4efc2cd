//! Fetches what was sealed for a master: the cluster's authorities, its layout, and how it encrypts.

use std::time::Duration;

use api::status::Reason;
use client::{Clock, kinds::core::v1::Secret, kubeconfig::User};
use cluster::joining::{
    TOKENS_NAMESPACE,
    masters::{CertificateKey, Inheritance, inheritance_name},
};
use tokio::time::Instant;

use super::{
    Invitation,
    credentials::{refused, token_client},
    discovery::discover,
    error::JoinError,
    kubeconfig,
};

/// A token and its rights are known to every API server a moment after they were made.
const KNOWN_AFTER: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(250);

pub async fn fetch(invitation: &Invitation, key: &CertificateKey, clock: &dyn Clock) -> Result<Inheritance, JoinError> {
    let cluster = discover(invitation, clock).await?;
    let user = User { token: Some(invitation.token.to_string()), ..User::default() };
    let client = token_client(&kubeconfig(cluster, user))?;
    let (secrets, begin) = (client.namespaced::<Secret>(TOKENS_NAMESPACE), Instant::now());
    let id = invitation.token.id().to_owned();
    loop {
        let error = match secrets.find(&inheritance_name(&id)).await {
            Ok(Some(secret)) => {
                let data = secret.data.unwrap_or_default().into_iter().map(|(name, value)| (name, value.0)).collect();
                return Ok(Inheritance::open(&data, key)?);
            }
            Ok(None) => return Err(JoinError::NotMaster { id }),
            Err(error) => error,
        };
        let denied = matches!(error.reason(), Some(Reason::Unauthorized | Reason::Forbidden));
        if !denied || begin.elapsed() > KNOWN_AFTER {
            return Err(match error.reason() {
                Some(Reason::Forbidden) => JoinError::NotMaster { id },
                _ => refused(error, invitation),
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}
