//! Listeners: TLS, then HTTP/1.1 or HTTP/2 as the client chose, each request with what is known of its connection.

use std::{io, net::SocketAddr, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, Response, StatusCode};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Body,
    linger::{self, Lent},
    tls::{Certificate, ReloadingServerConfig},
};

/// Answers one request. In the request's extensions: the peer's `SocketAddr`, and for a client with a verified
/// certificate [`crate::PeerCertificate`] and [`crate::tls::VerifiedBy`], with any other
/// [`crate::tls::UnverifiedCertificate`].
pub type Handler = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Connections at once; more wait to be accepted.
    pub max_connections: usize,
    pub handshake_timeout: Duration,
    /// HTTP/1.1: how long a client may take for a request's head, or idle before it. Upstream's idle time-out.
    pub header_timeout: Duration,
    /// HTTP/2: upstream's `--http2-max-streams-per-connection` as it is by default.
    pub max_streams: u32,
    /// HTTP/2: how likely a request makes its connection end once the requests on it have (upstream: `--goaway-chance`).
    pub goaway_chance: f64,
    /// HTTP/2: a client that leaves a ping unanswered this long after this long without traffic is gone.
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    /// How long requests may go on after the end was asked for.
    pub drain: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        ServeOptions {
            max_connections: 20_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(90),
            max_streams: 250,
            goaway_chance: 0.0,
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(15),
            drain: Duration::from_secs(60),
        }
    }
}

/// HTTP/2 bytes a client may send ahead, per request and in all (upstream: 256 KiB per stream).
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// HTTP/2 bytes kept for a slow reader, per request.
const SEND_BUFFER: usize = 64 << 10;
/// A request's head at most (upstream: Go's `http.DefaultMaxHeaderBytes`).
const HEAD_MAX: u32 = 1 << 20;
/// After a failed accept, as when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections of one listener share.
struct Shared {
    handler: Handler,
    options: ServeOptions,
    cancel: CancellationToken,
}

/// What is known of a connection's other end.
#[derive(Clone)]
struct Peer {
    address: SocketAddr,
    certificate: Option<Arc<Certificate>>,
}

/// Serves until `cancel`, then lets the requests under way end, for at most `options.drain`. Upgraded connections are not
/// waited for.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<ReloadingServerConfig>,
    handler: Handler,
    options: ServeOptions,
    cancel: CancellationToken,
) {
    serve(listener, Some(tls), handler, options, cancel).await;
}

/// The same without TLS and with HTTP/1.1 alone: for health checks on the loopback interface, as upstream's components
/// have them.
pub async fn serve_plain(listener: TcpListener, handler: Handler, options: ServeOptions, cancel: CancellationToken) {
    serve(listener, None, handler, options, cancel).await;
}

async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ReloadingServerConfig>>,
    handler: Handler,
    options: ServeOptions,
    cancel: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(options.max_connections));
    let drain = options.drain;
    let shared = Arc::new(Shared { handler, options, cancel: cancel.clone() });
    let connections = TaskTracker::new();
    let aborted = CancellationToken::new();
    while let Some((permit, (tcp, address))) = cancel.run_until_cancelled(accept(&listener, &permits)).await {
        let (tls, shared, aborted) = (tls.clone(), shared.clone(), aborted.clone());
        connections.spawn(async move {
            // Fails only for a connection that is gone, which shows below.
            let _ = tcp.set_nodelay(true);
            let (tcp, back) = linger::lend(tcp);
            let connection = connection(tcp, address, tls, shared);
            if let Some(Err(error)) = aborted.run_until_cancelled(connection).await {
                tracing::debug!(%address, error, "connection ended");
            }
            Box::pin(back.close()).await;
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests did not end in time");
        aborted.cancel();
        connections.wait().await;
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (Option<tokio::sync::OwnedSemaphorePermit>, (TcpStream, SocketAddr)) {
    // Never closed, so there is always a permit in the end.
    let permit = permits.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok(accepted) => return (permit, accepted),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    tcp: Lent,
    address: SocketAddr,
    tls: Option<Arc<ReloadingServerConfig>>,
    shared: Arc<Shared>,
) -> Result<(), String> {
    let Some(tls) = tls else {
        return Box::pin(http1(tcp, Peer { address, certificate: None }, shared)).await;
    };
    let (stream, peer) =
        match tokio::time::timeout(shared.options.handshake_timeout, Box::pin(handshake(tcp, address, &tls))).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => return Err(format!("TLS handshake: {error}")),
            Err(_) => return Err("TLS handshake: timed out".to_owned()),
        };
    drop(tls);
    match stream.get_ref().1.alpn_protocol() {
        // Boxed, as is the handshake: a connection would keep room for the largest of the three for all its life.
        Some(b"h2") => Box::pin(http2(stream, peer, shared)).await,
        _ => Box::pin(http1(stream, peer, shared)).await,
    }
}

async fn handshake(
    tcp: Lent,
    address: SocketAddr,
    tls: &ReloadingServerConfig,
) -> io::Result<(Box<tokio_rustls::server::TlsStream<Lent>>, Peer)> {
    let side = tls.current();
    let stream = Box::new(TlsAcceptor::from(side.config.clone()).accept(tcp).await?);
    let chain = stream.get_ref().1.peer_certificates();
    let certificate = chain.and_then(|chain| crate::tls::describe(chain, &side)).map(Arc::new);
    Ok((stream, Peer { address, certificate }))
}

async fn http1<S>(stream: S, peer: Peer, shared: Arc<Shared>) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(shared.options.header_timeout).max_buf_size(HEAD_MAX as usize);
    let cancel = shared.cancel.clone();
    let service = service_fn(move |request| answer(request, peer.clone(), shared.clone()));
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result.map_err(|error| error.to_string()),
        () = cancel.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(|error| error.to_string())
}

async fn http2<S>(stream: S, peer: Peer, shared: Arc<Shared>) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(shared.options.max_streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD_MAX)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(shared.options.ping_interval)
        .keep_alive_timeout(shared.options.ping_timeout);
    let chance = shared.options.goaway_chance;
    // Ends this connection alone, where that can come about.
    let cancel = if chance > 0.0 { shared.cancel.child_token() } else { shared.cancel.clone() };
    let own = cancel.clone();
    let service = service_fn(move |request| {
        if chance > 0.0 && rand::random_bool(chance.min(1.0)) {
            own.cancel();
        }
        answer(request, peer.clone(), shared.clone())
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result.map_err(|error| error.to_string()),
        () = cancel.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(|error| error.to_string())
}

/// A handler that panics costs its own request only.
async fn answer(
    mut request: Request<Incoming>,
    peer: Peer,
    shared: Arc<Shared>,
) -> Result<Response<Body>, std::convert::Infallible> {
    request.extensions_mut().insert(peer.address);
    if let Some(certificate) = &peer.certificate {
        certificate.show(request.extensions_mut(), std::time::SystemTime::now());
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let handled = AssertUnwindSafe(async { (shared.handler)(request).await }).catch_unwind().await;
    Ok(handled.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        tracing::error!(%method, path, panic = text.unwrap_or("(no text)"), "handler panicked");
        let mut response = Response::new(crate::full("This request made the server panic; its log has the details."));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    }))
}
