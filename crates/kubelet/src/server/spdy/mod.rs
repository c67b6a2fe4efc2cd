//! As much of SPDY/3.1 as a client of a container runtime's streaming server needs: streams are opened, written, half
//! closed and read. (Runtimes serve exec and attach in Kubernetes' SPDY protocol; that of containerd has no flow control.)

pub mod frame;
mod headers;

use std::io;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::{client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
};

use frame::Frame;
use headers::Compressor;

const PROTOCOL: &str = "SPDY/3.1";

#[derive(Debug, thiserror::Error)]
pub enum SpdyError {
    #[error("cannot reach the runtime's streaming server: {0}")]
    Connect(#[source] io::Error),
    #[error("cannot ask the runtime's streaming server: {0}")]
    Http(#[from] hyper::Error),
    #[error("cannot ask the runtime's streaming server: {0}")]
    Request(#[from] http::Error),
    #[error("the runtime's streaming server answered {0} to a request to switch to SPDY")]
    Refused(StatusCode),
    #[error("cannot compress headers: {0}")]
    Headers(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The sending half of a connection.
pub struct Writer {
    io: WriteHalf<TokioIo<Upgraded>>,
    compressor: Compressor,
    next_stream: u32,
}

/// The receiving half.
pub struct Reader {
    io: ReadHalf<TokioIo<Upgraded>>,
    pending: BytesMut,
}

/// Switches a connection over to SPDY, with `version` of the protocol that is spoken in its streams.
pub async fn connect(stream: TcpStream, uri: &Uri, version: &str) -> Result<(Writer, Reader), SpdyError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to the runtime's streaming server ended");
        }
    });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map_or("localhost", |authority| authority.as_str());
    let request = Request::post(path)
        .header(header::HOST, host)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, HeaderValue::from_static(PROTOCOL))
        .header("x-stream-protocol-version", version)
        .body(Empty::<Bytes>::new())?;
    let mut answer = sender.send_request(request).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(SpdyError::Refused(answer.status()));
    }
    let upgraded = TokioIo::new(hyper::upgrade::on(&mut answer).await?);
    let (read, write) = tokio::io::split(upgraded);
    let writer = Writer { io: write, compressor: Compressor::new()?, next_stream: 1 };
    Ok((writer, Reader { io: read, pending: BytesMut::new() }))
}

impl Writer {
    /// Opens a stream with these headers; gives back its id.
    pub async fn open(&mut self, headers: &[(&str, &str)]) -> Result<u32, SpdyError> {
        let id = self.next_stream;
        self.next_stream += 2;
        let block = self.compressor.compress(headers)?;
        self.io.write_all(&frame::syn_stream(id, &block)).await?;
        Ok(id)
    }

    /// `last`: nothing follows on this stream from this side.
    pub async fn data(&mut self, stream: u32, data: &[u8], last: bool) -> Result<(), SpdyError> {
        for (at, chunk) in data.chunks(frame::DATA_MAX).enumerate() {
            let ends = last && (at + 1) * frame::DATA_MAX >= data.len();
            self.io.write_all(&frame::data_head(stream, chunk.len(), ends)).await?;
            self.io.write_all(chunk).await?;
        }
        if data.is_empty() && last {
            self.io.write_all(&frame::data_head(stream, 0, true)).await?;
        }
        self.io.flush().await?;
        Ok(())
    }

    pub async fn pong(&mut self, id: u32) -> Result<(), SpdyError> {
        self.io.write_all(&frame::ping(id)).await?;
        Ok(())
    }
}

impl Reader {
    /// `None`: the other side has ended the connection.
    pub async fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        loop {
            if let Some(frame) = frame::take(&mut self.pending)? {
                return Ok(Some(frame));
            }
            if self.io.read_buf(&mut self.pending).await? == 0 {
                return Ok(None);
            }
        }
    }
}
