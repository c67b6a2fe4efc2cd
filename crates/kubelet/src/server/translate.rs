//! exec and attach over a WebSocket of version 5, translated to the SPDY that runtimes speak (upstream
//! `apiserver pkg/util/proxy/streamtranslator.go`, which kubelets of 1.36 run themselves). Version 5 is the first in which
//! a client can close stdin; runtimes before containerd 2.0 do not know it.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use net::{
    Body,
    ws::{self, ServerSocket},
};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{
    respond::text,
    spdy::{self, Reader, SpdyError, Writer, frame::Frame},
    streaming,
};
use crate::access::Streams;

pub const VERSION_5: &str = "v5.channel.k8s.io";
/// What is spoken in the SPDY streams; has exit codes and resizes.
const VERSION_4: &str = "v4.channel.k8s.io";

/// The first byte of a WebSocket message.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Ends the channel that the next byte names.
const CLOSE: u8 = 255;

/// Whether a request is one to translate.
pub fn is_wanted(request: &Request<Incoming>) -> bool {
    ws::is_requested(request.headers()) && ws::offered(request.headers()).contains(&VERSION_5)
}

/// SPDY streams by the channels they stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Channels(Vec<(u8, u32)>);

impl Channels {
    fn stream(&self, channel: u8) -> Option<u32> {
        self.0.iter().find(|(known, _)| *known == channel).map(|(_, stream)| *stream)
    }

    fn channel(&self, stream: u32) -> Option<u8> {
        self.0.iter().find(|(_, known)| *known == stream).map(|(channel, _)| *channel)
    }
}

/// What is sent to the runtime.
enum ToRuntime {
    Data { stream: u32, data: Bytes, last: bool },
    Pong(u32),
}

/// `url`: where the runtime serves the stream.
pub async fn serve(mut request: Request<Incoming>, url: &str, streams: Streams) -> Response<Body> {
    let (writer, reader, channels) = match open(url, streams).await {
        Ok(opened) => opened,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let (response, socket) = match ws::accept(&mut request, &[VERSION_5]) {
        Ok(accepted) => accepted.socket(),
        Err(error) => return text(StatusCode::BAD_REQUEST, error.to_string()),
    };
    tokio::spawn(async move {
        match socket.await {
            Ok(socket) => translate(socket, writer, reader, channels).await,
            Err(error) => tracing::debug!(%error, "a client went away before its stream began"),
        }
    });
    response
}

async fn open(url: &str, streams: Streams) -> Result<(Writer, Reader, Channels), SpdyError> {
    let Some((uri, host, port)) = streaming::target(url) else {
        tracing::error!(url, "container runtime gave no usable streaming URL");
        return Err(SpdyError::Refused(StatusCode::BAD_GATEWAY));
    };
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(SpdyError::Connect)?;
    stream.set_nodelay(true)?;
    let (mut writer, reader) = spdy::connect(stream, &uri, VERSION_4).await?;
    let mut channels = Channels::default();
    let wanted = [
        (ERROR, "error", true),
        (STDIN, "stdin", streams.stdin),
        (STDOUT, "stdout", streams.stdout),
        (STDERR, "stderr", streams.stderr),
        (RESIZE, "resize", streams.tty),
    ];
    for (channel, kind, _) in wanted.into_iter().filter(|(_, _, wanted)| *wanted) {
        channels.0.push((channel, writer.open(&[("streamtype", kind)]).await?));
    }
    Ok((writer, reader, channels))
}

/// Both directions, until either side has ended.
async fn translate(socket: ServerSocket, writer: Writer, reader: Reader, channels: Channels) {
    let (mut sink, mut messages) = socket.split();
    let (sender, receiver) = mpsc::channel(16);
    let to_runtime = async {
        while let Some(Ok(message)) = messages.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
                Message::Close(_) => return,
                _ => continue,
            };
            if let Some(data) = inbound(data, &channels)
                && sender.send(data).await.is_err()
            {
                return;
            }
        }
    };
    let write = async {
        if let Err(error) = write(writer, receiver).await {
            tracing::debug!(%error, "cannot write to the runtime's streaming server");
        }
        // Its end alone ends nothing: what the runtime still says, its exit code first, is wanted.
        std::future::pending::<()>().await;
    };
    let from_runtime = async {
        if let Err(error) = outbound(reader, &mut sink, &sender, &channels).await {
            tracing::debug!(%error, "the runtime's stream broke");
        }
    };
    tokio::select! {
        () = to_runtime => {}
        () = write => {}
        () = from_runtime => {
            // Without a code clients take the end for a failure.
            let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            let _ = sink.send(Message::Close(Some(normal))).await;
        }
    }
}

