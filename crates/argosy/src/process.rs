//! The whole cluster in one process: what is started in which order, and what ends it.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use apiserver::Server;
use cluster::{
    files,
    layout::{Layout, Settings},
    pki::{self, Pki},
    progress::Progress,
    supervise::{self, Lock, Process, SUPERVISOR},
};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{
    addons, clients,
    components::{apiserver as api, controller_manager, scheduler},
    node::{self, Machine},
    supervisor::Supervisor,
};

/// How long components may take to end: those that hold a lease or write a status.
const STOP_LIMIT: Duration = Duration::from_secs(5);

pub struct Options {
    pub layout: Layout,
    pub settings: Settings,
    /// Without: the control plane alone.
    pub node: bool,
}

/// Runs the cluster until `cancel`; `ready` is called once it can be used. Pods outlive it.
pub async fn run(
    options: Options,
    progress: Arc<dyn Progress>,
    ready: impl FnOnce(),
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let _lock = Lock::take(&options.layout.lock_file())?;
    let pid_file = options.layout.pid_file(SUPERVISOR);
    let own = Process::current().context("this process is not in /proc")?;
    supervise::write_pid_file(&pid_file, &own)?;
    let outcome = run_locked(&options, progress, ready, cancel).await;
    files::remove(&pid_file)?;
    outcome
}

async fn run_locked(
    options: &Options,
    progress: Arc<dyn Progress>,
    ready: impl FnOnce(),
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let (layout, settings) = (&options.layout, &options.settings);
    let since = Timestamp::now();
    // containerd needs nothing of the control plane, and takes longest: it starts first.
    let machine = options.node.then(|| Machine::start(layout.clone(), settings.clone(), progress.clone()));
    let pki = step(&*progress, "certificates", async { certificates(layout, settings) }).await?;
    let plane = step(&*progress, "API server", api::all_in_one(layout, settings, &pki)).await?;
    let supervisor = Supervisor::new(CancellationToken::new());
    let started = bring_up(options, &*progress, &supervisor, &pki, &plane.server, machine, since);
    let mut failed = Box::pin(plane.failed.clone().cancelled_owned());
    let outcome = tokio::select! {
        outcome = started => outcome,
        () = cancel.cancelled() => Ok(()),
        () = &mut failed => Err(anyhow!("the API server ended; its last words are in the log")),
    };
    if let (Ok(()), false) = (&outcome, cancel.is_cancelled()) {
        ready();
    }
    let outcome = match outcome {
        Ok(()) => tokio::select! {
            () = cancel.cancelled() => Ok(()),
            () = failed => Err(anyhow!("the API server ended; its last words are in the log")),
        },
        error => error,
    };
    supervisor.stop(STOP_LIMIT).await;
    let closed = plane.stop().await;
    tracing::info!("stopped");
    outcome.and(closed)
}

fn certificates(layout: &Layout, settings: &Settings) -> anyhow::Result<Pki> {
    let pki = Pki::new(layout.pki_dir());
    let identity = pki::Identity {
        roles: pki::Roles::ALL_IN_ONE,
        node_name: settings.node_name.clone(),
        node_ips: vec![settings.node_ip],
        kubernetes_service_ip: settings.kubernetes_service_ip()?,
        cluster_domain: settings.cluster_domain.clone(),
        apiserver_sans: Vec::new(),
    };
    for (name, reason) in pki.ensure(&identity, std::time::SystemTime::now())? {
        tracing::info!(name, ?reason, "issued a certificate");
    }
    let server = format!("https://127.0.0.1:{}", settings.ports.apiserver);
    pki::write_kubeconfigs(layout, &pki, &pki::KubeconfigTarget { cluster: "argosy".into(), server }, None)?;
    Ok(pki)
}

/// Starts every component on the API server, gives a new cluster what it needs, and waits for the node.
async fn bring_up(
    options: &Options,
    progress: &dyn Progress,
    supervisor: &Supervisor,
    pki: &Pki,
    server: &Arc<Server>,
    machine: Option<Machine>,
    since: Timestamp,
) -> anyhow::Result<()> {
    let settings = &options.settings;
    controller_manager::all_in_one(supervisor, settings, pki, server)?;
    scheduler::all_in_one(supervisor, settings, pki, server);
    let Some(machine) = machine else { return Ok(()) };
    let client = clients::local(server, "argosy", clients::add_on_manager());
    let add_ons = step(progress, "cluster DNS", addons::dns(&client, settings));
    let node = async {
        let machine = machine.join().await?;
        node::start(supervisor, &options.layout, settings, pki, server, machine)?;
        step(progress, "node Ready", async {
            node::wait_ready(&client, &settings.node_name, Some(since)).await?;
            addons::label_control_plane(&client, &settings.node_name).await
        })
        .await
    };
    tokio::try_join!(add_ons, node).map(drop)
}

/// One step of the start, reported and logged.
pub async fn step<T>(
    progress: &dyn Progress,
    name: &str,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    progress.started(name);
    let begin = Instant::now();
    let outcome = work.await;
    match &outcome {
        Ok(_) => progress.finished(name, begin.elapsed(), ""),
        Err(error) => progress.failed(name, begin.elapsed(), &format!("{error:#}")),
    }
    tracing::info!(step = name, took_ms = begin.elapsed().as_millis(), ok = outcome.is_ok(), "start");
    outcome
}
