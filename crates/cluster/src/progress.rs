//! Steps of a longer work and how long each took: what `argosy up` shows while it happens.

use std::time::{Duration, Instant};

/// Told of every step as it begins and ends. Steps of one work may overlap; the name pairs begin and end.
pub trait Progress: Send + Sync {
    fn started(&self, step: &str);
    /// `note` is what is worth saying about the outcome, such as "already there"; empty for nothing.
    fn finished(&self, step: &str, elapsed: Duration, note: &str);
    fn failed(&self, step: &str, elapsed: Duration, error: &str);
}

/// Progress that nobody watches.
pub struct Silent;

impl Progress for Silent {
    fn started(&self, _: &str) {}
    fn finished(&self, _: &str, _: Duration, _: &str) {}
    fn failed(&self, _: &str, _: Duration, _: &str) {}
}

/// Runs one step and reports it.
pub async fn step<T, E: std::error::Error>(
    progress: &dyn Progress,
    name: &str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    progress.started(name);
    let begin = Instant::now();
    let outcome = work.await;
    match &outcome {
        Ok(_) => progress.finished(name, begin.elapsed(), ""),
        Err(e) => progress.failed(name, begin.elapsed(), &chain(e)),
    }
    outcome
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}
