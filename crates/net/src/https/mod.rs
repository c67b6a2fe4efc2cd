//! An HTTPS client of one server: connections are kept and shared, requests carry a token or the connection a certificate.

mod pool;

use std::{path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, Uri, Version, header, uri};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::client::TlsStream;

use crate::{
    Body,
    reload::Reloading,
    tls::{ClientTls, Pem, ReloadingClientConfig, TlsError, client_config, dial_tls},
};
use pool::Pool;

/// A bearer token; a file is read again when it changes.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    Value(String),
    File(PathBuf),
}

/// Tokens never reach a log.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Token::Value(_) => f.write_str("inline token"),
            Token::File(path) => write!(f, "{}", path.display()),
        }
    }
}

#[derive(Clone, Debug)]
pub struct HttpsOptions {
    /// Name or address, without brackets.
    pub host: String,
    pub port: u16,
    pub tls: ClientTls,
    pub token: Option<Token>,
    /// For name look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// From the request being sent to the response's head; `None` waits for ever. Upstream's API server answers
    /// everything but watches within 60 s, and a watch's head comes at once.
    pub head_timeout: Option<Duration>,
}

impl HttpsOptions {
    pub fn new(host: impl Into<String>, port: u16, tls: ClientTls) -> HttpsOptions {
        HttpsOptions {
            host: host.into(),
            port,
            tls,
            token: None,
            connect_timeout: Duration::from_secs(10),
            head_timeout: Some(Duration::from_secs(70)),
        }
    }
}

/// A request without answer.
#[derive(Debug, thiserror::Error)]
#[error("{server}: {cause}")]
pub struct SendError {
    /// `host:port`.
    pub server: String,
    pub cause: SendCause,
}

#[derive(Debug, thiserror::Error)]
pub enum SendCause {
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("no answer within {0:?}")]
    HeadTimeout(Duration),
    #[error("{}", with_sources(.0))]
    Http(#[from] hyper::Error),
    #[error("not a valid request: {0}")]
    Request(#[from] http::Error),
}

/// hyper's texts name no cause by themselves.
fn with_sources(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Cheap to clone: all clones share their connections.
#[derive(Clone)]
pub struct HttpsClient {
    shared: Arc<Shared>,
}

struct Shared {
    options: HttpsOptions,
    /// As requests name the server: `host:port`, an IPv6 address in brackets.
    authority: uri::Authority,
    tls: Arc<ReloadingClientConfig>,
    authorization: Option<Reloading<HeaderValue>>,
    pool: Pool,
}

impl HttpsClient {
    /// Reads certificates, keys and token; connects with the first request.
    pub fn new(options: HttpsOptions) -> Result<HttpsClient, TlsError> {
        let tls = client_config(options.tls.clone())?;
        let host = if options.host.contains(':') { format!("[{}]", options.host) } else { options.host.clone() };
        let authority = format!("{host}:{}", options.port);
        let authority = authority.parse().map_err(|_| TlsError::ServerName(options.host.clone()))?;
        let authorization = options.token.clone().map(authorization).transpose()?;
        let shared = Shared { authority, tls, authorization, pool: Pool::default(), options };
        Ok(HttpsClient { shared: Arc::new(shared) })
    }

    /// `host:port`.
    pub fn server(&self) -> &str {
        self.shared.authority.as_str()
    }

    /// Sends a request whose URI is a path and query; scheme, authority, `Host` and the token are set here. Gives the
    /// response as soon as its head is there.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Body>, SendError> {
        self.try_send(request).await.map_err(|cause| SendError { server: self.server().to_owned(), cause })
    }

    async fn try_send(&self, mut request: Request<Body>) -> Result<Response<Body>, SendCause> {
        let shared = &*self.shared;
        if let Some(authorization) = &shared.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::clone(&authorization.current()));
        }
        let sent = async {
            // A kept connection may have been closed by the server just now; then the request was not sent and goes over
            // another. A fresh connection is the last try.
            loop {
                let lease = shared.pool.lease(&shared.tls, &shared.options).await?;
                self.address(&mut request, lease.is_http2())?;
                let fresh = lease.is_fresh();
                match lease.send(request).await {
                    Ok(response) => return Ok(response),
                    Err((_, Some(unsent))) if !fresh => request = unsent,
                    Err((error, _)) => return Err(error.into()),
                }
            }
        };
        let Some(limit) = shared.options.head_timeout else { return sent.await };
        timeout(limit, sent).await.map_err(|_| SendCause::HeadTimeout(limit))?
    }

    /// HTTP/2 wants the whole URI, HTTP/1.1 the path with a `Host`.
    fn address(&self, request: &mut Request<Body>, http2: bool) -> Result<(), http::Error> {
        let authority = &self.shared.authority;
        let mut parts = uri::Parts::default();
        parts.path_and_query = request.uri().path_and_query().cloned();
        if http2 {
            parts.scheme = Some(uri::Scheme::HTTPS);
            parts.authority = Some(authority.clone());
            request.headers_mut().remove(header::HOST);
        } else {
            request.headers_mut().insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
        }
        *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        *request.uri_mut() = Uri::from_parts(parts)?;
        Ok(())
    }

    /// A connection of its own on which HTTP/1.1 is spoken, for an upgrade.
    pub async fn dial(&self) -> Result<TlsStream<TcpStream>, SendError> {
        let options = &self.shared.options;
        let dialled = timeout(options.connect_timeout, dial_tls(&options.host, options.port, &self.shared.tls)).await;
        let cause = match dialled {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => SendCause::Connect(error),
            Err(_) => SendCause::ConnectTimeout(options.connect_timeout),
        };
        Err(SendError { server: self.server().to_owned(), cause })
    }

    /// The `Authorization` header that requests are sent with, for requests sent by other means.
    pub fn authorization(&self) -> Option<HeaderValue> {
        self.shared.authorization.as_ref().map(|value| HeaderValue::clone(&value.current()))
    }
}

fn authorization(token: Token) -> Result<Reloading<HeaderValue>, TlsError> {
    let source = match token {
        Token::Value(token) => Pem::inline(token),
        Token::File(path) => Pem::File(path),
    };
    Reloading::new(vec![source.clone()], move || {
        let text = source.read()?;
        let mut value = b"Bearer ".to_vec();
        value.extend_from_slice(text.trim_ascii());
        let mut value =
            HeaderValue::from_bytes(&value).map_err(|_| TlsError::Token { origin: format!("{source:?}") })?;
        value.set_sensitive(true);
        Ok(value)
    })
}
