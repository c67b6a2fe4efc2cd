//! What is not the cluster's goes to upstream resolvers: one after the other, over UDP and where an answer does not fit
//! over TCP, through the cache.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::Name,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
};

use crate::{
    cache::{Cache, CacheKey},
    wire::UDP_MAX,
};

/// Questions under way upstream at once (kubeadm's `max_concurrent`).
const CONCURRENT_MAX: usize = 1000;
const CACHE_ENTRIES: usize = 10_000;

/// A question that is under way upstream, as it would look if it came back to us.
type InFlight = (u16, Name, u16);

pub(crate) struct Forwarder {
    upstreams: Vec<SocketAddr>,
    timeout: Duration,
    cache: Mutex<Cache>,
    in_flight: Mutex<HashSet<InFlight>>,
    permits: Semaphore,
}

impl Forwarder {
    /// `listen` is where this server itself answers: no upstream may be that.
    pub fn new(upstreams: &[SocketAddr], listen: &[SocketAddr], timeout: Duration, ttl: Duration) -> Self {
        let (own, upstreams): (Vec<SocketAddr>, Vec<_>) =
            upstreams.iter().partition(|upstream| listen.iter().any(|listen| is_self(**upstream, *listen)));
        for own in own {
            tracing::warn!(%own, "an upstream resolver is this server itself, not used");
        }
        Forwarder {
            upstreams,
            timeout,
            cache: Mutex::new(Cache::new(CACHE_ENTRIES, ttl)),
            in_flight: Mutex::default(),
            permits: Semaphore::new(CONCURRENT_MAX),
        }
    }

    /// Whether `request` is one of ours that an upstream sent back: answering it by asking would never end.
    pub fn is_loop(&self, request: &Message, query: &Query) -> bool {
        let key = (request.metadata.id, query.name().to_lowercase(), query.query_type().into());
        self.in_flight.lock().contains(&key)
    }

    /// An upstream's answer, with whatever code; `Err` where none answered or too many questions are under way.
    pub async fn ask(&self, request: &Message, query: &Query) -> Result<Message, ResponseCode> {
        let key = CacheKey::new(request, query);
        if let Some(message) = self.cache.lock().get(&key, Instant::now()) {
            return Ok(message);
        }
        let Ok(_permit) = self.permits.try_acquire() else { return Err(ResponseCode::Refused) };
        for upstream in &self.upstreams {
            let question = self.question(request, query);
            let answer = tokio::time::timeout(self.timeout, exchange(*upstream, &question.message)).await;
            let failure = match answer {
                Ok(Ok(answer)) if is_final(answer.metadata.response_code) => {
                    self.cache.lock().put(key, &answer, Instant::now());
                    return Ok(answer);
                }
                Ok(Ok(answer)) => answer.metadata.response_code.to_string(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            tracing::debug!(%upstream, name = %query.name(), failure, "upstream resolver failed");
        }
        Err(ResponseCode::ServFail)
    }

    fn question(&self, request: &Message, query: &Query) -> Question<'_> {
        let id = rand::random();
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = request.metadata.checking_disabled;
        message.add_query(query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_MAX).set_version(0);
        edns.set_dnssec_ok(request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok));
        message.set_edns(edns);
        let key = (id, query.name().to_lowercase(), query.query_type().into());
        self.in_flight.lock().insert(key.clone());
        Question { forwarder: self, key, message }
    }
}

/// One question under way, for as long as it is.
struct Question<'a> {
    forwarder: &'a Forwarder,
    key: InFlight,
    message: Message,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.forwarder.in_flight.lock().remove(&self.key);
    }
}

/// Another upstream would hardly say anything else.
fn is_final(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// Whether a server that listens on `listen` is the one at `upstream`. An address is of this machine if a socket can be
/// bound to it.
fn is_self(upstream: SocketAddr, listen: SocketAddr) -> bool {
    let is_local = || std::net::UdpSocket::bind((upstream.ip(), 0)).is_ok();
    upstream.port() == listen.port() && (upstream.ip() == listen.ip() || (listen.ip().is_unspecified() && is_local()))
}

async fn exchange(upstream: SocketAddr, question: &Message) -> io::Result<Message> {
    let bytes = question.to_vec().map_err(io::Error::other)?;
    let answer = over_udp(upstream, question, &bytes).await?;
    if answer.metadata.truncation { over_tcp(upstream, question, &bytes).await } else { Ok(answer) }
}

async fn over_udp(upstream: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: IpAddr = if upstream.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A port of its own for each question, and only answers from the upstream: hard to guess from outside.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(bytes).await?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = answer_to(question, &buffer[..length]) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(upstream: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    answer_to(question, &buffer).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// The answer in `bytes`, if it is one to this question.
fn answer_to(question: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let fits = answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == question.metadata.id
        && answer.queries == question.queries;
    fits.then_some(answer)
}
