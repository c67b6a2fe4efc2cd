//! Kubernetes' components under their own names, with the flags that upstream's have, and as parts of the one process.

pub mod apiserver;
pub mod controller_manager;
pub mod kubelet;
mod kubelet_file;
pub mod kubelet_limits;
pub mod proxy;
pub mod scheduler;
pub mod storage;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use client::{Client, LeaderElection, LeaderEnd};
use net::{
    server::{ServeOptions, serve_tls},
    tls::{Identity, ServerTls, server_config},
};
use tokio_util::sync::CancellationToken;

use crate::{clients, flags::GoDuration, listeners};

/// Version of Kubernetes whose API this is.
pub const KUBERNETES_VERSION: &str = "v1.36.0";

/// How long answers may take to end when a component does.
const DRAIN: Duration = Duration::from_secs(2);

/// Which of several equal components works.
#[derive(Args, Clone, Debug)]
pub struct LeaderFlags {
    /// Work only while holding the lease
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    leader_elect: bool,
    /// How long others wait for a leader that no longer renews
    #[arg(long, default_value = "15s")]
    leader_elect_lease_duration: GoDuration,
    /// How long the leader tries to renew
    #[arg(long, default_value = "10s")]
    leader_elect_renew_deadline: GoDuration,
    /// Between two tries
    #[arg(long, default_value = "2s")]
    leader_elect_retry_period: GoDuration,
    /// Namespace of the lease
    #[arg(long, default_value = "kube-system")]
    leader_elect_resource_namespace: String,
    /// Name of the lease; the component's own where nothing is said
    #[arg(long)]
    leader_elect_resource_name: Option<String>,
}

impl LeaderFlags {
    /// Runs `lead` as the leader, until `cancel`. A lost lease is an error: another may lead already.
    async fn run<Fut: Future<Output = anyhow::Result<()>>>(
        &self,
        component: &str,
        client: &Client,
        cancel: CancellationToken,
        lead: impl FnOnce(CancellationToken) -> Fut,
    ) -> anyhow::Result<()> {
        if !self.leader_elect {
            return lead(cancel).await;
        }
        let name = self.leader_elect_resource_name.as_deref().unwrap_or(component);
        let identity = format!("{}_{}", host_name(), std::process::id());
        let mut election = LeaderElection::new(&*self.leader_elect_resource_namespace, name, identity);
        election.lease_duration = self.leader_elect_lease_duration.0;
        election.renew_deadline = self.leader_elect_renew_deadline.0;
        election.retry_period = self.leader_elect_retry_period.0;
        let mut outcome = Ok(());
        let told = &mut outcome;
        let end = election.run(client, cancel, async move |token| *told = lead(token).await).await;
        match end {
            LeaderEnd::Lost => bail!("the lease {name} is lost"),
            LeaderEnd::Cancelled | LeaderEnd::Finished => outcome,
        }
    }
}

/// The secure port of a component that is no API server: it says that it is alive.
#[derive(Args, Clone, Debug)]
pub struct HealthFlags {
    /// Address that the secure port is on
    #[arg(long, default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// Certificate of the secure port; without one there is no secure port
    #[arg(long, requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// Key of --tls-cert-file
    #[arg(long, requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
}

impl HealthFlags {
    /// Serves beside the caller until `cancel`.
    fn start(&self, component: &str, port: u16, cancel: CancellationToken) -> anyhow::Result<()> {
        let (Some(certificate), Some(key)) = (&self.tls_cert_file, &self.tls_private_key_file) else { return Ok(()) };
        if port != 0 {
            serve_health(component, self.bind_address, port, Identity::files(certificate, key), cancel)?;
        }
        Ok(())
    }
}

/// Answers health checks until `cancel`.
fn serve_health(
    component: &str,
    address: IpAddr,
    port: u16,
    identity: Identity,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let listener = listeners::bind(component, address, port)?;
    let tls = server_config(ServerTls { identity, client_cas: Vec::new() })?;
    let options = ServeOptions { max_connections: 64, drain: DRAIN, ..ServeOptions::default() };
    tokio::spawn(serve_tls(listener, tls, listeners::health(), options, cancel));
    Ok(())
}

/// The client of a component that is a process of its own.
fn remote_client(component: &str, file: &Option<PathBuf>) -> anyhow::Result<Client> {
    let Some(file) = file else { bail!("--kubeconfig is needed: it says where the API server is and who this is") };
    clients::remote(file, component).with_context(|| format!("--kubeconfig {}", file.display()))
}

/// This machine's name in events and leases.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn read(flag: &str, path: &PathBuf) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("--{flag} {}", path.display()))
}
