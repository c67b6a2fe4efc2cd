//! The one controller runtime: keys come out of a queue, plans go to the executor, failures go back into the queue.
//!
//! A controller is given a key, never a hint of what changed, and never retries by itself.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use client::{Client, Clock, ObjectKey, WorkQueue};
use futures_util::FutureExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    executor::{Executor, WriteFailure},
    expectations::{Expectations, Readiness, ShownResources, Written},
    plan::Plan,
};

/// What a pass may know beside its informers.
#[derive(Clone, Debug)]
pub struct Context {
    pub now: Timestamp,
    /// What stopped this key's last pass.
    pub failure: Option<WriteFailure>,
}

/// A controller whose inputs all are in informers. `plan` collects them for `key` and hands them to a pure function.
pub trait Controller: Send + Sync + 'static {
    /// Upstream's name, as in `--controllers`.
    fn name(&self) -> &'static str;
    fn plan(&self, key: &ObjectKey, context: &Context) -> Plan;
}

/// A controller that must ask the API itself (discovery, live reads of any kind). Everything else is a [`Controller`].
#[async_trait]
pub trait LiveController: Send + Sync + 'static {
    fn name(&self) -> &'static str;
    async fn plan(&self, key: &ObjectKey, context: &Context, client: &Client) -> client::Result<Plan>;
}

#[async_trait]
impl<C: Controller> LiveController for C {
    fn name(&self) -> &'static str {
        Controller::name(self)
    }

    async fn plan(&self, key: &ObjectKey, context: &Context, _: &Client) -> client::Result<Plan> {
        Ok(Controller::plan(self, key, context))
    }
}

/// One controller with all it runs on.
pub struct Runner {
    pub controller: Arc<dyn LiveController>,
    pub queue: WorkQueue<ObjectKey>,
    pub executor: Executor,
    pub client: Client,
    pub shown: ShownResources,
    pub clock: Arc<dyn Clock>,
    pub workers: usize,
}

struct State {
    runner: Runner,
    expectations: Expectations,
    failures: Mutex<HashMap<ObjectKey, WriteFailure>>,
}

impl Runner {
    /// Runs until `cancel`; no pass is cut off in the middle.
    pub async fn run(self, cancel: CancellationToken) {
        let queue = self.queue.clone();
        let workers = self.workers.max(1);
        let state = Arc::new(State { runner: self, expectations: Expectations::default(), failures: Mutex::default() });
        let tasks: Vec<_> = (0..workers).map(|_| tokio::spawn(work(state.clone()))).collect();
        cancel.cancelled().await;
        queue.shut_down();
        for task in tasks {
            // A worker catches the panics of its passes; what is left is the runtime shutting down.
            let _ = task.await;
        }
    }
}

async fn work(state: Arc<State>) {
    let queue = &state.runner.queue;
    while let Some(key) = queue.get().await {
        // A panicking pass ends here, with the controller's state dropped for this key alone; the key comes back later.
        if AssertUnwindSafe(state.pass(&key)).catch_unwind().await.is_err() {
            tracing::error!(controller = state.runner.controller.name(), %key, "a pass panicked");
            queue.add_rate_limited(key.clone());
        }
        queue.done(&key);
    }
}

impl State {
    async fn pass(&self, key: &ObjectKey) {
        let Runner { controller, queue, executor, client, shown, clock, .. } = &self.runner;
        let now = clock.now();
        if let Readiness::LookAgain(delay) = self.expectations.readiness(key, shown, now) {
            queue.add_after(key.clone(), delay);
            return;
        }
        let context = Context { now, failure: self.failures.lock().get(key).cloned() };
        let plan = match controller.plan(key, &context, client).await {
            Ok(plan) => plan,
            Err(error) => {
                tracing::warn!(controller = controller.name(), %key, %error, "cannot observe");
                queue.add_rate_limited(key.clone());
                return;
            }
        };
        if !plan.is_empty() {
            tracing::debug!(controller = controller.name(), %key, "plan:\n{plan}");
        }
        let mut written = Written::default();
        let outcome = executor.execute(&plan, &mut written).await;
        self.expectations.expect(key, written, now);
        self.settle(key, outcome, plan.requeue_after);
    }

    fn settle(&self, key: &ObjectKey, outcome: Result<(), WriteFailure>, requeue_after: Option<Duration>) {
        let queue = &self.runner.queue;
        match outcome {
            Err(failure) if !failure.namespace_terminating => {
                if failure.reason == Some(api::status::Reason::Conflict) {
                    tracing::debug!(controller = self.runner.controller.name(), %key, "{}", failure.message);
                } else {
                    tracing::warn!(controller = self.runner.controller.name(), %key, "{}", failure.message);
                }
                self.failures.lock().insert(key.clone(), failure);
                queue.add_rate_limited(key.clone());
            }
            _ => {
                self.failures.lock().remove(key);
                queue.forget(key);
                if let Some(delay) = requeue_after {
                    queue.add_after(key.clone(), delay);
                }
            }
        }
    }
}
