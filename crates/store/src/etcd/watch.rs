//! Watches that go on: over members that die, leaders that change and connections that break, without gap or repeat.
//!
//! - What has been delivered is known by revision, and a new stream begins there. A revision is delivered whole (keys whose
//!   shared lease has run out are deleted in one), so that nothing of it is left behind.
//! - A stream begins with the revision delivered last, not the one behind it. etcd compares where a stream begins with what
//!   was compacted, and has forgotten deletions at the very revision it was compacted to.
//! - A watch takes all keys of etcd and sorts out its own. Every revision then shows up, which says how far the watch is,
//!   at once. Asking for progress instead is not reliable before 3.4.31 and 3.5.13: the answer may overtake events. It is
//!   what is left where a user may not read all keys.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::BoxFuture, stream};
use tokio::sync::{mpsc, watch};
use tonic::{Code, Streaming};

use super::{
    client::{Client, unsigned},
    connection::{Connection, Failure, request},
    keys::{Keys, Range},
    proto, signed,
};
use crate::{Change, Error, Event, Result, Revision, WatchItem, WatchStream};

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How often progress is asked for where it has to be.
const ASK_PROGRESS: Duration = Duration::from_millis(200);
/// How often a member is asked whether it is still there.
const PROBE_EVERY: Duration = Duration::from_millis(500);

pub(super) fn watch(client: Arc<Client>, keys: Keys, prefix: &str, after: Revision) -> WatchStream {
    let seen = after.0.max(1);
    let watcher = Watcher {
        batch: Batch { keys, prefix: prefix.to_owned(), seen, told: Some(seen), held: Vec::new() },
        client,
        scope: Scope::Everything,
        open: None,
        // etcd may have nothing to say until the next write: it forgets a deletion at the revision it is compacted to.
        ready: VecDeque::from([WatchItem::Progress(Revision(seen))]),
        backoff: BACKOFF_MIN,
        denials: 0,
    };
    stream::unfold(Some(watcher), |watcher| async {
        let mut watcher = watcher?;
        let item = watcher.next().await;
        let next = item.is_ok().then_some(watcher);
        Some((item, next))
    })
    .boxed()
}

/// The oldest revision that is retained, where `requested` is not.
pub(super) async fn oldest(client: &Client, requested: Revision) -> Result<Revision> {
    let range = client.options.keys().range("", None)?;
    let trial = async {
        loop {
            match Open::begin(client, &range, requested.0.max(1)).await {
                Ok(mut open) => {
                    while let Ok(Some(answer)) = open.stream.message().await {
                        if answer.compact_revision != 0 {
                            return Ok(Revision(unsigned(answer.compact_revision)));
                        }
                    }
                }
                Err(failure) if failure.permanent => {
                    return Err(Error::Misconfigured { message: failure.message });
                }
                Err(_) => {}
            }
            tokio::time::sleep(BACKOFF_MIN).await;
        }
    };
    let late = || Error::Unavailable { message: "no member said what etcd still retains".into() };
    tokio::select! {
        () = client.closed.cancelled() => Err(Error::Closed),
        told = tokio::time::timeout(client.options.timeouts.patience, trial) => told.unwrap_or_else(|_| Err(late())),
    }
}

/// Which keys a stream is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Everything,
    Prefix,
}

/// A stream of one member.
struct Open {
    connection: Connection,
    stream: Streaming<proto::WatchResponse>,
    /// Keeps our half open.
    requests: mpsc::Sender<proto::WatchRequest>,
    silences: watch::Receiver<u64>,
    /// Ends where the member does not answer any more.
    probe: BoxFuture<'static, Failure>,
}

/// Asks on the watch's own connection, as requests may go to another member: one that is cut off is not heard of until pings
/// notice, and etcd allows few of those.
fn probe(connection: Connection, limit: Duration) -> BoxFuture<'static, Failure> {
    Box::pin(async move {
        loop {
            tokio::time::sleep(PROBE_EVERY).await;
            if let Err(failure) = connection.status(limit).await {
                return failure;
            }
        }
    })
}

impl Open {
    async fn begin(client: &Client, range: &Range, start: u64) -> Result<Open, Failure> {
        let connection = client.dial().await?;
        let silences = client.silences(&connection).ok_or_else(|| connection.ended())?;
        let create = proto::WatchCreateRequest {
            key: range.from.clone(),
            range_end: range.end.clone(),
            start_revision: signed(start),
            progress_notify: false,
            fragment: true,
        };
        let (requests, receiver) = mpsc::channel(4);
        let first = proto::WatchRequest { create: Some(create), progress: None };
        let later = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
        let requested = request(stream::iter([first]).chain(later), client.token().as_ref());
        let limit = client.options.timeouts.request;
        let begun = tokio::time::timeout(limit, connection.stream(WATCH, requested)).await;
        let stream =
            begun.unwrap_or_else(|_| Err(connection.late(limit))).inspect_err(|_| client.leave(&connection))?;
        let probe = probe(connection.clone(), client.options.timeouts.connect);
        Ok(Open { connection, stream, requests, silences, probe })
    }
}

