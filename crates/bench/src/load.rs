//! The generator: workers that send requests one after the other (closed loop), or when they are due (open loop).

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    connection::{Connection, Endpoint, Prepared, READ_ANSWERS},
    crew::{Crew, Gate, Start},
    error::{Error, Result},
    schedule::{Schedule, Timer},
    tally::Tally,
    template::Template,
    usage,
};

/// Connections that are opened at the same time: many more are slow on both sides and no faster in all.
pub const CONNECT_AT_ONCE: usize = 16;
/// How often the coordinator looks.
const LOOK: Duration = Duration::from_millis(5);
/// A window in which hardly anything was answered goes on for this long.
const PATIENCE: Duration = Duration::from_secs(120);
/// After a connection that could not be opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Which object a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// One that no request was about before, in the whole run.
    Fresh,
    /// Each of so many in turn.
    Turns(u64),
}

#[derive(Clone, Debug)]
pub struct Operation {
    pub template: Template,
    pub numbers: Numbers,
    /// Share among the operations of a mix.
    pub weight: u64,
}

/// How long.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    Time { warm_up: Duration, measured: Duration },
    Requests(u64),
}

/// Numbers that no two requests of a run share.
#[derive(Debug, Default)]
pub struct Counters {
    pub fresh: AtomicU64,
    pub value: AtomicU64,
}

#[derive(Clone)]
pub struct Load {
    pub endpoint: Endpoint,
    pub operations: Vec<Operation>,
    pub connections: usize,
    /// Requests at once on each connection; one with HTTP/1.1.
    pub streams: usize,
    pub threads: usize,
    pub rate: Option<Schedule>,
    pub extent: Extent,
    pub counters: Arc<Counters>,
    /// Processes of the server.
    pub pids: Vec<u32>,
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub tally: Tally,
    pub elapsed: Duration,
    /// Of the server and of the generator, in the measured time.
    pub cpu: Option<Duration>,
    pub generator_cpu: Duration,
    /// The server's, at the end.
    pub resident_bytes: Option<u64>,
}

struct Shared {
    load: Load,
    stop: AtomicBool,
    issued: AtomicU64,
    sequence: AtomicU64,
    completed: AtomicU64,
}

