//! Watch fan-out: few writers, many watchers, and how long each write takes to reach each of them.

use std::{
    cell::RefCell,
    ops::Range,
    rc::Rc,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::Method;
use memchr::memmem::Finder;
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::{Connection, Prepared, Protocol, READ_ANSWERS, READ_WATCHES},
    crew::{Crew, Gate},
    error::{Error, Result},
    load::{Extent, Load, Meter, Outcome, connect, share},
    schedule::Timer,
    tally::Tally,
    template::{DIGITS, Template},
};

/// In each object's data, before the eight digits that tell one write from another.
pub const MARKER: &str = "\"seq\":\"";
/// Watches of one HTTP/2 connection: fewer than any server allows.
const STREAMS: usize = 100;
/// Writes that may be under way at once.
const RING: usize = 1 << 16;
/// How long a write may take to reach every watcher.
const DELIVERY: Duration = Duration::from_secs(60);

/// Writers and watchers at one server.
#[derive(Clone)]
pub struct Fanout {
    /// The write, and how: its connections are the writers.
    pub load: Load,
    pub watchers: usize,
    /// Of the watch, with the resourceVersion to begin after.
    pub path: String,
}

/// What all threads share.
struct Shared {
    fanout: Fanout,
    base: Instant,
    /// When each write began, in ns after `base`, and how many watchers have it.
    begun_ns: Vec<AtomicU64>,
    received: Vec<AtomicU32>,
    /// Watches that have not ended.
    watching: AtomicU32,
    delivered: AtomicU64,
    everyone: Notify,
    measured_from: OnceLock<Instant>,
    /// Both, as watchers look at each event and writers wait.
    stopped: AtomicBool,
    stop: CancellationToken,
}

/// Deliveries, counted from the write's start; and the writes themselves, to their acknowledgement.
pub struct Fanned {
    pub deliveries: Outcome,
    pub writes: Outcome,
}

