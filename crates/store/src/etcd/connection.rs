//! One HTTP/2 connection to one member: dialled, found to be a member, and known to say what happened to a request.

use std::{
    error::Error as StdError,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use prost::Message;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::{Code, Request, Status, Streaming, body::Body, metadata::AsciiMetadataValue};
use tonic_prost::ProstCodec;

use super::{EtcdOptions, proto};
use crate::{Error, Result};

/// etcd closes connections that ping more often than every 5 s (its `--grpc-keepalive-min-time`).
const KEEP_ALIVE: Duration = Duration::from_secs(6);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// As upstream's client: what etcd sends is bounded by our limits in lists.
const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;
const WINDOW_BYTES: u32 = 4 << 20;

/// Where a member is reached.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub text: String,
    origin: http::Uri,
    host: String,
    port: u16,
    tls: bool,
}

impl Endpoint {
    /// `https://HOST:PORT` or `http://HOST:PORT`.
    pub fn parse(text: &str) -> Result<Endpoint> {
        let bad = |why: &str| Error::Misconfigured { message: format!("etcd endpoint {text:?}: {why}") };
        let uri: http::Uri = text.parse().map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("it must begin with https:// or http://")),
        };
        let host = uri.host().ok_or_else(|| bad("it names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().ok_or_else(|| bad("it names no port"))?;
        Ok(Endpoint { text: text.to_owned(), origin: uri, host, port, tls })
    }
}

/// A call that was not answered as hoped.
#[derive(Debug)]
pub(super) struct Failure {
    pub code: Code,
    pub message: String,
    /// Whether the member may have seen the request.
    pub sent: bool,
    /// Nothing but another configuration helps.
    pub permanent: bool,
}

impl Failure {
    fn before(code: Code, message: String) -> Failure {
        Failure { code, message, sent: false, permanent: false }
    }

    fn from_error(error: Error) -> Failure {
        let permanent = matches!(error, Error::Misconfigured { .. });
        let message = match error {
            Error::Misconfigured { message } => message,
            other => other.to_string(),
        };
        Failure { code: Code::FailedPrecondition, message, sent: false, permanent }
    }

    /// The member is not there or not able to answer: another one may be.
    pub fn is_of_the_member(&self) -> bool {
        let codes = [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled, Code::Internal, Code::Unknown];
        !self.permanent && codes.contains(&self.code)
    }

    fn at(mut self, endpoint: &Endpoint) -> Failure {
        self.message = format!("{}: {}", endpoint.text, self.message);
        self
    }
}

/// A connection; clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    channel: Channel,
    endpoint: Arc<Endpoint>,
    /// The cluster that the member belongs to.
    pub cluster: u64,
    pub version: Version,
}

impl Connection {
    /// Connects and asks the member who it is. Nothing of what a caller wants to have done is sent before that is known.
    pub async fn dial(endpoint: &Arc<Endpoint>, options: &EtcdOptions) -> Result<Connection, Failure> {
        let limit = options.timeouts.connect;
        let late = || Failure::before(Code::Unavailable, format!("no connection in {limit:?}"));
        let dialled = tokio::time::timeout(limit, dial(endpoint, options)).await.unwrap_or_else(|_| Err(late()));
        dialled.map_err(|failure| failure.at(endpoint))
    }

    pub fn is_to(&self, endpoint: &Arc<Endpoint>) -> bool {
        Arc::ptr_eq(&self.endpoint, endpoint)
    }

    pub fn is_closed(&self) -> bool {
        self.channel.sender.is_closed()
    }

