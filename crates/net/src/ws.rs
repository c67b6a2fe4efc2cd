//! The serving side of WebSockets, and byte streams tunnelled through them: kubectl sends its SPDY port-forward
//! connection as binary messages (upstream: apimachinery `pkg/util/portforward` constants, client-go
//! `tools/portforward/tunneling_connection.go`).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{Body, upgrade};

mod body;

pub use body::serve_body;

/// What kubectl offers for a port-forward through a WebSocket.
pub const PORT_FORWARD_TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// Bytes per message written; upstream's buffers are of this size.
const CHUNK: usize = 32 << 10;
/// A message or frame read at most.
const MESSAGE_MAX: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum WebSocketError {
    #[error("not a WebSocket request of version 13")]
    NotAWebSocket,
    #[error("the request cannot be upgraded; only HTTP/1.1 can")]
    NotUpgradable,
    #[error("none of the offered subprotocols is served here: {offered}")]
    Protocol { offered: String },
}

/// A request that becomes a WebSocket once `response` has been sent.
pub struct Accepted {
    /// The 101 to answer with.
    pub response: Response<Body>,
    /// Of the server's subprotocols the first that the client offers; `None` where neither names one.
    pub protocol: Option<String>,
    upgrade: OnUpgrade,
}

/// A WebSocket over a connection of this server.
pub type ServerSocket = WebSocketStream<TokioIo<Upgraded>>;

/// Whether a request asks for a WebSocket.
pub fn is_requested(headers: &HeaderMap) -> bool {
    upgrade::requested(headers).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The subprotocols that the client offers, in its order.
pub fn offered(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// Accepts the WebSocket with the first of `protocols` that the client offers; without any where the server names none.
pub fn accept<B>(request: &mut Request<B>, protocols: &[&str]) -> Result<Accepted, WebSocketError> {
    let headers = request.headers();
    let version = headers.get(header::SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    let (true, Some(b"13"), Some(key)) = (is_requested(headers), version, headers.get(header::SEC_WEBSOCKET_KEY))
    else {
        return Err(WebSocketError::NotAWebSocket);
    };
    let offered = offered(headers);
    let protocol = protocols.iter().find(|protocol| offered.contains(protocol)).map(|protocol| protocol.to_string());
    if protocol.is_none() && !protocols.is_empty() {
        return Err(WebSocketError::Protocol { offered: offered.join(", ") });
    }
    let mut response = Response::new(crate::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    // Base64 and a name that came in a header: both are header values.
    if let Ok(value) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        answer.insert(header::SEC_WEBSOCKET_ACCEPT, value);
    }
    if let Some(Ok(value)) = protocol.as_deref().map(HeaderValue::from_str) {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or(WebSocketError::NotUpgradable)?;
    Ok(Accepted { response, protocol, upgrade })
}

impl Accepted {
    /// The response to send, and the WebSocket that is there once it was: to be waited for on a task of its own.
    pub fn socket(self) -> (Response<Body>, impl Future<Output = io::Result<ServerSocket>> + Send + 'static) {
        let upgrade = self.upgrade;
        let socket = async move {
            let stream = upgrade.await.map_err(io::Error::other)?;
            let config = WebSocketConfig::default()
                .read_buffer_size(16 << 10)
                .write_buffer_size(0)
                .max_message_size(Some(MESSAGE_MAX))
                .max_frame_size(Some(MESSAGE_MAX));
            Ok(WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, Some(config)).await)
        };
        (self.response, socket)
    }

    /// The same as a byte stream.
    pub fn tunnel(
        self,
    ) -> (Response<Body>, impl Future<Output = io::Result<Tunnel<TokioIo<Upgraded>>>> + Send + 'static) {
        let (response, socket) = self.socket();
        (response, async move { Ok(Tunnel::new(socket.await?)) })
    }
}

/// The bytes of a WebSocket's binary messages as one stream each way.
pub struct Tunnel<S> {
    socket: WebSocketStream<S>,
    unread: Bytes,
    closing: bool,
}

impl<S> Tunnel<S> {
    pub fn new(socket: WebSocketStream<S>) -> Self {
        Tunnel { socket, unread: Bytes::new(), closing: false }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                // Answered by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, "text message in a tunnel of bytes");
                    return Poll::Ready(Err(error));
                }
                Some(Err(error)) if is_end(&error) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            }
        }
        let count = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..count]);
        self.unread.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(io_error)?;
        let count = bytes.len().min(CHUNK);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..count]));
        Pin::new(&mut self.socket).start_send(message).map_err(io_error)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io_error)
    }

    /// Says goodbye with a close frame; a WebSocket cannot be closed one way only.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            match ready!(Pin::new(&mut self.socket).poll_ready(cx)) {
                Err(error) if is_end(&error) => return Poll::Ready(Ok(())),
                result => result.map_err(io_error)?,
            }
            let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            match Pin::new(&mut self.socket).start_send(Message::Close(Some(close))) {
                Err(error) if is_end(&error) => return Poll::Ready(Ok(())),
                result => result.map_err(io_error)?,
            }
            self.closing = true;
        }
        match ready!(Pin::new(&mut self.socket).poll_flush(cx)) {
            Err(error) if is_end(&error) => Poll::Ready(Ok(())),
            result => Poll::Ready(result.map_err(io_error)),
        }
    }
}

fn is_end(error: &tungstenite::Error) -> bool {
    use tungstenite::{Error, error::ProtocolError};
    matches!(
        error,
        Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
    )
}

fn io_error(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}