/// A client's message as what the runtime gets of it. Pure.
fn inbound(message: Bytes, channels: &Channels) -> Option<ToRuntime> {
    let channel = *message.first()?;
    let data = message.slice(1..);
    match channel {
        CLOSE => {
            let stream = channels.stream(*data.first()?)?;
            Some(ToRuntime::Data { stream, data: Bytes::new(), last: true })
        }
        STDIN | RESIZE if !data.is_empty() => {
            Some(ToRuntime::Data { stream: channels.stream(channel)?, data, last: false })
        }
        _ => None,
    }
}

async fn write(mut writer: Writer, mut receiver: mpsc::Receiver<ToRuntime>) -> Result<(), SpdyError> {
    while let Some(message) = receiver.recv().await {
        match message {
            ToRuntime::Data { stream, data, last } => writer.data(stream, &data, last).await?,
            ToRuntime::Pong(id) => writer.pong(id).await?,
        }
    }
    Ok(())
}

/// Passes on what the runtime says, until it has said how it ended: that comes last.
async fn outbound(
    mut reader: Reader,
    sink: &mut SplitSink<ServerSocket, Message>,
    sender: &mpsc::Sender<ToRuntime>,
    channels: &Channels,
) -> Result<(), SpdyError> {
    while let Some(frame) = reader.next().await? {
        match frame {
            Frame::Data { stream, data, last } => {
                let Some(channel) = channels.channel(stream) else { continue };
                if !data.is_empty() {
                    let mut message = Vec::with_capacity(data.len() + 1);
                    message.push(channel);
                    message.extend_from_slice(&data);
                    let sent = sink.send(Message::Binary(message.into())).await;
                    sent.map_err(std::io::Error::other)?;
                }
                if last && channel == ERROR {
                    return Ok(());
                }
            }
            Frame::Reset { stream } if channels.channel(stream) == Some(ERROR) => return Ok(()),
            Frame::GoAway => return Ok(()),
            // Not worth waiting for: the other side asks again.
            Frame::Ping(id) => drop(sender.try_send(ToRuntime::Pong(id))),
            Frame::Reset { .. } | Frame::Other => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_their_streams() {
        let channels = Channels(vec![(ERROR, 1), (STDIN, 3), (STDOUT, 5)]);
        for (name, message, expect) in [
            ("stdin", &b"\0abc"[..], Some((3, &b"abc"[..], false))),
            ("stdin ends", &[CLOSE, STDIN], Some((3, b"", true))),
            ("a resize of what has no terminal", b"\x04{}", None),
            ("output is not the client's to write", b"\x01abc", None),
            ("nothing", b"\0", None),
            ("empty", b"", None),
            ("the end of nothing", &[CLOSE], None),
        ] {
            let got = inbound(Bytes::copy_from_slice(message), &channels).map(|message| match message {
                ToRuntime::Data { stream, data, last } => (stream, data, last),
                ToRuntime::Pong(_) => panic!("{name}: a pong"),
            });
            assert_eq!(got, expect.map(|(stream, data, last)| (stream, Bytes::from_static(data), last)), "{name}");
        }
    }
}