pub async fn run(fanout: Fanout, cancel: &CancellationToken, mut look: impl FnMut(u64)) -> Result<Fanned> {
    let Extent::Time { warm_up, measured } = fanout.load.extent else {
        return Err(Error::Nothing("a fan-out is measured by time".into()));
    };
    let threads = fanout.load.threads.min(fanout.watchers).max(1);
    let shared = Arc::new(Shared::new(fanout, cancel));
    let of_threads = shared.clone();
    let mut crew = Crew::spawn(threads + 1, cancel, move |number, gate| {
        let shared = of_threads.clone();
        async move {
            match number < threads {
                true => watchers(shared, number, threads, gate).await.map(|tally| (true, tally)),
                false => writers(shared, gate).await.map(|tally| (false, tally)),
            }
        }
    })?;
    let start = crew.begin(warm_up).await?;
    tokio::time::sleep_until(start.measured_from.into()).await;
    let before = Meter::read(&shared.fanout.load.pids);
    while start.measured_from.elapsed() < measured && !crew.has_ended() {
        look(shared.delivered.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shared.stopped.store(true, Ordering::Relaxed);
    let elapsed = start.measured_from.elapsed();
    let after = Meter::read(&shared.fanout.load.pids);
    shared.stop.cancel();
    let (mut deliveries, mut writes) = (Tally::default(), Tally::default());
    for (is_watcher, tally) in crew.end().await? {
        if is_watcher { &mut deliveries } else { &mut writes }.merge(&tally);
    }
    Ok(Fanned {
        deliveries: Outcome::new(deliveries, elapsed, before.clone(), after.clone()),
        writes: Outcome::new(writes, elapsed, before, after),
    })
}

impl Shared {
    fn new(fanout: Fanout, cancel: &CancellationToken) -> Shared {
        Shared {
            base: Instant::now(),
            begun_ns: (0..RING).map(|_| AtomicU64::new(0)).collect(),
            received: (0..RING).map(|_| AtomicU32::new(0)).collect(),
            watching: AtomicU32::new(u32::try_from(fanout.watchers).unwrap_or(u32::MAX)),
            delivered: AtomicU64::new(0),
            everyone: Notify::new(),
            measured_from: OnceLock::new(),
            stopped: AtomicBool::new(false),
            stop: cancel.child_token(),
            fanout,
        }
    }

    fn begin(&self, value: u64, now: Instant) {
        let place = value as usize % RING;
        let ns = u64::try_from(now.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX);
        self.received[place].store(0, Ordering::Relaxed);
        self.begun_ns[place].store(ns, Ordering::Release);
    }

    /// A watcher has a write: when that began.
    fn receive(&self, value: u64) -> Instant {
        let place = value as usize % RING;
        let begun = self.base + Duration::from_nanos(self.begun_ns[place].load(Ordering::Acquire));
        let received = self.received[place].fetch_add(1, Ordering::AcqRel) + 1;
        self.delivered.fetch_add(1, Ordering::Relaxed);
        if received >= self.watching.load(Ordering::Relaxed) {
            self.everyone.notify_waiters();
        }
        begun
    }

    /// Waits until every watcher has a write. The watchers that do not have it in time are counted.
    async fn delivered(&self, value: u64) -> u32 {
        let place = value as usize % RING;
        let missing = || {
            let received = self.received[place].load(Ordering::Acquire);
            self.watching.load(Ordering::Relaxed).saturating_sub(received)
        };
        let waited = timeout(DELIVERY, async {
            loop {
                let woken = self.everyone.notified();
                if missing() == 0 {
                    return;
                }
                woken.await;
            }
        });
        match self.stop.run_until_cancelled(waited).await {
            Some(Err(_)) => missing(),
            _ => 0,
        }
    }

    /// Whether something that began then is measured.
    fn counts(&self, begun: Instant) -> bool {
        !self.stopped.load(Ordering::Relaxed) && self.measured_from.get().is_some_and(|from| begun >= *from)
    }
}

/// Puts a watch's bytes together to lines and finds the writes in them.
struct Lines {
    line: Vec<u8>,
    marker: Finder<'static>,
}

impl Lines {
    fn new() -> Lines {
        Lines { line: Vec::new(), marker: Finder::new(MARKER) }
    }

    fn feed(&mut self, mut part: &[u8], mut found: impl FnMut(u64)) {
        while let Some(end) = memchr::memchr(b'\n', part) {
            let (last, rest) = part.split_at(end);
            part = &rest[1..];
            let whole = if self.line.is_empty() {
                value(&self.marker, last)
            } else {
                self.line.extend_from_slice(last);
                value(&self.marker, &self.line)
            };
            self.line.clear();
            if let Some(value) = whole {
                found(value);
            }
        }
        self.line.extend_from_slice(part);
    }
}

/// Where the digits that tell one write from another stand in an object; `marker` finds [`MARKER`].
pub fn place(marker: &Finder<'_>, object: &[u8]) -> Option<Range<usize>> {
    let begin = marker.find(object)? + MARKER.len();
    (begin + DIGITS <= object.len()).then(|| begin..begin + DIGITS)
}

/// The number written in a line.
fn value(marker: &Finder<'_>, line: &[u8]) -> Option<u64> {
    std::str::from_utf8(&line[place(marker, line)?]).ok()?.parse().ok()
}

async fn watchers(shared: Arc<Shared>, number: usize, threads: usize, gate: Gate) -> Result<Tally> {
    let load = &shared.fanout.load;
    let watchers = share(shared.fanout.watchers, number, threads);
    let streams = if load.endpoint.protocol() == Protocol::Http2 { STREAMS } else { 1 };
    let connections = connect(&load.endpoint, watchers.div_ceil(streams), streams, READ_WATCHES).await?;
    let tally = Rc::new(RefCell::new(Tally::default()));
    for connection in connections.into_iter().take(watchers) {
        tokio::task::spawn_local(watcher(shared.clone(), connection, tally.clone()));
    }
    if gate.pass().await.is_some() {
        shared.stop.cancelled().await;
    }
    let tally = tally.take();
    Ok(tally)
}

/// Watches until its thread ends.
async fn watcher(shared: Arc<Shared>, mut connection: Connection, tally: Rc<RefCell<Tally>>) {
    let path = shared.fanout.path.clone();
    let watch = Template { method: Method::GET, path, content_type: None, body: String::new() };
    let mut request = shared.fanout.load.endpoint.prepare(&watch);
    let mut lines = Lines::new();
    let mut sink = |part: &[u8]| {
        lines.feed(part, |value| {
            let (begun, now) = (shared.receive(value), Instant::now());
            if shared.counts(begun) {
                let mut tally = tally.borrow_mut();
                tally.latencies.add(now.saturating_duration_since(begun));
            }
        });
        if shared.measured_from.get().is_some() {
            tally.borrow_mut().bytes += part.len() as u64;
        }
    };
    let ended = match connection.exchange(&mut request, (0, 0), &mut sink).await {
        Ok(answer) => format!("watch ended: {}", answer.status),
        Err(error) => format!("watch ended: {}", error.kind()),
    };
    tally.borrow_mut().fail(&ended, 1);
    shared.watching.fetch_sub(1, Ordering::Relaxed);
    shared.everyone.notify_waiters();
}

/// One connection, and the write to the object that is its own.
struct Writer {
    shared: Arc<Shared>,
    connection: Connection,
    request: Prepared,
    object: u64,
    tally: Rc<RefCell<Tally>>,
}

/// All writers. The first write reaches every watcher before anything is measured: then all watches are established.
async fn writers(shared: Arc<Shared>, gate: Gate) -> Result<Tally> {
    let load = &shared.fanout.load;
    let connections = connect(&load.endpoint, load.connections, 1, READ_ANSWERS).await?;
    let tally = Rc::new(RefCell::new(Tally::default()));
    let mut writers: Vec<Writer> = (0..)
        .zip(connections)
        .map(|(object, connection)| Writer {
            request: load.endpoint.prepare(&load.operations[0].template),
            shared: shared.clone(),
            connection,
            object,
            tally: tally.clone(),
        })
        .collect();
    if let Some(first) = writers.first_mut() {
        first.write(Instant::now(), true).await;
    }
    let Some(start) = gate.pass().await else { return Ok(Tally::default()) };
    // Set once, here.
    let _ = shared.measured_from.set(start.measured_from);
    let running: Vec<_> = writers.into_iter().map(|writer| tokio::task::spawn_local(writer.run(start.begin))).collect();
    for writer in running {
        writer.await.map_err(|_| Error::Interrupted)?.map_err(Error::io("a timer"))?;
    }
    let tally = tally.take();
    Ok(tally)
}

impl Writer {
    async fn run(mut self, begin: Instant) -> std::io::Result<()> {
        let shared = self.shared.clone();
        let load = &shared.fanout.load;
        let mut timer = Timer::new()?;
        let mut turn = self.object;
        while !shared.stopped.load(Ordering::Relaxed) && self.connection.is_open() {
            let due = load.rate.map(|schedule| begin + schedule.due(turn));
            if let Some(due) = due {
                timer.until(due).await?;
            }
            turn += load.connections as u64;
            self.write(due.unwrap_or_else(Instant::now), due.is_none()).await;
        }
        Ok(())
    }

    /// Writes once; `wait` is for all watchers to have it.
    async fn write(&mut self, begun: Instant, wait: bool) {
        let shared = &self.shared;
        let value = shared.fanout.load.counters.value.fetch_add(1, Ordering::Relaxed);
        shared.begin(value, begun);
        let digits = (self.object, value);
        let outcome = self.connection.exchange(&mut self.request, digits, &mut |_| ()).await;
        let now = Instant::now();
        if shared.counts(begun) {
            self.tally.borrow_mut().add(begun, now, &outcome);
        }
        if wait && outcome.is_ok_and(|answer| answer.is_success()) {
            let missing = shared.delivered(value).await;
            self.tally.borrow_mut().fail("not delivered in time", missing.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_found_in_lines_that_come_in_any_parts() {
        let event = |seq: u64| {
            let fields = r#""managedFields":[{"fieldsV1":{"f:data":{"f:seq":{}}}}]"#;
            format!(r#"{{"type":"MODIFIED","object":{{{fields},"data":{{"fill":"abc","seq":"{seq:08}"}}}}}}"#) + "\n"
        };
        let bookmark = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5"}}}"#.to_owned() + "\n";
        let stream = [event(1), bookmark, event(22), event(99_999_999)].concat();
        for size in 1..=stream.len() {
            let (mut lines, mut found) = (Lines::new(), Vec::new());
            for part in stream.as_bytes().chunks(size) {
                lines.feed(part, |value| found.push(value));
            }
            assert_eq!(found, [1, 22, 99_999_999], "in parts of {size}");
        }
    }
}
