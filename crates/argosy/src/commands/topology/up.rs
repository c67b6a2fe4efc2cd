//! `argosy up --topology`: every host of a layout, each a network namespace of this machine.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use client::{Client, kinds::core::v1::Namespace};
use cluster::{
    lab::{self, Lab},
    layout::{Cidr, Layout, Settings},
    machine,
    topology::{Shape, Topology},
};
use jiff::Timestamp;

use super::{Hosts, missing_programs};
use crate::{addons, clients, commands::up::tell_how_to_go_on, display, node, process::step};

pub struct Wanted {
    /// `None`: what is in the data folder.
    pub shape: Option<Shape>,
    pub workers: Option<u8>,
    /// What evicts pods, where it is not what is usual.
    pub eviction_hard: Option<String>,
    pub timeout: Duration,
    pub verbosity: u8,
}

pub async fn run(layout: &Layout, wanted: Wanted) -> anyhow::Result<()> {
    let (begin, since) = (Instant::now(), Timestamp::now());
    let topology = resolve(layout, &wanted).await?;
    topology.save(layout)?;
    let hosts = Hosts { layout, topology: &topology };
    let shown = display::new();
    step(&*shown, "network", async { Ok(Lab::new(&topology).set_up().await?) }).await?;
    step(&*shown, "certificates", async { prepare(&hosts) }).await?;
    let limit = wanted.timeout;
    let work = async {
        let start = hosts.start_all(&*shown, limit, wanted.verbosity);
        let serve = step(&*shown, "API servers", api_servers(&hosts));
        tokio::try_join!(start, serve)?;
        let client = clients::remote(&layout.kubeconfig("admin"), "argosy")?;
        let settings = topology.settings(topology.host(&topology.hosts[0].name)?);
        step(&*shown, "cluster DNS", addons::dns(&client, &settings)).await?;
        step(&*shown, "nodes Ready", nodes_ready(&hosts, &client, since)).await
    };
    let waited = tokio::time::timeout(limit, work).await;
    waited.with_context(|| {
        format!(
            "not everything is up after {} s; see the logs in {}",
            limit.as_secs(),
            layout.root().join("hosts").display()
        )
    })??;
    let nodes = match topology.nodes().count() {
        1 => "1 node is".to_owned(),
        count => format!("{count} nodes are"),
    };
    println!("{}: {nodes} Ready after {:.1} s", topology.shape, begin.elapsed().as_secs_f64());
    tell_how_to_go_on(layout).await;
    println!("  argosy status");
    Ok(())
}

/// The topology of an earlier start, or a new one.
async fn resolve(layout: &Layout, wanted: &Wanted) -> anyhow::Result<Topology> {
    let purge = "`argosy down --purge` makes way for a new one";
    match (Topology::load(layout)?, wanted.shape) {
        (Some(kept), _) if !kept.lab => bail!("{} holds what `argosy deploy` has written", layout.root().display()),
        (Some(kept), shape) => {
            if shape.is_some_and(|shape| shape != kept.shape) {
                bail!("{} holds a cluster of the layout {}: {purge}", layout.root().display(), kept.shape);
            }
            let workers = kept.hosts.iter().filter(|host| host.node && !host.master).count();
            if wanted.workers.is_some_and(|wanted| usize::from(wanted) != workers) {
                bail!("the cluster has {workers} workers: `argosy node join` and `argosy node remove` change that");
            }
            check(layout, &kept)?;
            let eviction_hard = wanted.eviction_hard.clone().or(kept.eviction_hard.clone());
            Ok(Topology { eviction_hard, ..kept })
        }
        (None, Some(shape)) => {
            if Settings::load(layout)?.is_some() {
                bail!(
                    "{} holds a cluster of one machine: {purge}, or --data-dir names another folder",
                    layout.root().display()
                );
            }
            // Any network will do to see what is missing; a real one is claimed when nothing is.
            check(layout, &Topology::new(shape, wanted.workers, Cidr::v4([10, 89, 0, 0], 24))?)?;
            let topology = Topology::new(shape, wanted.workers, lab::claim_network().await?)?;
            Ok(Topology { eviction_hard: wanted.eviction_hard.clone(), ..topology })
        }
        (None, None) => bail!("no layout is named"),
    }
}

pub fn check(layout: &Layout, topology: &Topology) -> anyhow::Result<()> {
    let mut problems = missing_programs(topology);
    if let Some(host) = topology.nodes().next() {
        let (host_layout, settings) = (Topology::host_layout(layout, &host.name), topology.settings(host));
        problems.extend(machine::check(&host_layout, &settings, false).iter().map(ToString::to_string));
    }
    if problems.is_empty() {
        return Ok(());
    }
    let list: String = problems.iter().map(|problem| format!("\n  - {problem}")).collect();
    bail!("this machine cannot carry a cluster yet:{list}")
}

fn prepare(hosts: &Hosts<'_>) -> anyhow::Result<()> {
    for host in &hosts.topology.hosts {
        hosts.prepare(host)?;
    }
    for master in hosts.topology.masters() {
        super::write_admin(&hosts.host_layout(master), hosts.layout, hosts.topology.api_server())?;
    }
    Ok(())
}

/// Waits until every API server answers, and through the cluster's address too.
async fn api_servers(hosts: &Hosts<'_>) -> anyhow::Result<()> {
    for master in hosts.topology.masters() {
        answers(&hosts.host_layout(master)).await?;
    }
    answers(hosts.layout).await
}

pub async fn answers(layout: &Layout) -> anyhow::Result<()> {
    const PAUSE: Duration = Duration::from_millis(100);
    const TRY: Duration = Duration::from_secs(2);
    let client = clients::remote(&layout.kubeconfig("admin"), "argosy")?;
    let namespaces = client.all::<Namespace>();
    loop {
        if let Ok(Ok(Some(_))) = tokio::time::timeout(TRY, namespaces.find("default")).await {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

pub async fn nodes_ready(hosts: &Hosts<'_>, client: &Client, since: Timestamp) -> anyhow::Result<()> {
    for host in hosts.topology.nodes() {
        let ready = node::wait_ready(client, &host.name, Some(since));
        ready.await.with_context(|| format!("waiting for {}", host.name))?;
        if host.master {
            addons::label_control_plane(client, &host.name).await?;
        }
    }
    Ok(())
}