    pub async fn unary<Q, A>(&self, path: &'static str, request: Request<Q>, limit: Duration) -> Result<A, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc();
        let codec = ProstCodec::<Q, A>::default();
        let call = grpc.unary(request, http::uri::PathAndQuery::from_static(path), codec);
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.channel.failure(&status).at(&self.endpoint)),
            Err(_) => {
                let message = format!("no answer in {limit:?}");
                let failure = Failure { code: Code::DeadlineExceeded, message, sent: true, permanent: false };
                Err(failure.at(&self.endpoint))
            }
        }
    }

    /// What the member says of itself, which needs no other member.
    pub async fn status(&self, limit: Duration) -> Result<proto::StatusResponse, Failure> {
        self.unary("/etcdserverpb.Maintenance/Status", Request::new(proto::StatusRequest {}), limit).await
    }

    /// A stream both ways. Answers once the member has answered its head, which etcd sends with the first message.
    pub async fn stream<Q, A, S>(&self, path: &'static str, request: Request<S>) -> Result<Streaming<A>, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
        S: futures_util::Stream<Item = Q> + Send + 'static,
    {
        let mut grpc = self.grpc();
        let codec = ProstCodec::<Q, A>::default();
        let call = grpc.streaming(request, http::uri::PathAndQuery::from_static(path), codec);
        match call.await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(self.failure(&status)),
        }
    }

    /// The member must not be used.
    pub fn foreign(&self, message: String) -> Failure {
        Failure::from_error(Error::Misconfigured { message }).at(&self.endpoint)
    }

    pub fn failure(&self, status: &Status) -> Failure {
        self.channel.failure(status).at(&self.endpoint)
    }

    fn grpc(&self) -> tonic::client::Grpc<Channel> {
        tonic::client::Grpc::with_origin(self.channel.clone(), self.endpoint.origin.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

/// `major.minor.patch` of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub u32, pub u32, pub u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Version {
    fn parse(text: &str) -> Option<Version> {
        let mut parts = text.split(['.', '-', '+']).map(|part| part.parse().ok());
        Some(Version(parts.next()??, parts.next()??, parts.next()??))
    }

    /// Whether an answer to a progress request comes behind the events it speaks of. As upstream's
    /// apiserver/pkg/storage/feature/feature_support_checker.go.
    pub fn tells_progress(self) -> bool {
        self >= Version(3, 5, 13) || (Version(3, 4, 31)..Version(3, 5, 0)).contains(&self)
    }
}

async fn dial(endpoint: &Arc<Endpoint>, options: &EtcdOptions) -> Result<Connection, Failure> {
    let address = (endpoint.host.as_str(), endpoint.port);
    let unreachable = |error: io::Error| Failure::before(Code::Unavailable, format!("cannot connect: {error}"));
    let tcp = TcpStream::connect(address).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let trouble = Trouble::default();
    let sender = if endpoint.tls {
        let files = options.tls.as_ref().ok_or_else(|| {
            Failure::from_error(Error::Misconfigured { message: "https needs a CA file (--etcd-cafile)".into() })
        })?;
        let config = files.load().await.map_err(Failure::from_error)?;
        let name = ServerName::try_from(endpoint.host.clone())
            .map_err(|error| Failure::from_error(Error::Misconfigured { message: error.to_string() }))?;
        let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(|error| refused(&error))?;
        handshake(Noting { inner: tls, trouble: trouble.clone() }).await?
    } else {
        handshake(tcp).await?
    };
    let mut connection = Connection {
        channel: Channel { sender, trouble },
        endpoint: Arc::clone(endpoint),
        cluster: 0,
        version: Version(0, 0, 0),
    };
    let status = connection.status(options.timeouts.connect).await;
    let status = status.map_err(|failure| Failure { sent: false, ..failure })?;
    // A member that knows no leader cannot serve anything; the next one may.
    if status.leader == 0 {
        return Err(Failure::before(Code::Unavailable, "the member knows no leader of its cluster".into()));
    }
    // One that is still being brought up to date answers next to nothing.
    if status.is_learner {
        return Err(Failure::before(Code::Unavailable, "the member is a learner, and not promoted yet".into()));
    }
    let strange = || Failure::before(Code::Unavailable, "what answers there is no etcd".into());
    connection.cluster = status.header.ok_or_else(strange)?.cluster_id;
    connection.version = Version::parse(&status.version).ok_or_else(strange)?;
    Ok(connection)
}

async fn handshake<S>(stream: S) -> Result<http2::SendRequest<Body>, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(4 * WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Failure::before(Code::Unavailable, format!("no HTTP/2: {}", chain(&error))))?;
    tokio::spawn(async move {
        // Whoever waits for an answer on the connection is told.
        if let Err(error) = connection.await {
            tracing::debug!(error = chain(&error), "a connection to etcd ended");
        }
    });
    Ok(sender)
}

