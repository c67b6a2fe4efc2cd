//! One host of a layout: keeps its components running as processes of their own, as a service manager would.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use cluster::{
    containerd::{self, take_down},
    images::{ImageStore, PAUSE_IMAGE},
    layout::Layout,
    machine,
    progress::Silent,
    supervise::{self, Lock, Process, Reporter, SUPERVISOR, detach, log_tail},
    topology::{Host, Program, Topology, Unit, units},
};
use tokio_util::sync::CancellationToken;

use super::DataFlags;
use crate::{
    cli::TOOLS,
    logging::{self, LogFlags},
    node, signals,
    supervisor::Supervisor,
};

/// How long a component may take to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(15);
const STOP_LIMIT: Duration = Duration::from_secs(20);
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
    let (topology, host, layout) = flags.host.find()?;
    let _lock = Lock::take(&layout.lock_file())?;
    let own = Process::current().context("this process is not in /proc")?;
    supervise::write_pid_file(&layout.pid_file(SUPERVISOR), &own)?;
    let supervisors = Supervisors { etcd: new_supervisor(), others: new_supervisor() };
    let started = bring_up(&supervisors, &topology, &host, &layout);
    let outcome = tokio::select! {
        outcome = started => outcome,
        () = cancel.cancelled() => Ok(()),
    };
    if outcome.is_ok() {
        reporter.ready();
        cancel.cancelled().await;
    }
    // The API server's last writes may go to the member beside it.
    supervisors.others.stop(STOP_LIMIT).await;
    supervisors.etcd.stop(STOP_LIMIT).await;
    cluster::files::remove(&layout.pid_file(SUPERVISOR))?;
    outcome
}

/// etcd ends after everything else.
struct Supervisors {
    etcd: Supervisor,
    others: Supervisor,
}

impl Supervisors {
    fn of(&self, unit: &Unit) -> &Supervisor {
        if unit.name == "etcd" { &self.etcd } else { &self.others }
    }
}

fn new_supervisor() -> Supervisor {
    Supervisor::new(CancellationToken::new())
}

async fn bring_up(supervisors: &Supervisors, topology: &Topology, host: &Host, layout: &Layout) -> anyhow::Result<()> {
    let (of_node, others): (Vec<Unit>, Vec<Unit>) =
        units(topology, host, layout).into_iter().partition(|unit| unit.after.contains(&containerd::NAME));
    others.into_iter().try_for_each(|unit| keep(supervisors.of(&unit), layout, unit))?;
    if host.node {
        let started = containerd::start(layout, PAUSE_IMAGE).await?;
        let store = ImageStore { cri: &started.cri, socket: layout.containerd_socket() };
        store.ensure_built_in(layout, &TOOLS).await?;
        node::keep_containerd(&supervisors.others, layout, started);
    }
    of_node.into_iter().try_for_each(|unit| keep(supervisors.of(&unit), layout, unit))
}

/// Runs a unit again whenever it has ended.
fn keep(supervisor: &Supervisor, layout: &Layout, unit: Unit) -> anyhow::Result<()> {
    let program = match unit.program {
        Program::Argosy => std::env::current_exe().context("finding this program")?,
        Program::Installed(name) => {
            machine::find_program(name).with_context(|| format!("{name} is not installed: run `make setup`"))?
        }
    };
    let (name, unit, layout) = (unit.name, Arc::new(unit), layout.clone());
    supervisor.run(name, move |cancel: CancellationToken| {
        let (program, unit, layout) = (program.clone(), unit.clone(), layout.clone());
        async move { run_unit(&program, &unit, &layout, cancel).await }
    });
    Ok(())
}

async fn run_unit(program: &Path, unit: &Unit, layout: &Layout, cancel: CancellationToken) -> anyhow::Result<()> {
    let pid_file = layout.pid_file(unit.name);
    // One that outlived a supervisor which was killed.
    if let Some(former) = supervise::read_pid_file(&pid_file)? {
        supervise::stop(&former, STOP_GRACE).await?;
        end_group(former.pid).await?;
    }
    let path: PathBuf = layout.log_file(unit.name);
    let log = OpenOptions::new().create(true).append(true).open(&path).with_context(|| path.display().to_string())?;
    let mut child = tokio::process::Command::new(program)
        .args(&unit.args)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let Some(process) = child.id().and_then(Process::of_pid) else { bail!("ended at once; see {}", path.display()) };
    supervise::write_pid_file(&pid_file, &process)?;
    tracing::info!(unit = unit.name, pid = process.pid, "started");
    match cancel.run_until_cancelled(child.wait()).await {
        Some(status) => {
            end_group(process.pid).await?;
            bail!("{}; its last words: {}", status?, log_tail(&path, 3))
        }
        None => {
            supervise::stop(&process, STOP_GRACE).await?;
            child.wait().await?;
            end_group(process.pid).await?;
            Ok(cluster::files::remove(&pid_file)?)
        }
    }
}

/// Ends what a unit started and left behind, such as the workers of an nginx that was killed: they hold its port.
async fn end_group(leader: u32) -> anyhow::Result<()> {
    for process in supervise::group(leader) {
        supervise::stop(&process, Duration::ZERO).await?;
    }
    Ok(())
}
