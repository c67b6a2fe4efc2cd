//! A body served as a WebSocket's messages, as logs are to browsers (streaming `pkg/httpstream/wsstream/stream.go`, Reader).

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio_tungstenite::tungstenite::{
    self, Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{ServerSocket, WebSocketError, accept, offered};
use crate::Body;

/// Messages are the bytes themselves; so they are where no subprotocol is asked for.
const BINARY: &str = "binary.k8s.io";
/// Messages are text, each the base64 form of bytes.
const BASE64: &str = "base64.binary.k8s.io";
/// How a token is sent, which is no subprotocol to speak.
const TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// How long a client has to answer a close frame.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Accepts the WebSocket that `request` asks for, and sends `body` through it: an empty message first, then one for each
/// chunk, then a close frame. What the client says is not listened to.
pub fn serve_body<B>(request: &mut Request<B>, body: Body) -> Result<Response<Body>, WebSocketError> {
    let offered: Vec<&str> =
        offered(request.headers()).into_iter().filter(|protocol| !protocol.starts_with(TOKEN)).collect();
    // The client's first choice counts.
    let chosen = match offered.iter().find_map(|protocol| [BINARY, BASE64].into_iter().find(|known| known == protocol))
    {
        None if !offered.is_empty() => return Err(WebSocketError::Protocol { offered: offered.join(", ") }),
        chosen => chosen,
    };
    let (response, socket) = accept(request, chosen.as_slice())?.socket();
    tokio::spawn(async move {
        match socket.await {
            Ok(socket) => serve(socket, body, chosen == Some(BASE64)).await,
            Err(error) => tracing::debug!(%error, "a client went away before its stream began"),
        }
    });
    Ok(response)
}

async fn serve(socket: ServerSocket, mut body: Body, is_base64: bool) {
    let (mut sink, mut messages) = socket.split();
    let left = async { while let Some(Ok(_)) = messages.next().await {} };
    let message = |bytes: Bytes| match is_base64 {
        true => Message::text(STANDARD.encode(bytes)),
        false => Message::binary(bytes),
    };
    let send = async {
        sink.send(message(Bytes::new())).await?;
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(bytes) = frame.into_data() {
                sink.send(message(bytes)).await?;
            }
        }
        let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        sink.send(Message::Close(Some(close))).await?;
        Ok::<_, tungstenite::Error>(())
    };
    tokio::pin!(left);
    let sent = tokio::select! {
        () = &mut left => return,
        sent = send => sent,
    };
    match sent {
        Ok(()) => drop(tokio::time::timeout(CLOSE_WITHIN, left).await),
        Err(error) => tracing::debug!(%error, "a client of a stream went away"),
    }
}