/// A TLS handshake that failed: as long as certificates are as they are, or for now.
fn refused(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => Failure { permanent: true, ..Failure::before(Code::Unauthenticated, tls_message(error)) },
        None => Failure::before(Code::Unavailable, format!("TLS handshake: {error}")),
    }
}

fn tls_message(error: &rustls::Error) -> String {
    match error {
        rustls::Error::AlertReceived(_) => format!("the member refuses our client certificate: {error}"),
        rustls::Error::InvalidCertificate(_) => format!("the member's certificate is not valid for us: {error}"),
        _ => format!("TLS: {error}"),
    }
}

fn chain(error: &(dyn StdError + 'static)) -> String {
    causes(error.source()).fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// An error and what is behind it.
fn causes<'a>(first: Option<&'a (dyn StdError + 'static)>) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = first;
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// hyper's connection as the service that tonic's client wants.
#[derive(Clone)]
struct Channel {
    sender: http2::SendRequest<Body>,
    trouble: Trouble,
}

/// A request that did not get an answer; `sent` is false where it certainly never left.
#[derive(Debug, thiserror::Error)]
#[error("connection lost: {}", chain(source))]
struct Lost {
    sent: bool,
    source: hyper::Error,
}

impl Channel {
    fn failure(&self, status: &Status) -> Failure {
        let lost = causes(status.source()).find_map(|cause| cause.downcast_ref::<Lost>());
        let sent = lost.is_none_or(|lost| lost.sent);
        // A server's refusal of our certificate arrives behind the handshake, where HTTP/2 loses what it says.
        if let Some(error) = &*self.trouble.0.lock() {
            return Failure { code: Code::Unauthenticated, message: tls_message(error), sent, permanent: true };
        }
        match lost {
            Some(lost) => Failure { code: Code::Unavailable, message: lost.to_string(), sent, permanent: false },
            None => Failure { code: status.code(), message: status.message().to_owned(), sent, permanent: false },
        }
    }
}

impl tower::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = Lost;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Lost>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        self.sender.poll_ready(cx).map_err(|source| Lost { sent: false, source })
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.sender.try_send_request(request);
        Box::pin(async move {
            answer.await.map_err(|mut error| {
                // hyper gives back a request that it did not write.
                let sent = error.take_message().is_none();
                Lost { sent, source: error.into_error() }
            })
        })
    }
}

/// The TLS error that ended a connection.
#[derive(Clone, Default)]
struct Trouble(Arc<Mutex<Option<rustls::Error>>>);

/// A TLS stream that notes a TLS error before HTTP/2 turns it into text.
struct Noting<S> {
    inner: S,
    trouble: Trouble,
}

impl<S> Noting<S> {
    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            *self.trouble.0.lock() = Some(error.clone());
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noting<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer));
        Poll::Ready(self.note(result))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noting<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes));
        Poll::Ready(self.note(result))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        Poll::Ready(self.note(result))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A request with what etcd wants to know of each: the token, and that only a member with a leader shall answer.
pub(super) fn request<Q>(message: Q, token: Option<&AsciiMetadataValue>) -> Request<Q> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", AsciiMetadataValue::from_static("true"));
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.clone());
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls_with_a_port() {
        for (text, wanted) in [
            ("https://10.0.0.1:2379", Some(("10.0.0.1", 2379, true))),
            ("http://etcd.example:2379/", Some(("etcd.example", 2379, false))),
            ("https://[::1]:2379", Some(("::1", 2379, true))),
            ("10.0.0.1:2379", None),
            ("https://10.0.0.1", None),
            ("unix:///run/etcd", None),
            ("", None),
        ] {
            let parsed = Endpoint::parse(text).ok();
            assert_eq!(parsed.as_ref().map(|e| (e.host.as_str(), e.port, e.tls)), wanted, "{text}");
        }
    }

    #[test]
    fn progress_is_trusted_from_the_versions_that_upstream_trusts() {
        for (text, trusted) in [
            ("3.4.23", false),
            ("3.4.30", false),
            ("3.4.31", true),
            ("3.5.0-rc.1", false),
            ("3.5.12", false),
            ("3.5.13", true),
            ("3.6.0", true),
        ] {
            assert_eq!(Version::parse(text).map(Version::tells_progress), Some(trusted), "{text}");
        }
        assert_eq!(Version::parse("not etcd"), None);
    }
}
