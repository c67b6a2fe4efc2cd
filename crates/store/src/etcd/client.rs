//! All members as one: which is asked, when another one is, and what is known of a request that was not answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use prost::Message;
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, metadata::AsciiMetadataValue};

use super::{
    EtcdOptions,
    connection::{Connection, Endpoint, Failure, request},
    order::Order,
    proto,
};
use crate::{Error, Result};

const RANGE: &str = "/etcdserverpb.KV/Range";
/// Between two rounds over all members.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Client {
    pub options: EtcdOptions,
    members: Vec<Member>,
    order: Order,
    /// The last write has an unknown outcome: before the next one a quorum must answer. Writes that find a cluster
    /// without a quorum are then refused, rather than left with members that may still commit them later.
    doubtful: AtomicBool,
    token: Mutex<Option<AsciiMetadataValue>>,
    /// The cluster that the first member belonged to: the others must, too.
    cluster: Mutex<Option<u64>>,
    pub closed: CancellationToken,
}

struct Member {
    endpoint: Arc<Endpoint>,
    connection: AsyncMutex<Option<Connection>>,
    /// Counts requests that the member has let run out of time.
    silences: watch::Sender<u64>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Denial {
    /// The request was seen and refused; asking another member would not help.
    Refused(Failure),
    /// What callers get.
    Error(Error),
}

impl From<Error> for Denial {
    fn from(error: Error) -> Denial {
        Denial::Error(error)
    }
}

impl From<Denial> for Error {
    fn from(denial: Denial) -> Error {
        match denial {
            Denial::Error(error) => error,
            Denial::Refused(failure) => refusal(failure),
        }
    }
}

/// A refusal without a meaning of its own for the request.
fn refusal(failure: Failure) -> Error {
    let Failure { code, message, permanent, .. } = failure;
    match code {
        _ if permanent => Error::Misconfigured { message },
        Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented => Error::Misconfigured { message },
        // etcd's word for a missing or wrong user, and for what no client of ours asks.
        Code::InvalidArgument | Code::FailedPrecondition => Error::Misconfigured { message },
        Code::DataLoss => Error::Damaged { message },
        _ => Error::Unavailable { message },
    }
}

impl Client {
    pub fn new(options: EtcdOptions) -> Result<Client> {
        let endpoints = options.endpoints.iter().map(|text| Endpoint::parse(text)).collect::<Result<Vec<_>>>()?;
        if endpoints.is_empty() {
            return Err(Error::Misconfigured { message: "no etcd endpoint is named (--etcd-servers)".into() });
        }
        let members: Vec<Member> = endpoints
            .into_iter()
            .map(|endpoint| Member {
                endpoint: Arc::new(endpoint),
                connection: AsyncMutex::new(None),
                silences: watch::channel(0).0,
            })
            .collect();
        Ok(Client {
            options,
            order: Order::new(members.len()),
            members,
            doubtful: AtomicBool::new(false),
            token: Mutex::new(None),
            cluster: Mutex::new(None),
            closed: CancellationToken::new(),
        })
    }

    /// A request that may be made again and again: asks the members in turn until one answers or patience ends.
    pub async fn read<Q, A>(&self, path: &'static str, message: Q, limit: Duration) -> Result<A, Denial>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.ask(path, message, limit, |_| true).await
    }

    /// A request that is done at most once: asks another member only where the first certainly did nothing.
    pub async fn write<Q, A>(&self, path: &'static str, message: Q) -> Result<A, Denial>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        if self.doubtful.load(Ordering::Relaxed) {
            self.revision().await?;
            self.doubtful.store(false, Ordering::Relaxed);
        }
        self.ask(path, message, self.options.timeouts.request, |failure| !failure.sent).await
    }

    /// The revision that a quorum knows to be the newest: a linearizable read of a key that need not be there.
    pub async fn revision(&self) -> Result<u64, Denial> {
        let key = self.options.keys().theirs_of(&format!("{}/", self.options.replaces))?;
        let range = proto::RangeRequest { key, count_only: true, ..Default::default() };
        let answer: proto::RangeResponse = self.read(RANGE, range, self.options.timeouts.read).await?;
        Ok(revision_of(answer.header))
    }

