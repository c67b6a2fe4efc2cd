//! Further nodes beside the one process that is everything: `argosy up --nodes`. Each is a network namespace of this
//! machine, like the hosts of a layout.

use std::time::Duration;

use anyhow::{Context, bail};
use cluster::{
    files, lab,
    layout::{Cidr, Layout, Settings},
    topology::{Host, Shape, Topology},
};
use jiff::Timestamp;

use super::{
    Hosts,
    up::{check, nodes_ready},
};
use crate::{clients, display, process::step};

/// The further nodes of an earlier start.
pub fn load(layout: &Layout) -> anyhow::Result<Option<Topology>> {
    Ok(Topology::load(layout)?.filter(|topology| topology.shape == Shape::Embedded))
}

/// How many nodes there are to be beside the process: what was asked for, which says how many there are in all, has to agree
/// with what there is. Nothing is changed yet.
pub fn resolve(layout: &Layout, settings: &Settings, nodes: Option<u8>) -> anyhow::Result<u8> {
    let kept = load(layout)?.map(|topology| u8::try_from(topology.hosts.len()).unwrap_or(u8::MAX));
    let beside = match (kept, nodes) {
        (_, Some(0)) => bail!("a cluster has one node at least"),
        (None, wanted) => wanted.unwrap_or(1) - 1,
        (Some(kept), Some(wanted)) if kept != wanted - 1 => {
            bail!("the cluster has {} nodes: `argosy node join` and `argosy node remove` change that", kept + 1)
        }
        (Some(kept), _) => kept,
    };
    if beside > 0 {
        // Any network will do to see what is missing; a real one is claimed when nothing is.
        check(layout, &Topology::beside(settings, beside, Cidr::v4([10, 89, 0, 0], 24))?)?;
    }
    Ok(beside)
}

/// Starts the nodes beside the process, which runs and has its certificates, and waits until they are Ready.
pub async fn up(layout: &Layout, settings: &Settings, nodes: u8, limit: Duration, verbosity: u8) -> anyhow::Result<()> {
    if nodes == 0 {
        return Ok(());
    }
    let since = Timestamp::now();
    let topology = match load(layout)? {
        Some(kept) => kept,
        None => Topology::beside(settings, nodes, lab::claim_network().await?)?,
    };
    // The machine's address may have changed since the last start.
    let topology = Topology { api_server: Some(settings.api_server()), ..topology };
    topology.save(layout)?;
    let (hosts, shown) = (Hosts { layout, topology: &topology }, display::new());
    step(&*shown, "network", async { Ok(hosts.lab().set_up().await?) }).await?;
    for host in &topology.hosts {
        hosts.prepare(host)?;
    }
    let work = async {
        hosts.start_all(&*shown, limit, verbosity).await?;
        let client = clients::remote(&layout.kubeconfig("admin"), "argosy")?;
        step(&*shown, "further nodes Ready", nodes_ready(&hosts, &client, since)).await
    };
    let waited = tokio::time::timeout(limit, work).await;
    let logs = layout.root().join("hosts");
    waited.with_context(|| {
        format!("not every node is up after {} s; see the logs in {}", limit.as_secs(), logs.display())
    })?
}

/// The topology of a cluster that had only the one process so far, with its network; `None` where there is no such cluster.
pub async fn first(layout: &Layout) -> anyhow::Result<Option<Topology>> {
    let Some(settings) = Settings::load(layout)? else { return Ok(None) };
    check(layout, &Topology::beside(&settings, 1, Cidr::v4([10, 89, 0, 0], 24))?)?;
    let topology = Topology::beside(&settings, 0, lab::claim_network().await?)?;
    topology.save(layout)?;
    Hosts { layout, topology: &topology }.lab().set_up().await?;
    Ok(Some(topology))
}

/// Forgets `host`; with the last one the network goes too.
pub async fn forget(layout: &Layout, topology: &mut Topology, host: &Host) -> anyhow::Result<()> {
    topology.hosts.retain(|other| other.name != host.name);
    if topology.shape != Shape::Embedded || !topology.hosts.is_empty() {
        return Ok(topology.save(layout)?);
    }
    Hosts { layout, topology }.lab().tear_down().await?;
    Ok(files::remove(&layout.topology_file())?)
}