/// Runs it; `look` is told now and then how many requests were answered.
pub async fn run(load: Load, cancel: &CancellationToken, mut look: impl FnMut(u64)) -> Result<Outcome> {
    let threads = load.threads.min(load.connections).max(1);
    let shared = Arc::new(Shared {
        stop: AtomicBool::new(false),
        issued: AtomicU64::new(0),
        sequence: AtomicU64::new(0),
        completed: AtomicU64::new(0),
        load,
    });
    let of_threads = shared.clone();
    let mut crew = Crew::spawn(threads, cancel, move |number, gate| thread(of_threads.clone(), number, threads, gate))?;
    let (warm_up, measured) = match shared.load.extent {
        Extent::Time { warm_up, measured } => (warm_up, Some(measured)),
        Extent::Requests(_) => (Duration::ZERO, None),
    };
    let start = crew.begin(warm_up).await?;
    tokio::time::sleep_until(start.measured_from.into()).await;
    let before = Meter::read(&shared.load.pids);
    let workers = (shared.load.connections * shared.load.streams) as u64;
    let already = shared.completed.load(Ordering::Relaxed);
    while !crew.has_ended() {
        let completed = shared.completed.load(Ordering::Relaxed);
        look(completed);
        if let Some(measured) = measured {
            let over = Instant::now().saturating_duration_since(start.measured_from + measured);
            // An open loop ends by itself, with what was due; but not ever so late.
            let enough = if shared.load.rate.is_some() {
                over > measured.max(PATIENCE / 8)
            } else {
                completed >= already + workers
            };
            if !over.is_zero() && (enough || over > PATIENCE) {
                break;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    shared.stop.store(true, Ordering::Relaxed);
    let stopped = Instant::now();
    let after = Meter::read(&shared.load.pids);
    let mut tally = Tally::default();
    for part in crew.end().await? {
        tally.merge(&part);
    }
    let elapsed = match (measured, shared.load.rate) {
        (Some(_), None) => stopped.saturating_duration_since(start.measured_from),
        (Some(measured), Some(_)) => {
            tally.last.map_or(measured, |last| last.saturating_duration_since(start.measured_from).max(measured))
        }
        (None, _) => tally.last.map_or(Duration::ZERO, |last| last.saturating_duration_since(start.begin)),
    };
    Ok(Outcome::new(tally, elapsed, before, after))
}

/// What was used so far.
#[derive(Clone, Debug)]
pub struct Meter {
    server: Option<usage::Usage>,
    own: usage::Usage,
}

impl Meter {
    pub fn read(pids: &[u32]) -> Meter {
        Meter { server: usage::of(pids), own: usage::of(&[std::process::id()]).unwrap_or_default() }
    }
}

impl Outcome {
    pub fn new(tally: Tally, elapsed: Duration, before: Meter, after: Meter) -> Outcome {
        let cpu = before.server.zip(after.server).map(|(before, after)| after.cpu.saturating_sub(before.cpu));
        Outcome {
            tally,
            elapsed,
            cpu,
            generator_cpu: after.own.cpu.saturating_sub(before.own.cpu),
            resident_bytes: after.server.map(|usage| usage.resident_bytes),
        }
    }
}

/// Opens this thread's share of connections, a few at a time.
pub async fn connect(
    endpoint: &Endpoint,
    connections: usize,
    streams: usize,
    read_bytes: usize,
) -> Result<Vec<Connection>> {
    let (mut opening, mut open) = (VecDeque::new(), Vec::new());
    for number in 0..connections {
        let endpoint = endpoint.clone();
        opening.push_back(tokio::task::spawn_local(async move { endpoint.connect(streams, read_bytes).await }));
        if opening.len() >= CONNECT_AT_ONCE || number + 1 == connections {
            let wait_for = if number + 1 == connections { opening.len() } else { 1 };
            for connecting in opening.drain(..wait_for) {
                open.extend(connecting.await.map_err(|_| Error::Interrupted)??);
            }
        }
    }
    Ok(open)
}

/// How much of `all` the thread of this number takes.
pub fn share(all: usize, number: usize, threads: usize) -> usize {
    all / threads + usize::from(number < all % threads)
}

struct Context {
    shared: Arc<Shared>,
    start: Start,
    tally: RefCell<Tally>,
    open: Option<Open>,
}

/// The open loop of one thread.
struct Open {
    schedule: Schedule,
    thread: u64,
    threads: u64,
    taken: Cell<u64>,
    requests: u64,
    /// One permit per request that is due.
    due: Semaphore,
}

async fn thread(shared: Arc<Shared>, number: usize, threads: usize, gate: Gate) -> Result<Tally> {
    let load = &shared.load;
    let connections = share(load.connections, number, threads);
    let connections = connect(&load.endpoint, connections, load.streams, READ_ANSWERS).await?;
    let Some(start) = gate.pass().await else { return Ok(Tally::default()) };
    let open = load.rate.map(|schedule| Open::new(load, schedule, number as u64, threads as u64));
    let context = Rc::new(Context { start, tally: RefCell::default(), open, shared: shared.clone() });
    let workers: Vec<_> = connections
        .into_iter()
        .map(|connection| tokio::task::spawn_local(worker(context.clone(), connection)))
        .collect();
    if let Some(open) = &context.open {
        open.announce(start.begin, &shared, workers.len()).await.map_err(Error::io("a timer"))?;
    }
    for worker in workers {
        worker.await.map_err(|_| Error::Interrupted)?;
    }
    let mut tally = context.tally.take();
    if let Some(open) = &context.open {
        tally.fail("not sent in time", open.requests.saturating_sub(open.taken.get()));
    }
    Ok(tally)
}

impl Open {
    fn new(load: &Load, schedule: Schedule, thread: u64, threads: u64) -> Open {
        let all = match load.extent {
            Extent::Time { warm_up, measured } => schedule.requests(warm_up + measured),
            Extent::Requests(requests) => requests,
        };
        let requests = (all + threads - 1 - thread) / threads;
        Open { schedule, thread, threads, taken: Cell::new(0), requests, due: Semaphore::new(0) }
    }

    /// When this thread's request of a number is due.
    fn due(&self, begin: Instant, number: u64) -> Instant {
        begin + self.schedule.due(number * self.threads + self.thread)
    }

    async fn announce(&self, begin: Instant, shared: &Shared, workers: usize) -> std::io::Result<()> {
        let mut timer = Timer::new()?;
        for number in 0..self.requests {
            if shared.stop.load(Ordering::Relaxed) {
                break;
            }
            timer.until(self.due(begin, number)).await?;
            self.due.add_permits(1);
            // A timer that is late must not keep the workers from what is due.
            if number % 32 == 31 {
                tokio::task::yield_now().await;
            }
        }
        // One more for each worker: there is no more to do.
        self.due.add_permits(workers);
        Ok(())
    }

    async fn take(&self, begin: Instant) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let number = self.taken.get();
        self.taken.set(number + 1);
        (number < self.requests).then(|| self.due(begin, number))
    }
}

impl Context {
    /// From when the next request's time counts; `None` at the end.
    async fn next(&self) -> Option<Instant> {
        let shared = &self.shared;
        if shared.stop.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(open) = &self.open {
            let due = open.take(self.start.begin).await;
            return due.filter(|_| !shared.stop.load(Ordering::Relaxed));
        }
        match shared.load.extent {
            Extent::Requests(requests) if shared.issued.fetch_add(1, Ordering::Relaxed) >= requests => None,
            _ => Some(Instant::now()),
        }
    }

    /// Which of the operations the next request is, and its digits.
    fn choose(&self) -> (usize, (u64, u64)) {
        let Load { operations, counters, .. } = &self.shared.load;
        let sequence = self.shared.sequence.fetch_add(1, Ordering::Relaxed);
        let place = place_in_mix(operations, sequence);
        let number = match operations[place].numbers {
            Numbers::Fresh => counters.fresh.fetch_add(1, Ordering::Relaxed),
            Numbers::Turns(objects) => sequence % objects.max(1),
        };
        (place, (number, counters.value.fetch_add(1, Ordering::Relaxed)))
    }

    fn record(&self, begin: Instant, outcome: &std::io::Result<crate::connection::Answer>) {
        let end = Instant::now();
        self.shared.completed.fetch_add(1, Ordering::Relaxed);
        let counts = match (self.shared.load.extent, &self.open) {
            (Extent::Requests(_), _) => true,
            (_, Some(_)) => begin >= self.start.measured_from,
            _ => end >= self.start.measured_from && !self.shared.stop.load(Ordering::Relaxed),
        };
        if counts {
            self.tally.borrow_mut().add(begin, end, outcome);
        }
    }
}

impl Context {
    /// Another connection instead of one that has ended; `None` at the end.
    async fn reconnect(&self) -> Option<Connection> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            match self.shared.load.endpoint.connect(1, READ_ANSWERS).await {
                Ok(opened) => return opened.into_iter().next(),
                Err(_) => self.tally.borrow_mut().fail("cannot connect", 1),
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
        None
    }
}

/// Spreads the operations of a mix by their weights, without long stretches of one.
fn place_in_mix(operations: &[Operation], sequence: u64) -> usize {
    /// Prime, so that every place of the whole is met.
    const STEP: u64 = 7919;
    let whole: u64 = operations.iter().map(|operation| operation.weight).sum();
    let mut place = (sequence % whole.max(1)) * STEP % whole.max(1);
    for (number, operation) in operations.iter().enumerate() {
        if place < operation.weight {
            return number;
        }
        place -= operation.weight;
    }
    0
}

async fn worker(context: Rc<Context>, mut connection: Connection) {
    let Load { endpoint, operations, .. } = &context.shared.load;
    let mut requests: Vec<Prepared> =
        operations.iter().map(|operation| endpoint.prepare(&operation.template)).collect();
    while let Some(begin) = context.next().await {
        let (place, digits) = context.choose();
        let outcome = connection.exchange(&mut requests[place], digits, &mut |_| ()).await;
        context.record(begin, &outcome);
        if outcome.is_err() || !connection.is_open() {
            let Some(opened) = context.reconnect().await else { return };
            connection = opened;
        }
    }
}
