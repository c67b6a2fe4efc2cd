//! The seam to whoever holds the cluster's signing key.

use std::time::Duration;

use async_trait::async_trait;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SignError(pub String);

/// Signs certificate requests. The key stays behind this trait; the crate `cluster` implements it.
#[async_trait]
pub trait Signer: Send + Sync + 'static {
    /// A client or serving certificate for the PEM request, as PEM, valid for `expiration` at most. Usages are
    /// `spec.usages` of the CertificateSigningRequest.
    async fn sign(
        &self,
        signer_name: &str,
        request_pem: &[u8],
        usages: &[String],
        expiration: Option<Duration>,
    ) -> Result<Vec<u8>, SignError>;
}
