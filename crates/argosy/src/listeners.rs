//! Sockets of the process and what is answered on them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::Context;
use apiserver::Server;
use futures_util::FutureExt;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use net::server::Handler;
use tokio::net::TcpListener;

/// Listens, or says who cannot and why.
pub async fn bind(component: &str, address: IpAddr, port: u16) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::from((address, port));
    TcpListener::bind(address).await.with_context(|| format!("{component} cannot listen on {address}"))
}

/// Hands requests to the API server.
pub fn api(server: Arc<Server>) -> Handler {
    Arc::new(move |request| server.handle(request.map(|body| body.map_err(Into::into).boxed_unsync())))
}

/// What upstream's components answer to everybody on their secure port: that they are alive.
pub fn health() -> Handler {
    Arc::new(|request| {
        let (status, text) = match request.uri().path() {
            "/healthz" | "/livez" | "/readyz" => (StatusCode::OK, "ok"),
            _ => (StatusCode::NOT_FOUND, "404 page not found\n"),
        };
        let mut response = Response::new(net::full(text));
        *response.status_mut() = status;
        std::future::ready(response).boxed()
    })
}