    /// A connection of its own for a stream that may be read slowly, and must not hold up what others get.
    pub async fn dial(&self) -> Result<Connection, Failure> {
        let at = self.order.next(&[], Instant::now()).unwrap_or_default();
        let connection = match Connection::dial(&self.members[at].endpoint, &self.options).await {
            Ok(connection) => self.admit(connection),
            Err(failure) => Err(failure),
        };
        connection.inspect_err(|_| self.order.failed(at, Instant::now()))
    }

    /// Changes when the member of `connection` lets a request run out of time. A connection that is cut off is noticed
    /// by its own pings, too, but later.
    pub fn silences(&self, connection: &Connection) -> Option<watch::Receiver<u64>> {
        let member = self.members.iter().find(|member| connection.is_to(&member.endpoint));
        member.map(|member| member.silences.subscribe())
    }

    /// A stream on `connection` has failed: the next one is asked of another member.
    pub fn leave(&self, connection: &Connection) {
        if let Some(at) = self.members.iter().position(|member| connection.is_to(&member.endpoint)) {
            self.order.failed(at, Instant::now());
        }
    }

    pub fn token(&self) -> Option<AsciiMetadataValue> {
        self.token.lock().clone()
    }

    /// Whether the database is full, which etcd says with an alarm.
    pub async fn is_out_of_space(&self) -> Result<bool, Denial> {
        let alarms: proto::AlarmResponse = self
            .read("/etcdserverpb.Maintenance/Alarm", proto::AlarmRequest { action: 0 }, self.options.timeouts.request)
            .await?;
        Ok(alarms.alarms.iter().any(|member| member.alarm() == proto::AlarmType::NoSpace))
    }

    /// Has every member give the room back that compacted history took, one after the other: a member answers nothing else
    /// meanwhile. With each member's endpoint, what it said.
    pub async fn defragment(&self) -> Vec<(String, Result<()>)> {
        const PATH: &str = "/etcdserverpb.Maintenance/Defragment";
        let mut said = Vec::new();
        for (at, member) in self.members.iter().enumerate() {
            let outcome = match self.connection(at).await {
                Ok(connection) => {
                    let request = request(proto::DefragmentRequest {}, self.token().as_ref());
                    let answer = connection.unary(PATH, request, self.options.timeouts.list).await;
                    answer.map(|_: proto::DefragmentResponse| ())
                }
                Err(failure) => Err(failure),
            };
            said.push((member.endpoint.text.clone(), outcome.map_err(refusal)));
        }
        said
    }

