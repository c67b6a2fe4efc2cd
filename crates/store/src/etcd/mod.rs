//! The etcd engine: etcd's v3 API as upstream's API server uses it (apiserver/pkg/storage/etcd3), behind [`Store`].
//!
//! - Writes are transactions that compare the modification revision; one whose outcome is not known is answered with
//!   [`Error::Unknown`], never repeated and never said to be done or undone. After it a quorum must answer before the next
//!   write is handed over.
//! - Reads are linearizable: a quorum has confirmed them.
//! - Watches go on by themselves over restarts, lost members and changes of leader: see [`watch`].
//! - Keys are upstream's (`/registry/...`), and so are [`lease`]s and [`compact`]ion, so that both can share a cluster.

mod client;
mod compact;
mod connection;
mod keys;
mod lease;
mod members;
mod order;
mod proto;
mod tls;
mod watch;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use tokio::sync::Semaphore;
use tonic::Code;

pub(crate) use self::keys::Keys;
use self::{
    client::{Client, Denial, revision_of, unsigned},
    lease::Leases,
};
pub use self::{
    keys::DEFAULT_PREFIX,
    members::{Member, Members, RemovalRefused, may_remove},
    tls::{Identity, TlsFiles},
};
use crate::{Entry, Error, ListOptions, ListPage, Result, Revision, Store, VALUE_BYTES_MAX, WatchStream};

const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";

/// Entries asked for at once where a caller wants all of them: what etcd answers is in memory several times.
const PAGE: usize = 500;
/// Bytes of values that are on their way at once; more wait at the door, and their time does not run yet. A burst of large
/// ones would otherwise take longer to be sent and committed than an answer may take.
const IN_FLIGHT_BYTES: usize = 4 << 20;
/// They are handed out in units of this many.
const IN_FLIGHT_UNIT_BYTES: usize = 1 << 10;
/// Beside the value, what etcd adds to a request before it compares with its limit.
const REQUEST_OVERHEAD_BYTES: usize = 64;

/// How to reach an etcd cluster. [`EtcdOptions::new`] has upstream's defaults.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// `https://HOST:PORT` of each member (`--etcd-servers`).
    pub endpoints: Vec<String>,
    /// What keys begin with in etcd (`--etcd-prefix`).
    pub prefix: String,
    /// What callers' keys begin with, and `prefix` stands for.
    pub replaces: String,
    /// Needed for `https` endpoints.
    pub tls: Option<TlsFiles>,
    pub user: Option<User>,
    pub timeouts: Timeouts,
    /// How often history is compacted (`--etcd-compaction-interval`); zero is never.
    pub compaction_interval: Duration,
    /// Largest value, in bytes. etcd has a limit of its own on requests (`--max-request-bytes`).
    pub value_bytes_max: usize,
}

#[derive(Clone)]
pub struct User {
    pub name: String,
    pub password: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To connect to one member and hear who it is.
    pub connect: Duration,
    /// For one member to answer a read of one key. Shorter than for writes, as another member can be asked: etcd before 3.5
    /// can lose a read that comes while a leader is elected, and then answers after seven seconds only.
    pub read: Duration,
    /// For one member to answer.
    pub request: Duration,
    /// For one member to answer a list.
    pub list: Duration,
    /// How long members are asked again in turn before a request fails.
    pub patience: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(2),
            read: Duration::from_secs(2),
            request: Duration::from_secs(4),
            list: Duration::from_secs(30),
            patience: Duration::from_secs(6),
        }
    }
}

impl EtcdOptions {
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> EtcdOptions {
        EtcdOptions {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            prefix: DEFAULT_PREFIX.to_owned(),
            replaces: DEFAULT_PREFIX.to_owned(),
            tls: None,
            user: None,
            timeouts: Timeouts::default(),
            compaction_interval: Duration::from_secs(300),
            value_bytes_max: VALUE_BYTES_MAX,
        }
    }

    fn keys(&self) -> Keys {
        Keys::new(&self.replaces, &self.prefix)
    }
}

