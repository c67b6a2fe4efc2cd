//! HTTP/2 by hyper: many requests at once on one connection, as client-go's clients send them.

use std::io;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{Answer, Stream};
use crate::template::{Common, Slots, Template};

/// Bytes a server may send ahead, per response and in all: client-go's (Go's `http2.Transport`).
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;

#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

/// A request of which only digits are missing.
#[derive(Clone)]
pub struct Prepared {
    method: Method,
    uri: Slots,
    headers: HeaderMap,
    body: Slots,
}

impl Prepared {
    pub fn new(template: &Template, common: &Common) -> Prepared {
        let mut headers = HeaderMap::new();
        let mut insert = |name, value: Option<&str>| {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        };
        insert(header::ACCEPT, Some(&common.accept));
        insert(header::USER_AGENT, Some("argosy-bench"));
        insert(header::AUTHORIZATION, common.authorization.as_deref());
        insert(header::CONTENT_TYPE, template.content_type);
        Prepared {
            method: template.method.clone(),
            uri: Slots::new(&format!("https://{}{}", common.authority, template.path)),
            headers,
            body: Slots::new(&template.body),
        }
    }

    pub fn request(&mut self, number: u64, value: u64) -> io::Result<Request<Full<Bytes>>> {
        let uri = Uri::from_maybe_shared(self.uri.filled(number, value)).map_err(io::Error::other)?;
        let mut request = Request::new(Full::new(self.body.filled(number, value)));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}

impl Connection {
    pub async fn open(stream: Stream) -> io::Result<Connection> {
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("the server does not speak HTTP/2"));
        }
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // How it ended, its requests say.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { sender })
    }

    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    pub async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        sink: &mut impl FnMut(&[u8]),
    ) -> io::Result<Answer> {
        self.sender.ready().await.map_err(io::Error::other)?;
        let mut response = self.sender.send_request(request).await.map_err(io::Error::other)?;
        let mut answer = Answer { status: response.status().as_u16(), bytes: 0 };
        while let Some(frame) = response.frame().await {
            if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
                answer.bytes += data.len() as u64;
                sink(&data);
            }
        }
        Ok(answer)
    }
}
