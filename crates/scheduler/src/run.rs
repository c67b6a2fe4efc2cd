//! The executor: feeds what the API tells into [`State`], and carries out what it decides. The only place that writes.

use std::{sync::Arc, time::Duration};

use client::{
    Client, Clock, Delta, EventRecorder, Informer, InformerFactory, Kind, ListParams, SystemClock,
    kinds::core::v1::{PersistentVolumeClaim, Pod},
};
use rand::Rng;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use crate::{
    actions::Executor,
    plan::{Profile, TieBreak},
    queue::Delays,
    state::{Change, State, Update},
};

/// After this many decisions other tasks of the runtime have their turn.
const DECISIONS_PER_TURN: usize = 16;

pub struct SchedulerConfig {
    pub profiles: Vec<Profile>,
    pub delays: Delays,
    /// How long a bound pod may stay unseen on its node before its place counts as free; `None` is for ever.
    pub assumed_ttl: Option<Duration>,
    /// Name of this host, in events.
    pub host: String,
    pub clock: Arc<dyn Clock>,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        SchedulerConfig {
            profiles: vec![Profile::default()],
            delays: Delays::default(),
            assumed_ttl: None,
            host: String::new(),
            clock: Arc::new(SystemClock),
        }
    }
}

pub struct Scheduler;

/// Chance, as upstream breaks ties.
struct Chance;

impl TieBreak for Chance {
    fn below(&mut self, bound: usize) -> usize {
        if bound <= 1 { 0 } else { rand::rng().random_range(0..bound) }
    }
}

impl Scheduler {
    /// Schedules until cancelled. The caller has won the leader election.
    pub async fn run(config: SchedulerConfig, client: Client, cancel: CancellationToken) {
        let factory = InformerFactory::new(client.clone());
        Scheduler::run_with(config, client, &factory, cancel).await;
    }

    /// With informers that other parts of the process share.
    pub async fn run_with(
        config: SchedulerConfig,
        client: Client,
        factory: &InformerFactory,
        cancel: CancellationToken,
    ) {
        let (changes, received) = unbounded_channel();
        observe(factory, &changes);
        factory.start(cancel.clone());
        tokio::select! {
            () = factory.wait_for_sync() => {}
            () = cancel.cancelled() => return,
        }
        let events = EventRecorder::new(client.clone(), "default-scheduler", &config.host);
        let executor = Executor::new(client, events, changes, config.clock.clone());
        let state = State::new(config.profiles, config.delays, config.assumed_ttl, Box::new(Chance));
        tracing::info!("scheduling");
        Loop { state, executor, received, clock: config.clock }.run(cancel).await;
    }
}

struct Loop {
    state: State,
    executor: Executor,
    received: UnboundedReceiver<Change>,
    clock: Arc<dyn Clock>,
}

impl Loop {
    async fn run(&mut self, cancel: CancellationToken) {
        while !cancel.is_cancelled() {
            if self.work() {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                change = self.received.recv() => match change {
                    Some(change) => self.apply(change),
                    None => return,
                },
                () = wait_until(self.state.next_wakeup(), &*self.clock) => {
                    let actions = self.state.tick(self.clock.now());
                    self.executor.start(actions);
                }
            }
        }
    }

    /// Some decisions, each on all that is known by then; whether there may be more to decide.
    fn work(&mut self) -> bool {
        for _ in 0..DECISIONS_PER_TURN {
            while let Ok(change) = self.received.try_recv() {
                self.apply(change);
            }
            match self.state.schedule_next(self.clock.now()) {
                Some(actions) => self.executor.start(actions),
                None => return false,
            }
        }
        true
    }

    fn apply(&mut self, change: Change) {
        let actions = self.state.apply(change, self.clock.now());
        self.executor.start(actions);
    }
}

async fn wait_until(time: Option<jiff::Timestamp>, clock: &dyn Clock) {
    match time {
        None => std::future::pending().await,
        Some(time) => {
            let left = Duration::try_from(time.duration_since(clock.now())).unwrap_or_default();
            tokio::time::sleep(left).await;
        }
    }
}

/// Has every kind's changes sent to the loop. Finished pods hold nothing and are not asked for.
fn observe(factory: &InformerFactory, changes: &UnboundedSender<Change>) {
    let unfinished = ListParams::fields("status.phase!=Succeeded,status.phase!=Failed");
    forward(&factory.informer(), changes, Change::Node);
    forward(&factory.informer(), changes, Change::Namespace);
    forward(&factory.informer(), changes, Change::Service);
    forward(&factory.informer(), changes, Change::ReplicationController);
    forward(&factory.informer(), changes, Change::ReplicaSet);
    forward(&factory.informer(), changes, Change::StatefulSet);
    forward(&factory.informer(), changes, Change::Budget);
    forward(&factory.informer::<PersistentVolumeClaim>(), changes, Change::Claim);
    forward(&factory.informer(), changes, Change::Volume);
    forward(&factory.informer(), changes, Change::Class);
    forward(&factory.informer(), changes, Change::CsiNode);
    forward(&factory.informer_with::<Pod>(unfinished), changes, Change::Pod);
}

fn forward<K: Kind>(informer: &Informer<K>, changes: &UnboundedSender<Change>, change: fn(Update<K>) -> Change) {
    let changes = changes.clone();
    informer.on_event(move |delta| {
        let update = match delta {
            Delta::Added(new) => Update { old: None, new: Some(new.clone()) },
            Delta::Updated { old, new } => Update { old: Some(old.clone()), new: Some(new.clone()) },
            Delta::Deleted(old) => Update { old: Some(old.clone()), new: None },
        };
        // The loop is gone only when the scheduler ends.
        let _ = changes.send(change(update));
    });
}
