//! The components of one host as processes of their own, kept running as a service manager would.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail};
use cluster::{
    containerd,
    images::{ImageStore, PAUSE_IMAGE},
    layout::Layout,
    machine,
    supervise::{self, Process, Signal, log_tail},
    topology::{Program, Unit},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{cli::TOOLS, node, supervisor::Supervisor};

/// How long a component may take to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(15);
const STOP_LIMIT: Duration = Duration::from_secs(20);

pub struct Units {
    layout: Layout,
    /// etcd ends after everything else.
    etcd: Supervisor,
    others: Supervisor,
    /// What each unit is to run.
    wanted: Mutex<HashMap<&'static str, watch::Sender<Unit>>>,
}

impl Units {
    pub fn new(layout: &Layout) -> Units {
        let supervisor = || Supervisor::new(CancellationToken::new());
        Units { layout: layout.clone(), etcd: supervisor(), others: supervisor(), wanted: Mutex::default() }
    }

    /// Starts everything that a host runs, with containerd where it is a node, and returns once all of it has been started.
    pub async fn start(&self, units: Vec<Unit>, node: bool) -> anyhow::Result<()> {
        let layout = &self.layout;
        let (of_node, others): (Vec<Unit>, Vec<Unit>) =
            units.into_iter().partition(|unit| unit.after.contains(&containerd::NAME));
        others.into_iter().try_for_each(|unit| self.keep(unit))?;
        if node {
            let started = containerd::start(layout, PAUSE_IMAGE).await?;
            let store = ImageStore { cri: &started.cri, socket: layout.containerd_socket() };
            store.ensure_built_in(layout, &TOOLS).await?;
            node::keep_containerd(&self.others, layout, started);
        }
        of_node.into_iter().try_for_each(|unit| self.keep(unit))
    }

    /// What has changed of the host's units is started anew, one that can reads its configuration again.
    pub fn update(&self, units: Vec<Unit>) -> anyhow::Result<()> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        for unit in units {
            let Some(kept) = wanted.get(unit.name) else { continue };
            let differs = kept.borrow().differs(&unit);
            if differs {
                kept.send_replace(unit);
            } else if unit.reloads
                && let Some(process) = supervise::read_pid_file(&self.layout.pid_file(unit.name))?
            {
                process.signal(Signal::HUP)?;
                tracing::info!(unit = unit.name, "told to read its configuration again");
            }
        }
        Ok(())
    }

    /// The API server's last writes may go to the member beside it.
    pub async fn stop(&self) {
        self.others.stop(STOP_LIMIT).await;
        self.etcd.stop(STOP_LIMIT).await;
    }

    /// Runs a unit again whenever it has ended.
    fn keep(&self, unit: Unit) -> anyhow::Result<()> {
        let program = match unit.program {
            Program::Argosy => std::env::current_exe().context("finding this program")?,
            Program::Installed(name) => {
                machine::find_program(name).with_context(|| format!("{name} is not installed: run `make setup`"))?
            }
        };
        let (name, layout) = (unit.name, self.layout.clone());
        let (sender, wanted) = watch::channel(unit);
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).insert(name, sender);
        let supervisor = if name == "etcd" { &self.etcd } else { &self.others };
        supervisor.run(name, move |cancel: CancellationToken| {
            let (program, mut wanted, layout) = (program.clone(), wanted.clone(), layout.clone());
            async move {
                while !cancel.is_cancelled() {
                    run_unit(&program, &mut wanted, &layout, &cancel).await?;
                }
                Ok(())
            }
        });
        Ok(())
    }
}

/// Runs a unit until `cancel`, or until something else is wanted of it.
async fn run_unit(
    program: &Path,
    wanted: &mut watch::Receiver<Unit>,
    layout: &Layout,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let unit = wanted.borrow_and_update().clone();
    let pid_file = layout.pid_file(unit.name);
    // What outlived a supervisor that was killed.
    supervise::stop_group_by_pid_file(&pid_file, STOP_GRACE).await?;
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
    let ended = tokio::select! {
        status = child.wait() => Some(status?),
        () = cancel.cancelled() => None,
        Ok(()) = wanted.changed() => {
            tracing::info!(unit = unit.name, "is started anew with other flags");
            None
        }
    };
    if let Some(status) = ended {
        supervise::stop_group(&process, Duration::ZERO).await?;
        bail!("{status}; its last words: {}", log_tail(&path, 3))
    }
    supervise::stop_group(&process, STOP_GRACE).await?;
    child.wait().await?;
    Ok(cluster::files::remove(&pid_file)?)
}
