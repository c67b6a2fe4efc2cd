//! A server with a handler, and clients of it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use net::{
    Body,
    https::{HttpsClient, HttpsOptions, SendError},
    server::{Handler, ServeOptions, serve_tls},
    tls::{ClientTls, Identity, Pem, ReloadingServerConfig, ServerTls, Trust, server_config},
};
use tokio::{io::AsyncReadExt, net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::pki::{Authority, identity};

/// Longer than anything here takes.
pub const SOON: Duration = Duration::from_secs(10);

/// Ends with the test.
pub struct Server {
    pub address: SocketAddr,
    pub tls: Arc<ReloadingServerConfig>,
    pub cancel: CancellationToken,
    pub task: JoinHandle<()>,
}

pub fn handler<F, Fut>(handle: F) -> Handler
where
    F: Fn(Request<Incoming>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    Arc::new(move |request| handle(request).boxed())
}

pub fn text(text: impl Into<String>) -> Response<Body> {
    Response::new(net::full(text.into()))
}

pub async fn serve(identity: Identity, client_cas: Vec<Pem>, handler: Handler, options: ServeOptions) -> Server {
    let tls = server_config(ServerTls { identity, client_cas }).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let task = tokio::spawn(serve_tls(listener, tls.clone(), handler, options, cancel.clone()));
    Server { address, tls, cancel, task }
}

/// A server whose certificate and clients come from `authority`.
pub async fn start(authority: &Authority, handler: Handler) -> Server {
    start_with(authority, handler, ServeOptions::default()).await
}

pub async fn start_with(authority: &Authority, handler: Handler, options: ServeOptions) -> Server {
    serve(identity(authority.server()), vec![authority.bundle()], handler, options).await
}

pub fn options(server: SocketAddr, trusted: &Authority, identity: Option<Identity>) -> HttpsOptions {
    let tls = ClientTls { trust: Trust::Bundle(trusted.bundle()), identity, server_name: None };
    HttpsOptions::new(server.ip().to_string(), server.port(), tls)
}

pub fn client(server: SocketAddr, trusted: &Authority, identity: Option<Identity>) -> HttpsClient {
    HttpsClient::new(options(server, trusted, identity)).unwrap()
}

pub async fn get(client: &HttpsClient, path: &str) -> Result<(StatusCode, String), SendError> {
    let response = client.send(Request::get(path).body(net::empty()).unwrap()).await?;
    let status = response.status();
    let body: Bytes = response.into_body().collect().await.unwrap().to_bytes();
    Ok((status, String::from_utf8(body.to_vec()).unwrap()))
}

/// Reads up to the end of an HTTP/1.1 head.
pub async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(SOON, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(head).unwrap()
}
