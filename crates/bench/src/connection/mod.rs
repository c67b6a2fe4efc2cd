//! Connections of the generator: TLS to one server, one request at a time on each (HTTP/1.1) or on each stream (HTTP/2).

mod body;
mod http1;
mod http2;

use std::{io, sync::Arc, time::Duration};

use client::Kubeconfig;
use net::{https::HttpsClient, tls::client_config};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{io::BufReader, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    error::{Error, Result},
    template::{Common, Template},
};

/// Also for name look-up and TLS.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// Bytes read at once: for answers of any size, and for each of very many watches.
pub const READ_ANSWERS: usize = 64 << 10;
pub const READ_WATCHES: usize = 4 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Http1,
    Http2,
}

type Stream = TlsStream<BufReader<TcpStream>>;

/// Where connections go and what their requests say of themselves. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint {
    shared: Arc<Shared>,
}

struct Shared {
    host: String,
    port: u16,
    server_name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    protocol: Protocol,
    common: Common,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Of the body.
    pub bytes: u64,
}

impl Answer {
    pub fn is_success(self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Endpoint {
    pub fn new(kubeconfig: &Kubeconfig, protocol: Protocol, accept: &str) -> Result<Endpoint> {
        let options = kubeconfig.https_options()?;
        let name = options.tls.server_name.clone().unwrap_or_else(|| options.host.clone());
        let server_name = ServerName::try_from(name.clone()).map_err(|_| net::tls::TlsError::ServerName(name))?;
        let mut tls = ClientConfig::clone(&*client_config(options.tls.clone())?.rustls());
        tls.alpn_protocols = match protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        let (host, port) = (options.host.clone(), options.port);
        let https = HttpsClient::new(options)?;
        let authorization = https.authorization().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let common = Common { authority: https.server().to_owned(), authorization, accept: accept.to_owned() };
        Ok(Endpoint { shared: Arc::new(Shared { host, port, server_name, tls: Arc::new(tls), protocol, common }) })
    }

    pub fn protocol(&self) -> Protocol {
        self.shared.protocol
    }

    pub fn server(&self) -> &str {
        &self.shared.common.authority
    }

    /// Opens a connection for so many requests at once; HTTP/1.1 carries one.
    pub async fn connect(&self, streams: usize, read_bytes: usize) -> Result<Vec<Connection>> {
        let connecting = tokio::time::timeout(CONNECT_WITHIN, self.handshake(streams, read_bytes));
        let connected = connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        connected.map_err(|source| Error::Connect { server: self.server().to_owned(), source })
    }

    async fn handshake(&self, streams: usize, read_bytes: usize) -> io::Result<Vec<Connection>> {
        let Shared { host, port, server_name, tls, protocol, .. } = &*self.shared;
        let tcp = TcpStream::connect((host.as_str(), *port)).await?;
        tcp.set_nodelay(true)?;
        // The TLS library reads 4 KiB at a time; a buffer below it makes that one system call of many.
        let tcp = BufReader::with_capacity(read_bytes, tcp);
        let stream = TlsConnector::from(tls.clone()).connect(server_name.clone(), tcp).await?;
        match protocol {
            Protocol::Http1 => Ok(vec![Connection::Http1(Box::new(http1::Connection::new(stream, read_bytes)))]),
            Protocol::Http2 => {
                let connection = http2::Connection::open(stream).await?;
                Ok((0..streams).map(|_| Connection::Http2(connection.clone())).collect())
            }
        }
    }

    /// A request as this server's protocol has it.
    pub fn prepare(&self, template: &Template) -> Prepared {
        match self.shared.protocol {
            Protocol::Http1 => Prepared::Http1(template.http1(&self.shared.common)),
            Protocol::Http2 => Prepared::Http2(Box::new(http2::Prepared::new(template, &self.shared.common))),
        }
    }
}

/// A request of which only digits are missing; belongs to one worker.
#[derive(Clone)]
pub enum Prepared {
    Http1(crate::template::Slots),
    Http2(Box<http2::Prepared>),
}

pub enum Connection {
    Http1(Box<http1::Connection>),
    Http2(http2::Connection),
}

impl Connection {
    /// Whether it takes another request.
    pub fn is_open(&self) -> bool {
        match self {
            Connection::Http1(connection) => connection.is_open(),
            Connection::Http2(connection) => connection.is_open(),
        }
    }

    /// Sends a request and reads its answer to the end, handing the body's parts to `sink`. After an error the connection
    /// is of no use.
    pub async fn exchange(
        &mut self,
        request: &mut Prepared,
        (number, value): (u64, u64),
        sink: &mut impl FnMut(&[u8]),
    ) -> io::Result<Answer> {
        match (self, request) {
            (Connection::Http1(connection), Prepared::Http1(slots)) => {
                connection.exchange(slots.fill(number, value), sink).await
            }
            (Connection::Http2(connection), Prepared::Http2(prepared)) => {
                connection.exchange(prepared.request(number, value)?, sink).await
            }
            _ => Err(io::Error::other("a request prepared for another protocol")),
        }
    }
}
