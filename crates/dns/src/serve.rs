//! The sockets: datagrams and TCP frames in, answers out. What the index knows is answered on the spot; only what goes
//! upstream gets a task.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use hickory_proto::op::{Message, Query, ResponseCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream, UdpSocket,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Answer, Index,
    answer::{Reply, Zone},
    forward::Forwarder,
    status::Metrics,
    wire::{Refused, encode, parse_query, response_to, set_code, udp_limit},
};

/// TCP: connections at once, and questions of one connection at once.
const CONNECTIONS_MAX: usize = 1000;
const PIPELINED_MAX: usize = 64;
/// TCP: how long a client may be silent, or take to read its answer.
const IDLE: Duration = Duration::from_secs(10);
/// After a failed accept, as when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all sockets share.
pub(crate) struct Server {
    /// `None` before everything has been listed once: then nobody knows what exists.
    pub index: ArcSwap<Option<Index>>,
    pub zone: Zone,
    pub forwarder: Forwarder,
    pub metrics: Metrics,
}

/// A request on its way to an answer.
enum Step {
    Answered(Message),
    /// To be asked upstream: the question, and the answers there are already.
    Forward(Message, Query, Vec<hickory_proto::rr::Record>),
}

impl Server {
    /// `None` for what gets no answer; else the request's UDP limit and what is to be done.
    fn start(&self, bytes: &[u8]) -> Option<(usize, Step)> {
        let (request, query) = match parse_query(bytes) {
            Ok(parsed) => parsed,
            Err(Refused::Drop) => return None,
            Err(Refused::Answer(response)) => return Some((512, Step::Answered(*response))),
        };
        Some((udp_limit(&request), self.local(request, query)))
    }

    fn local(&self, request: Message, query: Query) -> Step {
        let index = self.index.load();
        let known = match &**index {
            Some(index) => Reply { index, zone: &self.zone, turn: request.metadata.id.into() }.to(&query),
            None => {
                let nothing = Index::default();
                Reply { index: &nothing, zone: &self.zone, turn: 0 }.to(&query)
            }
        };
        let mut response = response_to(&request);
        match known {
            Answer::Elsewhere if self.forwarder.is_loop(&request, &query) => {
                tracing::warn!(name = %query.name(), "an upstream resolver sends questions back here");
                set_code(&mut response, ResponseCode::Refused);
            }
            Answer::Elsewhere => return Step::Forward(request, query, Vec::new()),
            _ if index.is_none() => set_code(&mut response, ResponseCode::ServFail),
            Answer::Alias { answers, target } => {
                let mut query = query;
                query.set_name(target);
                return Step::Forward(request, query, answers);
            }
            Answer::Here { code, answers, authorities, additionals } => {
                response.metadata.authoritative = true;
                set_code(&mut response, code);
                response.insert_answers(answers);
                response.insert_authorities(authorities);
                response.insert_additionals(additionals);
            }
        }
        Step::Answered(response)
    }

    async fn finish(&self, step: Step) -> Message {
        let (request, query, answers) = match step {
            Step::Answered(response) => return response,
            Step::Forward(request, query, answers) => (request, query, answers),
        };
        self.metrics.count_forwarded();
        let mut response = response_to(&request);
        match self.forwarder.ask(&request, &query).await {
            Ok(answer) => {
                set_code(&mut response, answer.metadata.response_code);
                response.metadata.authentic_data = answer.metadata.authentic_data && answers.is_empty();
                response.insert_answers(answers.into_iter().chain(answer.answers).collect());
                response.insert_authorities(answer.authorities);
                response.insert_additionals(answer.additionals);
            }
            // The alias itself is known, and somebody else may know the rest.
            Err(_) if !answers.is_empty() => response.insert_answers(answers),
            Err(code) => set_code(&mut response, code),
        }
        response
    }

    fn encode(&self, response: &Message, limit: usize) -> Option<Vec<u8>> {
        self.metrics.count(response.metadata.response_code.low());
        encode(response, limit)
    }
}

pub(crate) async fn serve_udp(server: Arc<Server>, socket: UdpSocket, cancel: CancellationToken) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; 65_535];
    loop {
        let received = tokio::select! {
            () = cancel.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An error is about an earlier datagram that could not be delivered.
        let Ok((length, peer)) = received else { continue };
        match server.start(&buffer[..length]) {
            None => {}
            Some((limit, Step::Answered(response))) => {
                if let Some(bytes) = server.encode(&response, limit) {
                    // A client that has gone, or a full buffer: it asks again.
                    let _ = socket.send_to(&bytes, peer).await;
                }
            }
            Some((limit, step)) => {
                let (server, socket) = (server.clone(), socket.clone());
                tokio::spawn(async move {
                    let response = server.finish(step).await;
                    if let Some(bytes) = server.encode(&response, limit) {
                        let _ = socket.send_to(&bytes, peer).await;
                    }
                });
            }
        }
    }
}

pub(crate) async fn serve_tcp(server: Arc<Server>, listener: TcpListener, cancel: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (server, cancel) = (server.clone(), cancel.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                ended = connection(server, stream) => log_end(peer, ended),
            }
            drop(permit);
        });
    }
}

fn log_end(peer: SocketAddr, ended: io::Result<()>) {
    if let Err(error) = ended {
        tracing::trace!(%peer, %error, "connection ended");
    }
}

/// Questions of one connection are answered as their answers come, in whatever order (RFC 7766).
async fn connection(server: Arc<Server>, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, writer) = stream.into_split();
    let writer = Arc::new(Mutex::new(writer));
    let permits = Arc::new(Semaphore::new(PIPELINED_MAX));
    loop {
        let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
        let Some(bytes) = tokio::time::timeout(IDLE, read_frame(&mut reader)).await?? else { return Ok(()) };
        let Some((_, step)) = server.start(&bytes) else { return Ok(()) };
        let (server, writer) = (server.clone(), writer.clone());
        tokio::spawn(async move {
            let response = server.finish(step).await;
            if let Some(bytes) = server.encode(&response, usize::from(u16::MAX)) {
                // The reader notices that the client is gone.
                let _ = tokio::time::timeout(IDLE, write_frame(&writer, &bytes)).await;
            }
            drop(permit);
        });
    }
}

/// `None` at the end of the connection.
async fn read_frame(reader: &mut OwnedReadHalf) -> io::Result<Option<Vec<u8>>> {
    let length = match reader.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; length.into()];
    reader.read_exact(&mut bytes).await?;
    Ok(Some(bytes))
}

async fn write_frame(writer: &Mutex<OwnedWriteHalf>, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let frame = [&length.to_be_bytes(), bytes].concat();
    writer.lock().await.write_all(&frame).await
}
