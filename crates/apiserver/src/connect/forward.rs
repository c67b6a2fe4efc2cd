//! One request passed on to a kubelet, a pod or an endpoint: as it is, or upgraded and then as bytes both ways.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use net::{Body, tls::ReloadingClientConfig};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Of one connection, not of the request.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
];

/// Where a request goes.
pub(crate) struct Target {
    host: String,
    port: u16,
    tls: Option<Arc<ReloadingClientConfig>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error("dial tcp {target}: {source}")]
    Connect { target: String, source: io::Error },
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] http::Error),
    #[error("{0}")]
    Upgrade(#[from] net::upgrade::UpgradeError),
    #[error("{0}")]
    WebSocket(#[from] net::ws::WebSocketError),
    #[error("the backend answered {0} to a request to switch to SPDY")]
    Refused(StatusCode),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Target {
    pub(crate) fn tls(host: &str, port: u16, tls: Arc<ReloadingClientConfig>) -> Target {
        Target { host: host.to_owned(), port, tls: Some(tls) }
    }

    pub(crate) fn tcp(host: &str, port: u16) -> Target {
        Target { host: host.to_owned(), port, tls: None }
    }

    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        let connect = async {
            Ok::<Box<dyn Stream>, io::Error>(match &self.tls {
                Some(tls) => Box::new(net::tls::dial_tls(&self.host, self.port, tls).await?),
                None => Box::new(TcpStream::connect((self.host.as_str(), self.port)).await?),
            })
        };
        tokio::time::timeout(CONNECT_WITHIN, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// A connection on which requests can be sent.
    async fn connect<B>(&self) -> Result<SendRequest<B>, ForwardError>
    where
        B: HttpBody<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let stream = self.dial().await.map_err(|source| ForwardError::Connect { target: self.authority(), source })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection of a forwarded request ended");
            }
        });
        Ok(sender)
    }
}

/// A backend's answer without what is of its connection only.
fn passed_on(mut answer: Response<Incoming>) -> Response<Body> {
    for name in &HOP_BY_HOP {
        answer.headers_mut().remove(name);
    }
    answer.map(|body| body.map_err(Into::into).boxed_unsync())
}

/// The host that a client asked for, with its port.
pub(super) fn host<B>(request: &Request<B>) -> String {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| Some(request.uri().authority()?.as_str())).unwrap_or_default().to_owned()
}

/// Sends `request` to `target` under the path and query of `uri`. The client's credentials stay here.
pub(crate) async fn send(request: Request<Body>, target: Target, uri: Uri) -> Result<Response<Body>, ForwardError> {
    if net::upgrade::requested(request.headers()).is_some() {
        let full =
            Uri::builder().scheme("http").authority(target.authority()).path_and_query(uri.to_string()).build()?;
        return Ok(net::upgrade::try_proxy(request, target.dial(), full, HeaderMap::new()).await?);
    }
    let mut sender = target.connect().await?;
    let host = Some(host(&request)).filter(|host| !host.is_empty()).unwrap_or_else(|| target.authority());
    let (parts, body) = request.into_parts();
    let mut forwarded = Request::builder().method(parts.method).uri(uri).body(body)?;
    *forwarded.headers_mut() = parts.headers;
    let headers = forwarded.headers_mut();
    for name in HOP_BY_HOP.iter().chain(&[header::AUTHORIZATION, header::COOKIE]) {
        headers.remove(name);
    }
    headers.insert(header::HOST, HeaderValue::from_str(&host).map_err(http::Error::from)?);
    Ok(passed_on(sender.send_request(forwarded).await?))
}

/// A log through a WebSocket: the backend is asked for it as ever, and what it answers becomes messages. What is no log is
/// handed back as it is (apiserver `pkg/endpoints/handlers/responsewriters`, StreamObject).
pub(super) async fn messages(
    mut request: Request<Body>,
    target: Target,
    uri: Uri,
) -> Result<Response<Body>, ForwardError> {
    let plain = Request::get(uri).header(header::HOST, target.authority()).body(Empty::<Bytes>::new())?;
    let answer = passed_on(target.connect().await?.send_request(plain).await?);
    if answer.status().is_success() {
        return Ok(net::ws::serve_body(&mut request, answer.into_body())?);
    }
    Ok(answer)
}

/// A port-forward over a WebSocket, as kubectl asks for since 1.30: its messages carry the bytes of a SPDY connection,
/// which is what kubelets speak (apiserver `pkg/util/proxy/streamtunnel.go`).
pub(crate) async fn tunnel(
    mut request: Request<Body>,
    target: Target,
    uri: Uri,
) -> Result<Response<Body>, ForwardError> {
    let mut sender = target.connect().await?;
    let spdy = Request::post(uri)
        .header(header::HOST, target.authority())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header("x-stream-protocol-version", "portforward.k8s.io")
        .body(Empty::<Bytes>::new())?;
    let mut answer = sender.send_request(spdy).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(ForwardError::Refused(answer.status()));
    }
    let upstream = hyper::upgrade::on(&mut answer);
    let (response, tunnel) = net::ws::accept(&mut request, &[net::ws::PORT_FORWARD_TUNNEL])?.tunnel();
    tokio::spawn(async move {
        let pumped = async {
            let mut client = tunnel.await?;
            let mut upstream = TokioIo::new(upstream.await.map_err(io::Error::other)?);
            tokio::io::copy_bidirectional(&mut client, &mut upstream).await
        };
        if let Err(error) = pumped.await {
            tracing::debug!(%error, "tunnel ended");
        }
    });
    Ok(response)
}
