//! Masters of a laboratory that join the running cluster and go again.
//!
//! A master that joins is apart until it serves: nginx and the other API servers hear of it last. One that goes is apart
//! first. So whoever uses the cluster never meets a master that is only half there.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, bail};
use cluster::{
    files,
    layout::Layout,
    pki::Pki,
    progress::Progress,
    supervise::{self, SUPERVISOR, Signal},
    topology::{self, Host, Topology},
};
use jiff::Timestamp;
use store::etcd::{Members, may_remove};

use super::{Hosts, up::answers};
use crate::{
    addons, clients, components::storage::etcd_options, display, joining::master::NOT_TAKEN, node, process::step,
    signals,
};

const PAUSE: Duration = Duration::from_millis(200);
/// How long an API server may take to end, to start with other flags and to answer.
const TAKE_UP_LIMIT: Duration = Duration::from_secs(45);

/// Adds a master; where it does not serve within `limit`, or the caller is interrupted, nothing of it stays.
pub async fn join(layout: &Layout, mut topology: Topology, limit: Duration) -> anyhow::Result<Host> {
    let host = topology.add_master()?;
    let members = members(layout, &topology, &host).await?;
    check_members(&members, &topology, &host).await?;
    // Of a join that was killed.
    files::remove(Topology::host_layout(layout, &host.name).root())?;
    // Kept before anything runs: `down` finds it whatever happens next.
    topology.save(layout)?;
    let (cancel, shown) = (signals::stop_token()?, display::new());
    let hosts = Hosts { layout, topology: &topology };
    let entered = tokio::select! {
        entered = tokio::time::timeout(limit, enter(&hosts, &host, &members, &*shown)) => {
            entered.unwrap_or_else(|_| Err(anyhow::anyhow!("it does not serve after {} s", limit.as_secs())))
        }
        () = cancel.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    if let Err(error) = entered {
        let last_words = last_words(&hosts, &host);
        undo(&hosts, &host, &members).await.with_context(|| {
            format!("{} has not joined ({error:#}), and is not gone: `argosy node remove {0}`", host.name)
        })?;
        topology.hosts.retain(|other| other.name != host.name);
        topology.save(layout)?;
        return Err(error.context(format!("{} has not joined, and nothing of it is left{last_words}", host.name)));
    }
    set_apart(layout, &mut topology, &host, false)?;
    let hosts = Hosts { layout, topology: &topology };
    step(&*shown, "the others", tell(&hosts, &host, |_| true)).await?;
    members.close().await;
    Ok(host)
}

/// From nothing to a master that answers.
async fn enter(hosts: &Hosts<'_>, host: &Host, members: &Members, shown: &dyn Progress) -> anyhow::Result<()> {
    let (since, layout) = (Timestamp::now(), hosts.host_layout(host));
    step(shown, "network", async { Ok(hosts.lab().set_up_host(host).await?) }).await?;
    step(shown, "certificates", async { hosts.prepare(host).map(drop) }).await?;
    let member = step(shown, "etcd: add a learner", async {
        let added = members.add_learner(&host.etcd_peers()).await;
        added.context(NOT_TAKEN)
    })
    .await?;
    step(shown, &host.name, hosts.start(host, super::START_LIMIT, 0)).await?;
    step(shown, "etcd: give it a vote", async { Ok(members.promote_when_caught_up(member.id).await?) }).await?;
    step(shown, "API server", answers(&layout)).await?;
    if host.node {
        let client = clients::remote(&hosts.layout.kubeconfig("admin"), "argosy")?;
        step(shown, "node Ready", async {
            node::wait_ready(&client, &host.name, Some(since)).await?;
            addons::label_control_plane(&client, &host.name).await
        })
        .await?;
    }
    Ok(())
}

/// What its etcd said last, where it has run.
fn last_words(hosts: &Hosts<'_>, host: &Host) -> String {
    match supervise::log_tail(&hosts.host_layout(host).log_file("etcd"), 2) {
        empty if empty.is_empty() => String::new(),
        tail => format!("; its etcd's last words: {tail}"),
    }
}

async fn undo(hosts: &Hosts<'_>, host: &Host, members: &Members) -> anyhow::Result<()> {
    // While it runs: a member with a vote that is gone would be one that etcd waits for.
    take_out(members, host).await?;
    hosts.stop(host, 0).await?;
    hosts.lab().tear_down_host(host).await?;
    forget_node(hosts, host).await?;
    Ok(files::remove(hosts.host_layout(host).root())?)
}

async fn take_out(members: &Members, host: &Host) -> anyhow::Result<()> {
    members.remove_at(&host.etcd_peers()).await.context("etcd keeps its member")
}

async fn forget_node(hosts: &Hosts<'_>, host: &Host) -> anyhow::Result<()> {
    match host.node {
        true => node::forget(&clients::remote(&hosts.layout.kubeconfig("admin"), "argosy")?, &host.name).await,
        false => Ok(()),
    }
}

/// Takes a master out, where the others can do without it.
pub async fn remove(layout: &Layout, mut topology: Topology, host: &Host) -> anyhow::Result<()> {
    let members = members(layout, &topology, host).await?;
    let known = members.with_health().await?;
    if let Some((member, _)) = known.iter().find(|(member, _)| member.is_at(&host.etcd_peers())) {
        may_remove(&known, member.id).with_context(|| format!("{} must stay", host.name))?;
    }
    let shown = display::new();
    set_apart(layout, &mut topology, host, true)?;
    let hosts = Hosts { layout, topology: &topology };
    // Whoever comes through nginx is not sent there any more when its API server ends.
    step(&*shown, "nginx", tell(&hosts, host, |other| other.balancer)).await?;
    if let Err(error) = step(&*shown, "etcd", take_out(&members, host)).await {
        set_apart(layout, &mut topology, host, false)?;
        let hosts = Hosts { layout, topology: &topology };
        tell(&hosts, host, |other| other.balancer).await?;
        return Err(error.context(format!("{} stays", host.name)));
    }
    step(&*shown, &host.name, async {
        hosts.stop(host, 5).await?;
        Ok(hosts.lab().tear_down_host(host).await?)
    })
    .await?;
    forget_node(&hosts, host).await?;
    files::remove(hosts.host_layout(host).root())?;
    topology.hosts.retain(|other| other.name != host.name);
    topology.save(layout)?;
    members.close().await;
    let hosts = Hosts { layout, topology: &topology };
    step(&*shown, "the others", tell(&hosts, host, |other| other.master)).await
}

fn set_apart(layout: &Layout, topology: &mut Topology, host: &Host, apart: bool) -> anyhow::Result<()> {
    topology.hosts.iter_mut().filter(|other| other.name == host.name).for_each(|host| host.apart = apart);
    Ok(topology.save(layout)?)
}

/// etcd, asked by the masters other than `host`, with the certificate of one of them.
async fn members(layout: &Layout, topology: &Topology, host: &Host) -> anyhow::Result<Members> {
    let others: Vec<&Host> = topology.serving().filter(|other| other.name != host.name).collect();
    let Some(first) = others.first() else { bail!("{} is the only master: the cluster would be gone", host.name) };
    let pki = Pki::new(Topology::host_layout(layout, &first.name).pki_dir());
    let options = etcd_options(others.iter().map(|host| host.etcd_clients()), &pki);
    let context = "etcd does not answer: its members can only be changed while a majority of them runs";
    Members::connect(options).await.context(context)
}

/// A member that starts must be told exactly who the others are.
async fn check_members(members: &Members, topology: &Topology, host: &Host) -> anyhow::Result<()> {
    let wanted = topology.masters().filter(|other| other.name != host.name).map(Host::etcd_peers);
    let wanted: BTreeSet<String> = wanted.collect();
    let found: BTreeSet<String> = members.list().await?.into_iter().flat_map(|member| member.peer_urls).collect();
    let strangers: Vec<&String> = found.symmetric_difference(&wanted).collect();
    if !strangers.is_empty() {
        bail!(
            "etcd's members are {found:?}, the layout's masters are {wanted:?}: remove what is too much with \
             `argosy node remove` or `argosy store member remove`, then join again"
        );
    }
    Ok(())
}

/// Lets the hosts that `which` chooses take the layout as it is now, one after the other; `except` is not asked. One that
/// cannot keeps no other from it.
async fn tell(hosts: &Hosts<'_>, except: &Host, which: impl Fn(&Host) -> bool) -> anyhow::Result<()> {
    let others = hosts.topology.hosts.iter().filter(|host| host.name != except.name && (host.balancer || host.master));
    let mut failed = Vec::new();
    for host in others.filter(|host| which(host)) {
        // One that is off finds it when it is switched on.
        if hosts.is_running(host)? {
            let told = tokio::time::timeout(TAKE_UP_LIMIT, take_up(hosts, host)).await;
            let told = told.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer after {} s", TAKE_UP_LIMIT.as_secs())));
            failed.extend(told.err().map(|error| format!("{}: {error:#}", host.name)));
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => bail!(
            "{} is done, and not everybody has taken it up; when they are well again, `argosy node restart` does it: {}",
            except.name,
            failed.join("; ")
        ),
    }
}

async fn take_up(hosts: &Hosts<'_>, host: &Host) -> anyhow::Result<()> {
    hosts.prepare(host)?;
    let layout = hosts.host_layout(host);
    if let Some(supervisor) = supervise::read_pid_file(&layout.pid_file(SUPERVISOR))? {
        supervisor.signal(Signal::HUP)?;
    }
    // One that reads its configuration again is not started for it.
    for unit in topology::units(hosts.topology, host, &layout).into_iter().filter(|unit| !unit.reloads) {
        while !supervise::read_pid_file(&layout.pid_file(unit.name))?.is_some_and(|process| unit.is_run_by(&process)) {
            tokio::time::sleep(PAUSE).await;
        }
    }
    match host.master {
        true => answers(&layout).await,
        false => Ok(()),
    }
}
