//! This machine as a further master of a cluster (`kubeadm join --control-plane`): it inherits the cluster's authorities,
//! becomes a member of its etcd, and runs what a master of the layouts runs.
//!
//! What can be found out without writing anything is found out first. From then on whatever fails is undone: the member is
//! taken out of etcd and the data folder is removed, until the member has its vote and the API server answers.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, bail};
use client::SystemClock;
use cluster::{
    files,
    joining::masters::{CertificateKey, Inheritance},
    layout::{Layout, Ports},
    machine,
    pki::Pki,
    supervise::{self, Lock, Process, SUPERVISOR, log_tail},
    topology::{ETCD_CLIENTS, ETCD_PEERS, Host},
};
use store::etcd::{Member, Members};
use tokio_util::sync::CancellationToken;

use super::{
    Invitation,
    credentials::check_authority,
    error::JoinError,
    inheritance,
    kept::{Kept, encryption_file},
};
use crate::{commands::topology::up::answers, components::storage::etcd_options, units::Units};

/// How long it usually may take until the master serves.
pub const JOIN_LIMIT: Duration = Duration::from_secs(120);

pub const NOT_TAKEN: &str =
    "etcd does not take another member; all that it has must run for that, and only one joins at a time";

/// What a machine is told that is to become a master.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub invitation: Invitation,
    pub key: CertificateKey,
    pub name: String,
    pub address: Ipv4Addr,
    /// How long it may take until this master serves.
    pub limit: Duration,
}

/// Runs the master until `cancel`: the one that the data folder holds, or one that joins now.
pub async fn run(layout: &Layout, wanted: Option<Wanted>, cancel: CancellationToken) -> anyhow::Result<()> {
    let kept = Kept::load(layout)?;
    let inherited = match (&kept, &wanted) {
        (Some(_), Some(wanted)) => {
            let ca = files::read_optional(&Pki::new(layout.pki_dir()).cert("ca"))?.unwrap_or_default();
            check_authority(&ca, &wanted.invitation)?;
            None
        }
        (Some(_), None) => None,
        (None, Some(wanted)) => {
            check_machine(layout)?;
            let fetched = inheritance::fetch(&wanted.invitation, &wanted.key, &SystemClock);
            match cancel.run_until_cancelled(fetched).await {
                Some(fetched) => Some(fetched?),
                None => return Ok(()),
            }
        }
        (None, None) => bail!("{} holds no master", layout.root().display()),
    };
    let _lock = Lock::take(&layout.lock_file())?;
    let pid_file = layout.pid_file(SUPERVISOR);
    supervise::write_pid_file(&pid_file, &Process::current().context("this process is not in /proc")?)?;
    let running = Units::new(layout);
    let limit = wanted.as_ref().map_or(JOIN_LIMIT, |w| w.limit);
    let master = Master { layout, running: &running, limit, cancel: &cancel };
    let outcome = match (kept, inherited, wanted) {
        (None, Some(inheritance), Some(wanted)) => master.join(&inheritance, &wanted).await,
        (Some(kept), ..) if kept.joining => master.enter(kept, false).await,
        (Some(kept), ..) => master.start(&kept).await,
        _ => Ok(()),
    };
    if outcome.is_ok() {
        cancel.run_until_cancelled(master.look_around()).await;
        cancel.cancelled().await;
    }
    running.stop().await;
    files::remove(&pid_file)?;
    outcome
}

/// Ports and programs that a master needs, and a folder of its own.
fn check_machine(layout: &Layout) -> anyhow::Result<()> {
    let mut entries = std::fs::read_dir(layout.root()).into_iter().flatten();
    if entries.next().is_some() {
        return Err(JoinError::FolderTaken { path: layout.root().to_owned() }.into());
    }
    let ports = Ports::default();
    let wanted = [
        ("etcd", ETCD_CLIENTS),
        ("etcd", ETCD_PEERS),
        ("kube-apiserver", ports.apiserver),
        ("kube-controller-manager", ports.controller_manager),
        ("kube-scheduler", ports.scheduler),
    ];
    let taken = wanted.into_iter().filter_map(|(name, port)| machine::check_port(name, port));
    let mut problems: Vec<String> = taken.map(|problem| problem.to_string()).collect();
    if machine::find_program("etcd").is_none() {
        problems.push("etcd is missing: install the package etcd-server".to_owned());
    }
    match problems.is_empty() {
        true => Ok(()),
        false => bail!("this machine cannot be a master yet:\n  - {}", problems.join("\n  - ")),
    }
}

struct Master<'a> {
    layout: &'a Layout,
    running: &'a Units,
    limit: Duration,
    cancel: &'a CancellationToken,
}

