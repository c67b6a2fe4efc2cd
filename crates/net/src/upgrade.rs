//! An HTTP/1.1 upgrade passed on: the request goes to another server, and once both have switched protocols (SPDY,
//! WebSocket) bytes go both ways unread. What `kubectl exec`, `attach` and `port-forward` pass through the API server and
//! the kubelet.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::{
    client::conn::http1,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Body;

/// From the connection's beginning to the upstream's answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Of one connection, not of the request. `Connection` and `Upgrade` are among them, and set anew.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    #[error("the request asks for no upgrade")]
    NotAnUpgrade,
    #[error("the request cannot be upgraded; only HTTP/1.1 can")]
    NotUpgradable,
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("upgrade: {0}")]
    Http(#[from] hyper::Error),
    #[error("not a valid request: {0}")]
    Request(#[from] http::Error),
}

/// The protocols that a request asks to switch to; `None` for an ordinary request.
pub fn requested(headers: &HeaderMap) -> Option<&HeaderValue> {
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut tokens = named.flat_map(|value| value.split(',')).map(str::trim);
    tokens.any(|token| token.eq_ignore_ascii_case("upgrade")).then(|| headers.get(header::UPGRADE)).flatten()
}

/// Passes `request` on over the connection that `dial` gives, as [`try_proxy`]; a failure is a 502 with its text.
pub async fn proxy<S, B>(
    request: Request<B>,
    dial: impl Future<Output = io::Result<S>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response<Body>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    try_proxy(request, dial, uri, headers).await.unwrap_or_else(|error| {
        let code = match error {
            UpgradeError::NotAnUpgrade | UpgradeError::NotUpgradable => StatusCode::BAD_REQUEST,
            _ => StatusCode::BAD_GATEWAY,
        };
        let mut response = Response::new(crate::full(error.to_string()));
        *response.status_mut() = code;
        response
    })
}

/// Passes `request` on over the connection that `dial` gives, with the path and query of `uri`, its authority as `Host`,
/// and `headers` in place of those of the same name. The client's own credentials (`Authorization`, `Cookie`) stay
/// here. A 101 is handed back with its headers, and once the client has it bytes are copied until both sides ended, each
/// side's end being passed on. Any other answer is handed back whole.
pub async fn try_proxy<S, B>(
    mut request: Request<B>,
    dial: impl Future<Output = io::Result<S>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response<Body>, UpgradeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let protocol = requested(request.headers()).cloned().ok_or(UpgradeError::NotAnUpgrade)?;
    // Asked for before anything is sent: whoever cannot be upgraded must not reach the upstream.
    let client = request.extensions_mut().remove::<OnUpgrade>().ok_or(UpgradeError::NotUpgradable)?;
    let forwarded = forward(&request, protocol, uri, headers)?;
    let exchange = async {
        let stream = dial.await.map_err(UpgradeError::Connect)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "upgraded connection's exchange failed");
            }
        });
        Ok::<_, UpgradeError>(sender.send_request(forwarded).await?)
    };
    let answered = tokio::time::timeout(ANSWER_WITHIN, exchange).await;
    let mut answer = answered.map_err(|_| UpgradeError::Timeout(ANSWER_WITHIN))??;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        for name in &HOP_BY_HOP {
            answer.headers_mut().remove(name);
        }
        return Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()));
    }
    let upstream = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        if let Err(error) = pump(client, upstream).await {
            tracing::debug!(%error, "upgraded connection ended");
        }
    });
    let mut response = Response::new(crate::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}

fn forward<B>(
    request: &Request<B>,
    protocol: HeaderValue,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Request<Empty<Bytes>>, http::Error> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut forwarded = Request::builder().method(request.method()).uri(path).body(Empty::new())?;
    *forwarded.headers_mut() = request.headers().clone();
    let sent = forwarded.headers_mut();
    for name in HOP_BY_HOP.iter().chain(&[header::AUTHORIZATION, header::COOKIE, header::CONTENT_LENGTH]) {
        sent.remove(name);
    }
    sent.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    sent.insert(header::UPGRADE, protocol);
    let host = uri.authority().map_or("localhost", |authority| authority.as_str());
    sent.insert(header::HOST, HeaderValue::from_str(host)?);
    for name in headers.keys() {
        sent.remove(name);
    }
    sent.extend(headers);
    Ok(forwarded)
}

async fn pump(client: OnUpgrade, upstream: OnUpgrade) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (client, upstream): (Upgraded, Upgraded) = tokio::try_join!(client, upstream)?;
    tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(upstream)).await?;
    Ok(())
}
