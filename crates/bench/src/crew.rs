//! The generator's threads: each with a runtime of its own, so that no request wakes another thread.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::LocalSet,
};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

/// How long requests that are under way at the end may take, before they are given up.
const DRAIN: Duration = Duration::from_secs(60);

/// When a measurement begins; what ends before `measured_from` is warm-up.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub begin: Instant,
    pub measured_from: Instant,
}

/// Where a thread says that it is connected, and waits for the others.
pub struct Gate {
    ready: mpsc::Sender<()>,
    start: watch::Receiver<Option<Start>>,
}

impl Gate {
    /// `None`: it will not begin, as another thread could not connect.
    pub async fn pass(mut self) -> Option<Start> {
        // Fails only where nobody waits any more, which shows below.
        let _ = self.ready.send(()).await;
        drop(self.ready);
        self.start.wait_for(Option::is_some).await.ok().and_then(|start| *start)
    }
}

pub struct Crew<T> {
    threads: usize,
    ready: mpsc::Receiver<()>,
    start: watch::Sender<Option<Start>>,
    outcomes: Vec<oneshot::Receiver<Result<T>>>,
    running: Vec<std::thread::JoinHandle<()>>,
    cancel: CancellationToken,
}

impl<T: Send + 'static> Crew<T> {
    /// Starts threads that do `work`, told which of them they are. `cancel` ends them wherever they are.
    pub fn spawn<Work, Fut>(threads: usize, cancel: &CancellationToken, work: Work) -> Result<Crew<T>>
    where
        Work: Fn(usize, Gate) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T>>,
    {
        let (work, cancel) = (Arc::new(work), cancel.child_token());
        let (sender, ready) = mpsc::channel(threads);
        let (start, _) = watch::channel(None);
        let (mut outcomes, mut running) = (Vec::new(), Vec::new());
        for number in 0..threads {
            let (outcome, receiver) = oneshot::channel();
            outcomes.push(receiver);
            let gate = Gate { ready: sender.clone(), start: start.subscribe() };
            let (work, cancel) = (work.clone(), cancel.clone());
            let thread = std::thread::Builder::new().name(format!("bench-{number}"));
            let run = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let result = runtime.map_err(Error::io("a runtime")).and_then(|runtime| {
                    let work = cancel.run_until_cancelled(work(number, gate));
                    LocalSet::new().block_on(&runtime, work).unwrap_or(Err(Error::Interrupted))
                });
                // Nobody waits for it after an error elsewhere.
                let _ = outcome.send(result);
            };
            running.push(thread.spawn(run).map_err(Error::io("a thread"))?);
        }
        Ok(Crew { threads, ready, start, outcomes, running, cancel })
    }

    /// Waits until every thread is connected, then lets them begin.
    pub async fn begin(&mut self, warm_up: Duration) -> Result<Start> {
        let mut ready = 0;
        while self.ready.recv().await.is_some() {
            ready += 1;
        }
        if ready < self.threads {
            self.cancel.cancel();
            for outcome in &mut self.outcomes {
                if let Ok(Err(error)) = outcome.await
                    && !matches!(error, Error::Interrupted)
                {
                    return Err(error);
                }
            }
            return Err(Error::Interrupted);
        }
        let begin = Instant::now();
        let start = Start { begin, measured_from: begin + warm_up };
        // Where they are all gone, their outcome says why.
        let _ = self.start.send(Some(start));
        Ok(start)
    }

    /// Whether every thread has ended.
    pub fn has_ended(&self) -> bool {
        self.running.iter().all(std::thread::JoinHandle::is_finished)
    }

    /// Waits for the end of all threads, which was asked for or comes by itself.
    pub async fn end(self) -> Result<Vec<T>> {
        let cancel = self.cancel.clone();
        let all = async {
            let mut found = Vec::new();
            for outcome in self.outcomes {
                found.push(outcome.await.unwrap_or(Err(Error::Interrupted))?);
            }
            Ok(found)
        };
        tokio::time::timeout(DRAIN, all).await.unwrap_or_else(|_| {
            cancel.cancel();
            Err(Error::Stuck(DRAIN))
        })
    }
}