    async fn ask<Q, A>(
        &self,
        path: &'static str,
        message: Q,
        limit: Duration,
        again: impl Fn(&Failure) -> bool,
    ) -> Result<A, Denial>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let patience = Instant::now() + self.options.timeouts.patience;
        let (mut failures, mut renewed) = (Failures::default(), false);
        loop {
            let mut tried = Vec::new();
            while let Some(at) = self.order.next(&tried, Instant::now()) {
                if self.closed.is_cancelled() {
                    return Err(Error::Closed.into());
                }
                let failure = match self.connection(at).await {
                    Ok(connection) => {
                        let request = request(message.clone(), self.token().as_ref());
                        match connection.unary(path, request, limit).await {
                            Ok(answer) => {
                                self.order.answered(at);
                                return Ok(answer);
                            }
                            Err(failure) => failure,
                        }
                    }
                    Err(failure) => failure,
                };
                let stale = matches!(failure.code, Code::Unauthenticated | Code::InvalidArgument);
                if stale && !failure.permanent && self.options.user.is_some() && !renewed {
                    // The token has run out, the member does not know it, or users have changed since (which is an
                    // invalid argument). None of these did anything.
                    renewed = true;
                    self.forget_token();
                    continue;
                }
                if failure.sent && !failure.permanent && !failure.is_of_the_member() {
                    return Err(Denial::Refused(failure));
                }
                tried.push(at);
                self.order.failed(at, Instant::now());
                if failure.sent && failure.code == Code::DeadlineExceeded {
                    self.suspect(at);
                }
                if !again(&failure) {
                    self.doubtful.store(true, Ordering::Relaxed);
                    return Err(Error::Unknown { message: failure.message }.into());
                }
                failures.note(failure);
            }
            if failures.only_permanent() || Instant::now() + PAUSE >= patience {
                return Err(failures.into_error().into());
            }
            failures.next_round();
            tokio::select! {
                () = self.closed.cancelled() => return Err(Error::Closed.into()),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// The connection to a member, made where there is none.
    async fn connection(&self, at: usize) -> Result<Connection, Failure> {
        let mut held = self.members[at].connection.lock().await;
        if let Some(connection) = held.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let connection = Connection::dial(&self.members[at].endpoint, &self.options).await?;
        let connection = self.admit(connection)?;
        self.log_in(&connection).await?;
        *held = Some(connection.clone());
        Ok(connection)
    }

    /// The member may be cut off: what hangs on it is to begin again elsewhere, and with it on a new connection.
    fn suspect(&self, at: usize) {
        let member = &self.members[at];
        if let Ok(mut held) = member.connection.try_lock() {
            *held = None;
        }
        member.silences.send_modify(|count| *count += 1);
    }

    /// Refuses a member of another cluster than the first one's.
    fn admit(&self, connection: Connection) -> Result<Connection, Failure> {
        let first = *self.cluster.lock().get_or_insert(connection.cluster);
        if first == connection.cluster {
            return Ok(connection);
        }
        let message = format!(
            "it belongs to cluster {:x}, other endpoints belong to cluster {first:x}; name the members of one cluster",
            connection.cluster
        );
        Err(connection.foreign(message))
    }

    fn forget_token(&self) {
        *self.token.lock() = None;
        // The next connection logs in.
        for member in &self.members {
            if let Ok(mut held) = member.connection.try_lock() {
                *held = None;
            }
        }
    }

    async fn log_in(&self, connection: &Connection) -> Result<(), Failure> {
        let Some(user) = &self.options.user else { return Ok(()) };
        if self.token.lock().is_some() {
            return Ok(());
        }
        let message = proto::AuthenticateRequest { name: user.name.clone(), password: user.password.clone() };
        let limit = self.options.timeouts.request;
        let answer: Result<proto::AuthenticateResponse, Failure> =
            connection.unary("/etcdserverpb.Auth/Authenticate", request(message, None), limit).await;
        let token = match answer {
            Ok(answer) => answer.token,
            // Wrong name or password, or a cluster without users.
            Err(failure) if !failure.is_of_the_member() => {
                return Err(Failure { permanent: true, sent: false, ..failure });
            }
            Err(failure) => return Err(Failure { sent: false, ..failure }),
        };
        *self.token.lock() = AsciiMetadataValue::try_from(token).ok();
        Ok(())
    }

    /// Lets go of all connections; what waits for answers gets none.
    pub async fn close(&self) {
        self.closed.cancel();
        for member in &self.members {
            *member.connection.lock().await = None;
        }
    }
}

/// What the members of one round answered.
#[derive(Default)]
struct Failures {
    messages: Vec<String>,
    permanent: usize,
}

impl Failures {
    fn note(&mut self, failure: Failure) {
        self.permanent += usize::from(failure.permanent);
        if !self.messages.contains(&failure.message) {
            self.messages.push(failure.message);
        }
    }

    fn only_permanent(&self) -> bool {
        self.permanent > 0 && self.permanent >= self.messages.len()
    }

    fn next_round(&mut self) {
        self.messages.clear();
        self.permanent = 0;
    }

    fn into_error(self) -> Error {
        let permanent = self.only_permanent();
        let message = self.messages.join("; ");
        if permanent { Error::Misconfigured { message } } else { Error::Unavailable { message } }
    }
}

/// Answers of etcd always have a header; one without is taken as knowing nothing.
pub(super) fn revision_of(header: Option<proto::ResponseHeader>) -> u64 {
    header.map_or(0, |header| unsigned(header.revision))
}

/// etcd's revisions are positive.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