struct Watcher {
    client: Arc<Client>,
    scope: Scope,
    open: Option<Open>,
    batch: Batch,
    ready: VecDeque<WatchItem>,
    backoff: Duration,
    /// How often in a row a member has refused to begin.
    denials: usize,
}

/// What a watcher does about what it got.
enum Next {
    GoOn,
    /// Begin again, on another member where this one failed.
    Again(Failure),
}

impl Watcher {
    async fn next(&mut self) -> Result<WatchItem> {
        loop {
            if self.client.closed.is_cancelled() {
                return Err(Error::Closed);
            }
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            let closed = self.client.closed.clone();
            let next = tokio::select! {
                () = closed.cancelled() => return Err(Error::Closed),
                next = self.advance() => next?,
            };
            if let Next::Again(failure) = next {
                if failure.permanent {
                    return Err(Error::Misconfigured { message: failure.message });
                }
                tracing::debug!(error = failure.message, seen = self.batch.seen, "a watch on etcd begins again");
                if let Some(open) = self.open.take() {
                    self.client.leave(&open.connection);
                }
                self.batch.held.clear();
                tokio::select! {
                    () = closed.cancelled() => return Err(Error::Closed),
                    () = tokio::time::sleep(self.backoff) => {}
                }
                self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
            }
        }
    }

    /// Gets one answer, or begins a stream where there is none.
    async fn advance(&mut self) -> Result<Next> {
        let Some(open) = &mut self.open else {
            let range = match self.scope {
                Scope::Everything => Range::everything(),
                Scope::Prefix => self.batch.keys.range(&self.batch.prefix, None)?,
            };
            return Ok(match Open::begin(&self.client, &range, self.batch.seen).await {
                Ok(open) => {
                    self.open = Some(open);
                    Next::GoOn
                }
                Err(failure) => Next::Again(failure),
            });
        };
        let message = tokio::select! {
            message = open.stream.message() => message,
            _ = open.silences.changed() => return Ok(Next::Again(open.connection.ended())),
            failure = &mut open.probe => return Ok(Next::Again(failure)),
            () = tokio::time::sleep(ASK_PROGRESS), if self.scope == Scope::Prefix => {
                let progress = Some(proto::WatchProgressRequest {});
                // A full channel holds a question that is not yet sent.
                let _ = open.requests.try_send(proto::WatchRequest { create: None, progress });
                return Ok(Next::GoOn);
            }
        };
        match message {
            Ok(Some(answer)) => self.take(answer).await,
            Ok(None) => Ok(Next::Again(open.connection.ended())),
            Err(status) => Ok(Next::Again(open.connection.failure(&status))),
        }
    }

    async fn take(&mut self, answer: proto::WatchResponse) -> Result<Next> {
        if answer.compact_revision != 0 {
            let oldest = Revision(unsigned(answer.compact_revision));
            return Err(Error::Compacted { requested: Revision(self.batch.seen), oldest });
        }
        if answer.canceled {
            return self.denied(answer).await;
        }
        if answer.created {
            return Ok(Next::GoOn);
        }
        self.denials = 0;
        self.backoff = BACKOFF_MIN;
        if answer.events.is_empty() && !answer.fragment {
            let told = unsigned(answer.header.unwrap_or_default().revision);
            // Only an answer to a question of ours, behind all events up to its revision.
            if self.scope == Scope::Prefix {
                self.ready.extend(self.batch.progress(told));
            }
            return Ok(Next::GoOn);
        }
        self.ready.extend(self.batch.add(answer.events, answer.fragment));
        Ok(Next::GoOn)
    }

    /// etcd ended the watch: for now, or because we may not have it.
    async fn denied(&mut self, answer: proto::WatchResponse) -> Result<Next> {
        let Some(open) = self.open.take() else { return Ok(Next::GoOn) };
        let reason = answer.cancel_reason;
        if !answer.created {
            return Ok(Next::Again(Failure { message: reason, ..open.connection.ended() }));
        }
        self.denials += 1;
        match (self.denials, self.scope) {
            // The token may have run out: reading renews it.
            (1, _) => self.client.revision().await.map(drop)?,
            (_, Scope::Everything) => {
                if !open.connection.version.tells_progress() {
                    let message = format!(
                        "the user of etcd may not watch all keys ({reason}), and etcd {} cannot tell how far a watch is \
                         otherwise; allow reading all keys, or run etcd 3.4.31, 3.5.13 or newer",
                        open.connection.version
                    );
                    return Err(Error::Misconfigured { message });
                }
                (self.scope, self.denials) = (Scope::Prefix, 1);
            }
            (_, Scope::Prefix) => {
                return Err(Error::Misconfigured { message: format!("etcd refuses a watch: {reason}") });
            }
        }
        Ok(Next::GoOn)
    }
}

