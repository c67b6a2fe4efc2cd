//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends at once.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Cancelled on the first signal.
pub fn stop_token() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    #[allow(clippy::disallowed_methods, reason = "who signals twice wants the end now, clean or not")]
    tokio::spawn(async move {
        let mut next = async || tokio::select! { _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" };
        let first = next().await;
        tracing::info!(signal = first, "stopping");
        stop.cancel();
        next().await;
        std::process::exit(INTERRUPTED);
    });
    Ok(token)
}
