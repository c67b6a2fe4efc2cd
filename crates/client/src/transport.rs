//! The seam between the client and what carries its requests: TLS to a server, or a function in the same process.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use net::{Body, BoxError, https::HttpsClient};

use crate::{
    Client, Result,
    kubeconfig::{self, Kubeconfig, KubeconfigError},
};

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

/// Requests over TLS to one server, with the client certificate or token it was made with.
#[derive(Clone)]
pub struct Https {
    client: HttpsClient,
}

impl Https {
    pub fn new(client: HttpsClient) -> Https {
        Https { client }
    }
}

#[async_trait]
impl Transport for Https {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        let sent = self.client.send(request.map(net::full)).await;
        sent.map_err(|error| TransportError { server: error.server, source: Box::new(error.cause) })
    }
}

/// What answers requests in the same process.
pub type LocalHandler = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Requests to the API server of the same process. Whoever makes the handler gives its requests their identity; they take
/// the same path as others from there.
#[derive(Clone)]
pub struct Local {
    handler: LocalHandler,
}

impl Local {
    pub fn new(handler: LocalHandler) -> Local {
        Local { handler }
    }
}

#[async_trait]
impl Transport for Local {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        // An answer from memory is always ready: without this a task of requests alone would never let others run, nor
        // see that it has been cancelled.
        tokio::task::coop::consume_budget().await;
        Ok((self.handler)(request).await)
    }
}

impl Client {
    /// The server and user of the kubeconfig's current context.
    pub fn from_kubeconfig(config: &Kubeconfig, user_agent: &str) -> Result<Client> {
        let client = HttpsClient::new(config.https_options()?).map_err(KubeconfigError::from)?;
        Ok(Client::new(Arc::new(Https::new(client)), user_agent))
    }

    /// As the service account of the pod that this process runs in. This reads the environment, so it is for the edge of a
    /// program; [`kubeconfig::in_cluster`] is told host and port.
    pub fn in_cluster(user_agent: &str) -> Result<Client> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(host), Some(port)) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"))
        else {
            return Err(KubeconfigError::NotInCluster.into());
        };
        Client::from_kubeconfig(&kubeconfig::in_cluster(&host, &port), user_agent)
    }
}
