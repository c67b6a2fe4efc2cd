//! `argosy status`: what of the cluster runs, and whether its node is Ready.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use client::{
    ListParams,
    kinds::core::v1::{Node, Pod},
};
use cluster::{
    layout::{Layout, Settings},
    supervise,
    topology::{Shape, Topology},
};

use super::DataFlags;
use crate::{clients, joining::kept::Kept, node};

const ANSWER_LIMIT: Duration = Duration::from_secs(5);

#[derive(Args, Clone, Debug)]
pub struct Flags {
    #[command(flatten)]
    data: DataFlags,
}

/// Succeeds when everything runs, so that scripts can ask.
pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let layout = flags.data.layout()?;
    let topology = Topology::load(&layout)?.filter(|topology| topology.lab);
    if let Some(topology) = topology.as_ref().filter(|topology| topology.shape != Shape::Embedded) {
        return super::topology::status::run(&layout, topology).await;
    }
    if let Some(kept) = Kept::load(&layout)? {
        return of_master(&layout, &kept).await;
    }
    let Some(settings) = Settings::load(&layout)? else {
        bail!("no cluster in {}: `argosy up` makes one", layout.root().display());
    };
    let status = supervise::status(&layout)?;
    let pid = |process: Option<supervise::Process>| match process {
        Some(process) => format!("running, process {}", process.pid),
        None => "stopped".to_owned(),
    };
    let mut good = status.supervisor.is_some();
    row("control plane", &pid(status.supervisor));
    match &settings.runtime_endpoint {
        Some(endpoint) => row("container runtime", endpoint),
        None => {
            good &= status.containerd.is_some();
            row("containerd", &pid(status.containerd));
        }
    }
    match tokio::time::timeout(ANSWER_LIMIT, ask(&layout, &settings)).await {
        Ok(Ok(ready)) => good &= ready,
        Ok(Err(error)) => {
            good = false;
            row("API server", &format!("{error:#}"));
        }
        Err(_) => {
            good = false;
            row("API server", &format!("no answer within {} s", ANSWER_LIMIT.as_secs()));
        }
    }
    row("data", &layout.root().display().to_string());
    if let Some(topology) = topology {
        println!();
        good &= super::topology::status::hosts(&layout, &topology).await?;
    }
    if !good {
        bail!("not everything runs");
    }
    Ok(())
}

/// Of a machine that has joined as a master.
async fn of_master(layout: &Layout, kept: &Kept) -> anyhow::Result<()> {
    let mut good = !kept.joining;
    row("master", &format!("{}{}", kept.name, if kept.joining { ", which has not joined yet" } else { "" }));
    for (unit, runs) in kept.units_running(layout)? {
        good &= runs;
        row(unit, if runs { "running" } else { "stopped" });
    }
    let asked = tokio::time::timeout(ANSWER_LIMIT, super::topology::up::answers(layout)).await;
    let answers = matches!(asked, Ok(Ok(())));
    good &= answers;
    row("API server", if answers { "answers" } else { "does not answer" });
    row("data", &layout.root().display().to_string());
    if !good {
        bail!("not everything runs");
    }
    Ok(())
}

/// Whether the node is Ready.
async fn ask(layout: &Layout, settings: &Settings) -> anyhow::Result<bool> {
    let client = clients::remote(&layout.kubeconfig("admin"), "argosy")?;
    let found = client.all::<Node>().find(&settings.node_name).await;
    let found = found.map_err(|error| anyhow::anyhow!("{error}"))?;
    row("API server", &format!("https://127.0.0.1:{}", settings.ports.apiserver));
    let ready = found.as_ref().is_some_and(node::is_ready);
    let state = match (&found, ready) {
        (None, _) => "not registered",
        (_, true) => "Ready",
        (_, false) => "not Ready",
    };
    row(&format!("node {}", settings.node_name), state);
    let pods = client.all::<Pod>().list(&ListParams::default()).await?.items;
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
    let running = pods.iter().filter(|pod| phase(pod).as_deref() == Some("Running")).count();
    row("pods", &format!("{running} running, {} in all", pods.len()));
    Ok(ready)
}

fn row(name: &str, state: &str) {
    println!("{name:<20} {state}");
}
