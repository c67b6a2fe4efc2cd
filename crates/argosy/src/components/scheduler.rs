//! kube-scheduler.

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc};

use apiserver::Server;
use clap::Args;
use cluster::{layout::Settings, pki::Pki};
use net::tls::Identity;
use scheduler::run::{Scheduler, SchedulerConfig};
use tokio_util::sync::CancellationToken;

use super::{HealthFlags, LeaderFlags, host_name, remote_client, serve_health};
use crate::{clients, logging::LogFlags, supervisor::Supervisor};

const NAME: &str = "kube-scheduler";

#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// Where the API server is, and who this is
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Port for health checks
    #[arg(long, default_value_t = 10_259)]
    secure_port: u16,
    #[command(flatten)]
    health: HealthFlags,
    #[command(flatten)]
    leader: LeaderFlags,
    #[command(flatten)]
    pub log: LogFlags,
}

/// The scheduler as a process of its own, until `cancel`.
pub async fn run(flags: Flags, cancel: CancellationToken) -> anyhow::Result<()> {
    let client = remote_client(NAME, &flags.kubeconfig)?;
    flags.health.start(NAME, flags.secure_port, cancel.clone())?;
    let (lead, config) = (client.clone(), SchedulerConfig { host: host_name(), ..SchedulerConfig::default() });
    let work = async move |token| {
        Scheduler::run(config, lead, token).await;
        Ok(())
    };
    flags.leader.run(NAME, &client, cancel, work).await
}

/// The scheduler of the one process.
pub fn all_in_one(supervisor: &Supervisor, settings: &Settings, pki: &Pki, server: &Arc<Server>) {
    let client = clients::local(server, NAME, clients::user("system:kube-scheduler"));
    let (host, port) = (settings.node_name.clone(), settings.ports.scheduler);
    let identity = Identity::files(pki.cert("components"), pki.key("components"));
    supervisor.run(NAME, move |cancel: CancellationToken| {
        let (client, identity) = (client.clone(), identity.clone());
        let config = SchedulerConfig { host: host.clone(), ..SchedulerConfig::default() };
        async move {
            serve_health(NAME, Ipv4Addr::LOCALHOST.into(), port, identity, cancel.clone())?;
            Scheduler::run(config, client, cancel).await;
            Ok(())
        }
    });
}