/// A store in an etcd cluster.
pub struct Etcd {
    client: Arc<Client>,
    keys: Keys,
    leases: Leases,
    in_flight: Semaphore,
}

impl Etcd {
    /// Connects to a member, reads through a quorum, and begins to compact. In a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] where the members refuse us or are not of one cluster, [`Error::Unavailable`] where none
    /// answers or there is no quorum within the patience of `options`.
    pub async fn connect(options: EtcdOptions) -> Result<Etcd> {
        let keys = options.keys();
        let interval = options.compaction_interval;
        let client = Arc::new(Client::new(options)?);
        let revision = client.revision().await?;
        tracing::info!(revision, endpoints = ?client.options.endpoints, "connected to etcd");
        if !interval.is_zero() {
            tokio::spawn(compact::run(Arc::clone(&client), interval));
        }
        let in_flight = Semaphore::new(IN_FLIGHT_BYTES / IN_FLIGHT_UNIT_BYTES);
        Ok(Etcd { leases: Leases::new(Arc::clone(&client)), client, keys, in_flight })
    }

    /// Has every member give back the room that compacted history took. With each member's endpoint, what it said.
    pub async fn defragment(&self) -> Vec<(String, Result<()>)> {
        self.client.defragment().await
    }

    /// A transaction on one key that does `success` where the key is at revision `expected` (0: it is not there).
    async fn write(&self, key: &str, expected: Revision, operation: Operation) -> Result<Written> {
        let in_etcd = self.keys.theirs_of(key)?;
        let bytes = operation.value.as_ref().map_or(0, Bytes::len);
        let units = (1 + bytes / IN_FLIGHT_UNIT_BYTES).min(IN_FLIGHT_BYTES / IN_FLIGHT_UNIT_BYTES) as u32;
        let _permit = self.in_flight.acquire_many(units).await.map_err(|_| Error::Closed)?;
        let mut renewed = false;
        loop {
            let lease = match operation.ttl {
                Some(ttl) => self.leases.lease(ttl).await?,
                None => 0,
            };
            let request = transaction(&in_etcd, expected, &operation, lease);
            let answer: Result<proto::TxnResponse, Denial> = self.client.write(TXN, request.clone()).await;
            match answer {
                Ok(answer) => return self.written(answer),
                // The lease that was to be shared has been revoked meanwhile; nothing was written.
                Err(Denial::Refused(failure)) if failure.code == Code::NotFound && lease != 0 && !renewed => {
                    renewed = true;
                    self.leases.forget(lease);
                }
                Err(denial) => return Err(self.write_error(key, &request, &operation, denial).await),
            }
        }
    }

    fn written(&self, answer: proto::TxnResponse) -> Result<Written> {
        if answer.succeeded {
            return Ok(Written::Done(Revision(revision_of(answer.header))));
        }
        let current = answer.responses.into_iter().next().and_then(|response| response.range);
        let current = current.and_then(|range| range.kvs.into_iter().next());
        Ok(Written::Refused(current.and_then(|kv| self.entry(kv)).map(Box::new)))
    }

    async fn write_error(
        &self,
        key: &str,
        request: &proto::TxnRequest,
        operation: &Operation,
        denial: Denial,
    ) -> Error {
        let Denial::Refused(failure) = denial else { return denial.into() };
        let bytes = operation.value.as_ref().map_or(0, Bytes::len);
        let request_bytes = request.encoded_len() + REQUEST_OVERHEAD_BYTES;
        match failure.code {
            // What etcd says of a full database and of too many requests is the same code.
            Code::ResourceExhausted => match self.client.is_out_of_space().await {
                Ok(true) => Error::NoSpace {
                    message: format!(
                        "{}; compact and defragment the members of etcd, then disarm the alarm NOSPACE",
                        failure.message
                    ),
                },
                Ok(false) => Error::Unavailable { message: failure.message },
                Err(denial) => denial.into(),
            },
            Code::InvalidArgument if request_bytes > VALUE_BYTES_MAX => {
                let limit = VALUE_BYTES_MAX.saturating_sub(request_bytes - bytes);
                Error::TooLarge { key: key.to_owned(), bytes, limit }
            }
            _ => Denial::Refused(failure).into(),
        }
    }

