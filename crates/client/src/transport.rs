//! The seam between the client and what carries its requests.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use net::{Body, BoxError};

/// Sends one request and hands back the response as soon as its head is there; the body streams.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// `request` has a path and query as its URI (no scheme or authority) and no authentication: the transport adds the
    /// identity it was made for.
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, TransportError>;
}

#[derive(Debug, thiserror::Error)]
#[error("{server}: {source}")]
pub struct TransportError {
    /// Where the request went.
    pub server: String,
    pub source: BoxError,
}