impl Master<'_> {
    async fn start(&self, kept: &Kept) -> anyhow::Result<()> {
        kept.prepare(self.layout)?;
        self.running.start(kept.units(self.layout)?, false).await
    }

    /// Keeps who else is a master now, for the next start: others may have come and gone meanwhile. The API server that runs
    /// knows those that were there when it was started, which does while one of them is.
    async fn look_around(&self) {
        let looked = async {
            let Some(kept) = Kept::load(self.layout)? else { return Ok(()) };
            let endpoints = kept.topology.serving().map(Host::etcd_clients).collect();
            let members = connect(endpoints, &Pki::new(self.layout.pki_dir())).await?;
            let known: Vec<(String, String)> = members.list().await?.into_iter().flat_map(urls).collect();
            members.close().await;
            let topology = kept.topology.joined_by(kept.host()?, &known)?;
            Kept { topology, ..kept }.save(self.layout)
        };
        let looked: anyhow::Result<()> = looked.await;
        if let Err(error) = looked {
            tracing::warn!(error = format!("{error:#}"), "cannot see which masters there are now");
        }
    }

    /// The first start. Nothing of it is left where it fails before etcd is asked for anything.
    async fn join(&self, inheritance: &Inheritance, wanted: &Wanted) -> anyhow::Result<()> {
        let host = Host::joining(&wanted.name, wanted.address);
        let prepared = self.prepare(inheritance, &host).await;
        match prepared {
            Ok(kept) => self.enter(kept, true).await,
            Err(error) => {
                files::remove(self.layout.root())?;
                Err(error)
            }
        }
    }

    /// Certificates, and what etcd says of who is there.
    async fn prepare(&self, inheritance: &Inheritance, host: &Host) -> anyhow::Result<Kept> {
        let layout = self.layout;
        let pki = Pki::new(layout.pki_dir());
        files::make_dir(layout.root())?;
        inheritance.install(&pki)?;
        if let Some(text) = &inheritance.encryption {
            files::write_atomic(&encryption_file(layout), text, 0o600)?;
        }
        pki.ensure(&inheritance.topology.identity(host)?, std::time::SystemTime::now())?;
        let endpoints: Vec<String> = inheritance.topology.serving().map(Host::etcd_clients).collect();
        let members = connect(endpoints, &pki).await?;
        let known = members.list().await?;
        members.close().await;
        if let Some(member) = known.iter().find(|member| member.is_at(&host.etcd_peers()) && member.is_started()) {
            bail!(
                "etcd has a member {} at {} already: take it out with `argosy store member remove {0}` on another master, \
                 or join with another --node-ip",
                member.name,
                host.etcd_peers()
            );
        }
        let known: Vec<(String, String)> = known.into_iter().flat_map(urls).collect();
        let topology = inheritance.topology.joined_by(host, &known)?;
        Ok(Kept { name: host.name.clone(), topology, joining: true })
    }

    /// From a member that is added to a master that serves, or to nothing. `fresh`: etcd has not been asked before.
    async fn enter(&self, mut kept: Kept, fresh: bool) -> anyhow::Result<()> {
        let host = kept.host()?.clone();
        let others = kept.topology.masters().filter(|other| other.name != host.name).map(Host::etcd_clients);
        let members = connect(others.collect(), &Pki::new(self.layout.pki_dir())).await;
        let members = match members {
            Ok(members) => members,
            Err(error) => {
                if fresh {
                    files::remove(self.layout.root())?;
                }
                return Err(error);
            }
        };
        let entered = tokio::select! {
            entered = tokio::time::timeout(self.limit, self.try_enter(&kept, &host, &members)) => {
                entered.unwrap_or_else(|_| {
                    let said = log_tail(&self.layout.log_file("etcd"), 3);
                    bail!("this master does not serve after {} s; its etcd's last words: {said}", self.limit.as_secs())
                })
            }
            () = self.cancel.cancelled() => Err(anyhow::anyhow!("interrupted")),
        };
        if let Err(error) = entered {
            self.undo(&host, &members).await.with_context(|| format!("{error:#}; and it is not undone"))?;
            return Err(error.context("this machine has not joined, and nothing of it is left"));
        }
        members.close().await;
        kept.joining = false;
        kept.save(self.layout)?;
        tracing::info!(name = kept.name, "joined as a master");
        println!("{} has joined as a master and serves at https://{}:6443", host.name, host.address);
        Ok(())
    }

    async fn try_enter(&self, kept: &Kept, host: &Host, members: &Members) -> anyhow::Result<()> {
        // Before the member is there: a start after this process was killed goes on from here.
        kept.save(self.layout)?;
        let added = members.add_learner(&host.etcd_peers()).await;
        let member = added.context(NOT_TAKEN)?;
        self.start(kept).await?;
        members.promote_when_caught_up(member.id).await?;
        answers(self.layout).await
    }

    async fn undo(&self, host: &Host, members: &Members) -> anyhow::Result<()> {
        // While it runs: a member with a vote that is gone would be one that etcd waits for.
        let removed = members.remove_at(&host.etcd_peers()).await;
        removed.with_context(|| format!("`argosy store member remove {}` on a master does it", host.etcd_peers()))?;
        self.running.stop().await;
        Ok(files::remove(self.layout.root())?)
    }
}

/// A member is known by each URL that it has.
fn urls(member: Member) -> impl Iterator<Item = (String, String)> {
    let name = member.name;
    member.peer_urls.into_iter().map(move |url| (name.clone(), url))
}

async fn connect(endpoints: Vec<String>, pki: &Pki) -> anyhow::Result<Members> {
    let shown = endpoints.join(", ");
    Members::connect(etcd_options(endpoints, pki)).await.with_context(|| {
        format!(
            "the cluster's etcd does not answer at {shown}: its members can only be changed while a majority of them runs, and \
             ports {ETCD_CLIENTS} and {ETCD_PEERS} must be open between masters"
        )
    })
}