    fn entry(&self, kv: proto::KeyValue) -> Option<Entry> {
        let Some(key) = self.keys.ours_of(&kv.key) else {
            tracing::error!(key = %kv.key.escape_ascii(), "a key in etcd is not UTF-8; it is not served");
            return None;
        };
        Some(Entry {
            key: key.into(),
            value: kv.value,
            created: Revision(unsigned(kv.create_revision)),
            modified: Revision(unsigned(kv.mod_revision)),
        })
    }

    fn check_size(&self, key: &str, value: &Bytes) -> Result<()> {
        let limit = self.client.options.value_bytes_max;
        if value.len() > limit {
            return Err(Error::TooLarge { key: key.to_owned(), bytes: value.len(), limit });
        }
        Ok(())
    }

    /// What etcd answers "out of range" to: below what is retained, or above the newest.
    async fn out_of_range(&self, requested: Revision) -> Error {
        match self.client.revision().await {
            Err(denial) => denial.into(),
            Ok(newest) if requested.0 > newest => Error::Future { requested, newest: Revision(newest) },
            Ok(_) => match watch::oldest(&self.client, requested).await {
                Ok(oldest) => Error::Compacted { requested, oldest },
                Err(error) => error,
            },
        }
    }

    /// One answer of etcd to a list, and what is behind it.
    async fn page(&self, options: &ListOptions, limit: usize) -> Result<ListPage> {
        let keys::Range { from, end } = self.keys.range(&options.prefix, options.after.as_deref())?;
        if from >= end {
            // Behind the last key that there may be: etcd would take an empty range for a mistake.
            let at = self.at(options.at.unwrap_or_default()).await?;
            return Ok(ListPage { entries: Vec::new(), revision: options.at.unwrap_or(at), remaining: 0 });
        }
        let request = proto::RangeRequest {
            key: from,
            range_end: end,
            limit: signed(limit as u64),
            revision: signed(options.at.map_or(0, |at| at.0)),
            ..Default::default()
        };
        let answer: Result<proto::RangeResponse, Denial> =
            self.client.read(RANGE, request, self.client.options.timeouts.list).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(Denial::Refused(failure)) if failure.code == Code::OutOfRange => {
                return Err(self.out_of_range(options.at.unwrap_or_default()).await);
            }
            Err(denial) => return Err(denial.into()),
        };
        let remaining = unsigned(answer.count).saturating_sub(answer.kvs.len() as u64);
        let revision = options.at.unwrap_or(Revision(revision_of(answer.header)));
        let entries = answer.kvs.into_iter().filter_map(|kv| self.entry(kv)).collect();
        Ok(ListPage { entries, revision, remaining })
    }

    /// That a revision (0: the newest) can be read; answers the newest.
    async fn at(&self, revision: Revision) -> Result<Revision> {
        let key = self.keys.theirs_of(&format!("{}/", self.client.options.replaces))?;
        let request = proto::RangeRequest { key, revision: signed(revision.0), count_only: true, ..Default::default() };
        let answer: Result<proto::RangeResponse, Denial> =
            self.client.read(RANGE, request, self.client.options.timeouts.read).await;
        match answer {
            Ok(answer) => Ok(Revision(revision_of(answer.header))),
            Err(Denial::Refused(failure)) if failure.code == Code::OutOfRange => Err(self.out_of_range(revision).await),
            Err(denial) => Err(denial.into()),
        }
    }
}

/// What a transaction does where its comparison holds: puts a value, or deletes.
struct Operation {
    value: Option<Bytes>,
    ttl: Option<Duration>,
}

enum Written {
    Done(Revision),
    /// The comparison did not hold; what is there instead, where that was asked for.
    Refused(Option<Box<Entry>>),
}

