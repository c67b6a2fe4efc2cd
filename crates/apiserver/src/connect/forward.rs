//! One request passed on to a kubelet, a pod or an endpoint: as it is, or upgraded and then as bytes both ways.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use http_body_util::Empty;
use hyper::client::conn::http1;
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

    fn authority(&self) -> String {
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
}

/// Sends `request` to `target` under the path and query of `uri`. The client's credentials stay here.
pub(crate) async fn send(request: Request<Body>, target: Target, uri: Uri) -> Result<Response<Body>, ForwardError> {
    if net::upgrade::requested(request.headers()).is_some() {
        let full =
            Uri::builder().scheme("http").authority(target.authority()).path_and_query(uri.to_string()).build()?;
        return Ok(net::upgrade::try_proxy(request, target.dial(), full, HeaderMap::new()).await?);
    }
    let stream = target.dial().await.map_err(|source| ForwardError::Connect { target: target.authority(), source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection of a forwarded request ended");
        }
    });
    let (parts, body) = request.into_parts();
    let mut forwarded = Request::builder().method(parts.method).uri(uri).body(body)?;
    *forwarded.headers_mut() = parts.headers;
    let headers = forwarded.headers_mut();
    for name in HOP_BY_HOP.iter().chain(&[header::AUTHORIZATION, header::COOKIE]) {
        headers.remove(name);
    }
    headers.insert(header::HOST, HeaderValue::from_str(&target.authority()).map_err(http::Error::from)?);
    let mut answer = sender.send_request(forwarded).await?;
    for name in &HOP_BY_HOP {
        answer.headers_mut().remove(name);
    }
    Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
}

/// A port-forward over a WebSocket, as kubectl asks for since 1.30: its messages carry the bytes of a SPDY connection,
/// which is what kubelets speak (apiserver `pkg/util/proxy/streamtunnel.go`).
pub(crate) async fn tunnel(
    mut request: Request<Body>,
    target: Target,
    uri: Uri,
) -> Result<Response<Body>, ForwardError> {
    let stream = target.dial().await.map_err(|source| ForwardError::Connect { target: target.authority(), source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection of a tunnel ended");
        }
    });
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
