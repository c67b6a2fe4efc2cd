//! `argosy server`: the cluster in the foreground, for unit files; and the process that `argosy up` leaves behind.

use std::{sync::Arc, time::Duration};

use clap::Args;
use cluster::{
    layout::Settings,
    progress::Silent,
    supervise::{Reporter, detach},
};

use super::{
    DataFlags,
    up::{SettingsFlags, check_machine},
};
use crate::{
    logging::{self, LogFlags},
    process::{self, Options},
    signals,
};

#[derive(Args, Clone, Debug)]
pub struct Flags {
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    settings: SettingsFlags,
    /// Run the control plane alone: this machine is no node
    #[arg(long)]
    disable_agent: bool,
    #[command(flatten)]
    log: LogFlags,
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    logging::start(&flags.log);
    let cancel = signals::stop_token()?;
    let layout = flags.data.layout()?;
    let settings = flags.settings.resolve(&layout)?;
    if !flags.disable_agent {
        check_machine(&layout, &settings)?;
    }
    settings.save(&layout)?;
    let options = Options { layout, settings, node: !flags.disable_agent };
    process::run(options, Arc::new(Silent), || tracing::info!("ready"), cancel).await
}

#[derive(Args, Clone, Debug)]
pub struct BackgroundFlags {
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    log: LogFlags,
}

/// Settings were kept and checks made by `up`, which listens at the other end of standard input.
pub async fn run_in_background(flags: BackgroundFlags) -> anyhow::Result<()> {
    /// What is still written when the starter goes away with its end of the socket.
    const LAST_WORDS: Duration = Duration::from_millis(10);
    detach()?;
    let reporter = Arc::new(Reporter::from_stdin());
    logging::start(&flags.log);
    let outcome = supervised(&flags, reporter.clone()).await;
    if let Err(error) = &outcome {
        tracing::error!(error = format!("{error:#}"), "ended");
        reporter.fatal(&format!("{error:#}"));
        tokio::time::sleep(LAST_WORDS).await;
    }
    outcome
}

async fn supervised(flags: &BackgroundFlags, reporter: Arc<Reporter>) -> anyhow::Result<()> {
    let cancel = signals::stop_token()?;
    let layout = flags.data.layout()?;
    let settings = Settings::load(&layout)?
        .ok_or_else(|| anyhow::anyhow!("{} is missing: start with `argosy up`", layout.settings_file().display()))?;
    let options = Options { layout, settings, node: true };
    let ready = reporter.clone();
    process::run(options, reporter, move || ready.ready(), cancel).await
}
