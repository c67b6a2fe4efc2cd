//! The connections to one server: HTTP/2 ones carry many requests at once, HTTP/1.1 ones come back when they are free.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::{HttpsOptions, SendCause};
use crate::{
    Body,
    body::{Guard, Guarded},
    tls::{ReloadingClientConfig, handshake},
};

/// Requests per HTTP/2 connection before another is opened: below any server's limit, as those past it would wait for
/// watches to end.
const STREAMS: usize = 100;
/// HTTP/1.1 connections kept without work, and how long; less than servers keep them.
const IDLE_MAX: usize = 8;
const IDLE_FOR: Duration = Duration::from_secs(60);
/// How long a connection whose response was read may take to be free.
const RETURN_WITHIN: Duration = Duration::from_secs(1);
/// client-go's HTTP/2 health check.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes a server may send ahead, per response and in all.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

#[derive(Default)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    /// One connects at a time: those that wait find a connection they can share.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    http2: Vec<Http2>,
    idle: Vec<(http1::SendRequest<Body>, Instant)>,
    /// The TLS configuration that the connections were made with: with a new certificate come new ones.
    made_with: u64,
}

#[derive(Clone)]
struct Http2 {
    sender: http2::SendRequest<Body>,
    /// Held by each request under way.
    streams: Arc<()>,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(Http2),
}

/// A connection for one request.
pub(super) struct Lease {
    sender: Sender,
    pool: Weak<Shared>,
    made_with: u64,
    fresh: bool,
}

impl Pool {
    pub async fn lease(&self, tls: &ReloadingClientConfig, options: &HttpsOptions) -> Result<Lease, SendCause> {
        let side = tls.current();
        let made_with = side.generation;
        if let Some(sender) = self.shared.take(made_with) {
            return Ok(self.lend(sender, made_with, false));
        }
        let _connecting = self.connecting.lock().await;
        if let Some(sender) = self.shared.take(made_with) {
            return Ok(self.lend(sender, made_with, false));
        }
        let connect = async {
            let stream = handshake(&options.host, options.port, tls.server_name.as_deref(), side.any.clone())
                .await
                .map_err(SendCause::Connect)?;
            open(stream).await.map_err(SendCause::Http)
        };
        let limit = options.connect_timeout;
        let sender = timeout(limit, connect).await.map_err(|_| SendCause::ConnectTimeout(limit))??;
        if let Sender::Http2(connection) = &sender {
            self.shared.state.lock().http2.push(connection.clone());
        }
        Ok(self.lend(sender, made_with, true))
    }

    fn lend(&self, sender: Sender, made_with: u64, fresh: bool) -> Lease {
        Lease { sender, pool: Arc::downgrade(&self.shared), made_with, fresh }
    }
}

impl Shared {
    fn take(&self, made_with: u64) -> Option<Sender> {
        let mut state = self.state.lock();
        if state.made_with != made_with {
            *state = State { made_with, ..State::default() };
        }
        state.http2.retain(|connection| !connection.sender.is_closed());
        if let Some(connection) =
            state.http2.iter().find(|connection| Arc::strong_count(&connection.streams) <= STREAMS)
        {
            return Some(Sender::Http2(connection.clone()));
        }
        // The one used last is the least likely to be closed.
        while let Some((sender, since)) = state.idle.pop() {
            if sender.is_ready() && since.elapsed() < IDLE_FOR {
                return Some(Sender::Http1(sender));
            }
        }
        None
    }

    /// A connection that takes no more requests must not be lent again, however long those under way keep it open.
    fn forget(&self, streams: &Arc<()>) {
        self.state.lock().http2.retain(|connection| !Arc::ptr_eq(&connection.streams, streams));
    }

    fn put_back(&self, sender: http1::SendRequest<Body>, made_with: u64) {
        let mut state = self.state.lock();
        if state.made_with == made_with && state.idle.len() < IDLE_MAX {
            state.idle.push((sender, Instant::now()));
        }
    }
}

async fn open(stream: tokio_rustls::client::TlsStream<tokio::net::TcpStream>) -> hyper::Result<Sender> {
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    if is_http2 {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(stream)
            .await?;
        tokio::spawn(log_end(connection));
        return Ok(Sender::Http2(Http2 { sender, streams: Arc::new(()) }));
    }
    let (sender, connection) = http1::Builder::new().handshake(stream).await?;
    tokio::spawn(log_end(connection));
    Ok(Sender::Http1(sender))
}

async fn log_end(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection ended");
    }
}

impl Lease {
    pub fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Made for this request: it was not kept, so it cannot have gone stale.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// An error comes with the request where that was not sent.
    pub async fn send(self, request: Request<Body>) -> Result<Response<Body>, (hyper::Error, Option<Request<Body>>)> {
        let Lease { sender, pool, made_with, .. } = self;
        match sender {
            Sender::Http2(mut connection) => {
                let sent = connection.sender.try_send_request(request).await;
                let response = sent.map_err(|mut error| {
                    let unsent = error.take_message();
                    if let (Some(_), Some(pool)) = (&unsent, pool.upgrade()) {
                        pool.forget(&connection.streams);
                    }
                    (error.into_error(), unsent)
                })?;
                Ok(response.map(|body| Guarded::new(body, Stream(connection.streams)).boxed_unsync()))
            }
            Sender::Http1(mut sender) => {
                let sent = sender.try_send_request(request).await;
                let response: Response<Incoming> = sent.map_err(|mut error| {
                    let unsent = error.take_message();
                    (error.into_error(), unsent)
                })?;
                let guard = Return { sender, pool, made_with };
                Ok(response.map(|body| Guarded::new(body, guard).boxed_unsync()))
            }
        }
    }
}

/// Counts a request of an HTTP/2 connection while its response is read.
struct Stream(Arc<()>);

impl Guard for Stream {
    fn end(self, _: bool) {
        drop(self.0);
    }
}

/// Puts an HTTP/1.1 connection back when its response was read to the end.
struct Return {
    sender: http1::SendRequest<Body>,
    pool: Weak<Shared>,
    made_with: u64,
}

impl Guard for Return {
    fn end(mut self, complete: bool) {
        let (true, Ok(runtime)) = (complete, tokio::runtime::Handle::try_current()) else { return };
        runtime.spawn(async move {
            if let (Ok(Ok(())), Some(pool)) = (timeout(RETURN_WITHIN, self.sender.ready()).await, self.pool.upgrade()) {
                pool.put_back(self.sender, self.made_with);
            }
        });
    }
}