fn transaction(key: &Bytes, expected: Revision, operation: &Operation, lease: i64) -> proto::TxnRequest {
    let compare = proto::Compare {
        result: 0,
        target: proto::CompareTarget::Mod.into(),
        key: key.clone(),
        version: None,
        mod_revision: Some(signed(expected.0)),
    };
    let success = match &operation.value {
        Some(value) => {
            let put = proto::PutRequest { key: key.clone(), value: value.clone(), lease };
            proto::RequestOp { put: Some(put), ..Default::default() }
        }
        None => {
            let delete = proto::DeleteRangeRequest { key: key.clone() };
            proto::RequestOp { delete_range: Some(delete), ..Default::default() }
        }
    };
    // Who creates knows what it means that something is there.
    let failure = (expected != Revision(0)).then(|| {
        let range = proto::RangeRequest { key: key.clone(), ..Default::default() };
        proto::RequestOp { range: Some(range), ..Default::default() }
    });
    proto::TxnRequest { compare: vec![compare], success: vec![success], failure: failure.into_iter().collect() }
}

/// Revisions and limits beyond what etcd can express are beyond all that there are.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let request = proto::RangeRequest { key: self.keys.theirs_of(key)?, ..Default::default() };
        let answer: proto::RangeResponse = self.client.read(RANGE, request, self.client.options.timeouts.read).await?;
        Ok(answer.kvs.into_iter().next().and_then(|kv| self.entry(kv)))
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        if options.limit != 0 {
            return self.page(&options, options.limit).await;
        }
        let mut all = self.page(&options, PAGE).await?;
        let mut options = ListOptions { at: Some(all.revision), ..options };
        while let Some(last) = all.entries.last().filter(|_| all.remaining > 0) {
            options.after = Some(last.key.to_string());
            let page = self.page(&options, PAGE).await?;
            all.entries.extend(page.entries);
            all.remaining = page.remaining;
        }
        Ok(all)
    }

    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision> {
        self.check_size(key, &value)?;
        match self.write(key, Revision(0), Operation { value: Some(value), ttl }).await? {
            Written::Done(revision) => Ok(revision),
            Written::Refused(_) => Err(Error::Exists { key: key.to_owned() }),
        }
    }

    async fn update(&self, key: &str, value: Bytes, expected: Revision, ttl: Option<Duration>) -> Result<Revision> {
        self.check_size(key, &value)?;
        self.replace(key, expected, Operation { value: Some(value), ttl }).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision> {
        self.replace(key, expected, Operation { value: None, ttl: None }).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream> {
        // A range that is none is told here, as is a revision that is not retained or not there yet.
        self.keys.range(prefix, None)?;
        self.at(Revision(after.0.max(1))).await?;
        Ok(watch::watch(Arc::clone(&self.client), self.keys.clone(), prefix, after))
    }

    async fn revision(&self) -> Result<Revision> {
        Ok(Revision(self.client.revision().await?))
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        let request = proto::CompactionRequest { revision: signed(revision.0) };
        let answer: Result<proto::CompactionResponse, Denial> =
            self.client.read(COMPACT, request, self.client.options.timeouts.list).await;
        match answer {
            Ok(_) => Ok(()),
            Err(Denial::Refused(failure)) if failure.code == Code::OutOfRange => {
                // Compacted already, which is as good, or ahead of the newest.
                let newest = self.revision().await?;
                if revision > newest { Err(Error::Future { requested: revision, newest }) } else { Ok(()) }
            }
            Err(denial) => Err(denial.into()),
        }
    }

    async fn close(&self) -> Result<()> {
        self.client.close().await;
        Ok(())
    }
}

impl Etcd {
    /// An update or a delete of what is at revision `expected`.
    async fn replace(&self, key: &str, expected: Revision, operation: Operation) -> Result<Revision> {
        if expected == Revision(0) {
            // To etcd 0 is "not there", which is nothing to replace.
            let current = self.get(key).await?.map(Box::new);
            return Err(Error::Conflict { key: key.to_owned(), current });
        }
        match self.write(key, expected, operation).await? {
            Written::Done(revision) => Ok(revision),
            Written::Refused(current) => Err(Error::Conflict { key: key.to_owned(), current }),
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // Ends watches and the compactor; connections go with the last handle.
        self.client.closed.cancel();
    }
}