/// Turns what etcd tells into items: whole revisions, in order, each once.
struct Batch {
    keys: Keys,
    prefix: String,
    /// Everything up to this revision has been looked at.
    seen: u64,
    /// What the consumer knows to have been looked at.
    told: Option<u64>,
    /// Events of a revision whose other events may follow in the next fragment.
    held: Vec<proto::WatchEvent>,
}

impl Batch {
    /// `fragment`: more of the last revision may follow.
    fn add(&mut self, events: Vec<proto::WatchEvent>, fragment: bool) -> Vec<WatchItem> {
        let mut all = std::mem::take(&mut self.held);
        all.extend(events);
        let last = all.last().map_or(0, revision);
        if fragment {
            let whole = all.partition_point(|event| revision(event) < last);
            self.held = all.split_off(whole);
        }
        let Some(upto) = all.last().map(revision) else { return Vec::new() };
        let seen = self.seen;
        let events: Vec<_> =
            all.into_iter().filter(|event| revision(event) > seen).filter_map(|event| self.event(event)).collect();
        self.seen = seen.max(upto);
        let mut items = Vec::new();
        if let Some(last) = events.last() {
            self.told = Some(last.revision.0);
            items.push(WatchItem::Events(events));
        }
        items.extend(self.progress(upto));
        items
    }

    fn progress(&mut self, upto: u64) -> Option<WatchItem> {
        self.seen = self.seen.max(upto);
        let news = self.told != Some(self.seen);
        self.told = Some(self.seen);
        news.then_some(WatchItem::Progress(Revision(self.seen)))
    }

    /// `None` for what is not under the watch's prefix.
    fn event(&self, event: proto::WatchEvent) -> Option<Event> {
        let revision = Revision(revision(&event));
        let kv = event.kv?;
        let key = self.keys.ours_of(&kv.key).filter(|key| key.starts_with(&self.prefix))?;
        let change = match event.kind {
            0 => Change::Put { value: kv.value, created: Revision(unsigned(kv.create_revision)) },
            _ => Change::Delete,
        };
        Some(Event { revision, key: key.into(), change })
    }
}

fn revision(event: &proto::WatchEvent) -> u64 {
    event.kv.as_ref().map_or(0, |kv| unsigned(kv.mod_revision))
}

impl Connection {
    /// The member ended a stream without saying why.
    fn ended(&self) -> Failure {
        self.failure(&tonic::Status::new(Code::Unavailable, "the member ended the watch"))
    }

    fn late(&self, limit: Duration) -> Failure {
        self.failure(&tonic::Status::new(Code::DeadlineExceeded, format!("no watch in {limit:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, revision: i64) -> proto::WatchEvent {
        let kv = proto::KeyValue {
            key: key.to_owned().into(),
            create_revision: 2,
            mod_revision: revision,
            ..Default::default()
        };
        proto::WatchEvent { kind: 0, kv: Some(kv) }
    }

    /// Items as text: `key@revision` of events, `=revision` of progress.
    fn shown(items: Vec<WatchItem>) -> Vec<String> {
        let show = |item| match item {
            WatchItem::Events(events) => {
                let events: Vec<_> = events.iter().map(|event| format!("{}@{}", event.key, event.revision)).collect();
                events.join(" ")
            }
            WatchItem::Progress(revision) => format!("={revision}"),
        };
        items.into_iter().map(show).collect()
    }

    #[test]
    fn a_revision_is_told_once_and_whole() {
        let keys = Keys::new("", "/r");
        let mut batch = Batch { keys, prefix: "/a/".into(), seen: 5, told: None, held: Vec::new() };
        for (events, fragment, wanted) in [
            // What was seen before the stream began.
            (vec![put("/r/a/x", 5)], false, vec!["=5"]),
            (vec![put("/r/a/x", 5)], false, vec![]),
            (vec![put("/r/a/1", 6), put("/r/b/1", 7)], false, vec!["/a/1@6", "=7"]),
            (vec![put("compact_rev_key", 8)], false, vec!["=8"]),
            (vec![put("/r/a/1", 9), put("/r/a/2", 10)], true, vec!["/a/1@9"]),
            (vec![put("/r/a/3", 10)], true, vec![]),
            (vec![put("/r/a/4", 10), put("/r/a/1", 11)], false, vec!["/a/2@10 /a/3@10 /a/4@10 /a/1@11"]),
            (vec![put("/r/a/4", 10), put("/r/a/1", 11), put("/r/a/1", 12)], false, vec!["/a/1@12"]),
        ] {
            assert_eq!(shown(batch.add(events, fragment)), wanted);
        }
        assert_eq!(batch.seen, 12);
        assert_eq!(shown(batch.progress(20).into_iter().collect()), ["=20"]);
        assert_eq!(batch.progress(20), None);
    }
}
