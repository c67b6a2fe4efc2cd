//! One host of a layout: keeps its components running as processes of their own, as a service manager would.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use cluster::{
    containerd::take_down,
    layout::Layout,
    progress::Silent,
    supervise::{self, Lock, Process, Reporter, SUPERVISOR, detach},
    topology::{Host, Topology, units},
};
use tokio::signal::unix::{SignalKind, signal};

use super::DataFlags;
use crate::{
    logging::{self, LogFlags},
    signals,
    units::Units,
};

/// What is still written when the starter goes away with its end of the socket.
const LAST_WORDS: Duration = Duration::from_millis(10);

#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Run the host's components until a signal
    Run(RunFlags),
    /// Stop its pods and take away what they leave
    Clean(CleanFlags),
}

#[derive(Args, Clone, Debug)]
pub struct HostFlags {
    #[command(flatten)]
    data: DataFlags,
    /// The host
    #[arg(long, value_name = "NAME")]
    name: String,
}

#[derive(Args, Clone, Debug)]
pub struct RunFlags {
    #[command(flatten)]
    host: HostFlags,
    #[command(flatten)]
    log: LogFlags,
}

#[derive(Args, Clone, Debug)]
pub struct CleanFlags {
    #[command(flatten)]
    host: HostFlags,
    /// How long containers may take to end by themselves, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    grace: u64,
}

pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(flags) => run_in_background(flags).await,
        Command::Clean(flags) => {
            let (topology, host, layout) = flags.host.find()?;
            let settings = topology.settings(&host);
            Ok(take_down(&layout, &settings, Duration::from_secs(flags.grace), &Silent).await?)
        }
    }
}

impl HostFlags {
    fn find(&self) -> anyhow::Result<(Topology, Host, Layout)> {
        let layout = self.data.layout()?;
        let Some(topology) = Topology::load(&layout)? else { bail!("{} is missing", layout.topology_file().display()) };
        let host = topology.host(&self.name)?.clone();
        Ok((topology, host, Topology::host_layout(&layout, &self.name)))
    }
}

async fn run_in_background(flags: RunFlags) -> anyhow::Result<()> {
    detach()?;
    let reporter = Arc::new(Reporter::from_stdin());
    logging::start(&flags.log);
    let outcome = run_host(&flags, &reporter).await;
    if let Err(error) = &outcome {
        tracing::error!(error = format!("{error:#}"), "ended");
        reporter.fatal(&format!("{error:#}"));
        tokio::time::sleep(LAST_WORDS).await;
    }
    outcome
}

async fn run_host(flags: &RunFlags, reporter: &Reporter) -> anyhow::Result<()> {
    let cancel = signals::stop_token()?;
    // The order to look what has changed of the layout.
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let (topology, host, layout) = flags.host.find()?;
    let _lock = Lock::take(&layout.lock_file())?;
    let own = Process::current().context("this process is not in /proc")?;
    supervise::write_pid_file(&layout.pid_file(SUPERVISOR), &own)?;
    let running = Units::new(&layout);
    let outcome = tokio::select! {
        outcome = running.start(units(&topology, &host, &layout), host.node) => outcome,
        () = cancel.cancelled() => Ok(()),
    };
    if outcome.is_ok() {
        reporter.ready();
        while let Some(Some(())) = cancel.run_until_cancelled(hangup.recv()).await {
            // What cannot be read now stays as it is; whoever has sent the signal waits for the effect.
            if let Err(error) = update(flags, &running) {
                tracing::error!(error = format!("{error:#}"), "the layout's changes are not taken");
            }
        }
    }
    running.stop().await;
    cluster::files::remove(&layout.pid_file(SUPERVISOR))?;
    outcome
}

fn update(flags: &RunFlags, running: &Units) -> anyhow::Result<()> {
    let (topology, host, layout) = flags.host.find()?;
    running.update(units(&topology, &host, &layout))
}
