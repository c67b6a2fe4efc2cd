//! Runs components beside one another: one that fails or panics is logged with its cause and started again alone.

use std::{future::Future, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Before the first restart; doubled with every further one.
const BACK_OFF_MIN: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// A component that ran this long has recovered: its next failure is a first one.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// The components of one process.
#[derive(Clone)]
pub struct Supervisor {
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Supervisor {
    pub fn new(cancel: CancellationToken) -> Supervisor {
        Supervisor { cancel, tasks: TaskTracker::new() }
    }

    /// Runs what `start` makes until the supervisor's end, again after each failure. Every run gets a token of its own,
    /// which is cancelled when the run is over, so that no task of it outlives it.
    pub fn run<F, Fut>(&self, name: &'static str, start: F)
    where
        F: Fn(CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let cancel = self.cancel.clone();
        self.tasks.spawn(keep_running(name, cancel, move |token| start(token).boxed()));
    }

    /// Asks all components to end and waits for them, at most `limit`.
    pub async fn stop(&self, limit: Duration) {
        self.cancel.cancel();
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::warn!(components = self.tasks.len(), "components did not end in time");
        }
    }
}

async fn keep_running(
    name: &'static str,
    cancel: CancellationToken,
    start: impl Fn(CancellationToken) -> BoxFuture<'static, anyhow::Result<()>> + Send + 'static,
) {
    let mut pause = BACK_OFF_MIN;
    while !cancel.is_cancelled() {
        let begin = Instant::now();
        let token = cancel.child_token();
        run_once(name, start(token.clone()), token).await;
        if cancel.is_cancelled() {
            return;
        }
        if begin.elapsed() >= HEALTHY_AFTER {
            pause = BACK_OFF_MIN;
        }
        tracing::warn!(component = name, restart_in_ms = pause.as_millis(), "a component ended");
        if cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(BACK_OFF_MAX);
    }
}

async fn run_once(name: &'static str, run: BoxFuture<'static, anyhow::Result<()>>, token: CancellationToken) {
    let _end = token.drop_guard();
    let outcome = tokio::spawn(run).await;
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(component = name, error = format!("{error:#}"), "a component failed"),
        // The panic hook has told the cause.
        Err(error) if error.is_panic() => tracing::error!(component = name, "a component panicked"),
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_panics_is_restarted_and_the_others_go_on() {
        let supervisor = Supervisor::new(CancellationToken::new());
        let (starts, others) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, other) = (starts.clone(), others.clone());
        supervisor.run("panics", move |token| {
            let nth = count.fetch_add(1, Ordering::SeqCst);
            async move {
                match nth {
                    0 => panic!("first"),
                    1 => anyhow::bail!("second"),
                    _ => token.cancelled().await,
                }
                Ok(())
            }
        });
        supervisor.run("calm", move |token| {
            other.fetch_add(1, Ordering::SeqCst);
            async move {
                token.cancelled().await;
                Ok(())
            }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(starts.load(Ordering::SeqCst), 3);
        assert_eq!(others.load(Ordering::SeqCst), 1);
        supervisor.stop(Duration::from_secs(1)).await;
        assert_eq!(supervisor.tasks.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_further_and_further_apart() {
        let supervisor = Supervisor::new(CancellationToken::new());
        let starts = Arc::new(AtomicUsize::new(0));
        let count = starts.clone();
        supervisor.run("fails", move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            async { anyhow::bail!("always") }
        });
        tokio::time::sleep(Duration::from_secs(120)).await;
        // 0.5 + 1 + 2 + 4 + 8 + 16 s, then every 30 s.
        assert_eq!(starts.load(Ordering::SeqCst), 9);
    }
}
