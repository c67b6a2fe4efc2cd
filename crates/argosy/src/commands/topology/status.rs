//! `argosy status` for a layout: every host with what runs on it and how it is.

use std::{collections::HashMap, time::Duration};

use anyhow::bail;
use client::{
    Kind, ListParams,
    kinds::{
        coordination::v1::Lease,
        core::v1::{Namespace, Node, Pod},
    },
};
use cluster::{
    containerd,
    layout::Layout,
    supervise,
    topology::{Host, Topology, units},
};

use super::Hosts;
use crate::{clients, node};

const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// The hosts alone, a line each. Returns whether everything runs.
pub async fn hosts(layout: &Layout, topology: &Topology) -> anyhow::Result<bool> {
    let hosts = Hosts { layout, topology };
    let seen = tokio::time::timeout(ANSWER_LIMIT, ask(layout)).await;
    show_all(&hosts, &seen.ok().and_then(Result::ok).unwrap_or_default()).await
}

async fn show_all(hosts: &Hosts<'_>, seen: &Seen) -> anyhow::Result<bool> {
    let mut good = true;
    for host in &hosts.topology.hosts {
        good &= show(hosts, host, seen).await?;
    }
    Ok(good)
}

/// What the API says of the cluster.
#[derive(Default)]
struct Seen {
    ready: HashMap<String, bool>,
    pods: HashMap<String, usize>,
    /// The process that leads, by the name of the lease.
    leaders: HashMap<String, String>,
}

pub async fn run(layout: &Layout, topology: &Topology) -> anyhow::Result<()> {
    let hosts = Hosts { layout, topology };
    let seen = tokio::time::timeout(ANSWER_LIMIT, ask(layout)).await;
    let api = match &seen {
        Ok(Ok(_)) => "answers".to_owned(),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => format!("no answer within {} s", ANSWER_LIMIT.as_secs()),
    };
    println!("{:<20} {}", "layout", topology.shape);
    println!("{:<20} {}, {api}", "API", topology.api_server());
    println!("{:<20} {}\n", "data", layout.root().display());
    let answers = matches!(seen, Ok(Ok(_)));
    let seen = seen.ok().and_then(Result::ok).unwrap_or_default();
    if !(show_all(&hosts, &seen).await? && answers) {
        bail!("not everything runs");
    }
    Ok(())
}

async fn ask(layout: &Layout) -> anyhow::Result<Seen> {
    let client = clients::remote(&layout.kubeconfig("admin"), "argosy")?;
    let everything = ListParams::default();
    let nodes = client.all::<Node>().list(&everything).await?.items;
    let mut seen = Seen {
        ready: nodes.iter().map(|node| (node.name().to_owned(), node::is_ready(node))).collect(),
        ..Seen::default()
    };
    for pod in client.all::<Pod>().list(&everything).await?.items {
        let running = pod.status.and_then(|status| status.phase).as_deref() == Some("Running");
        if let Some(node) = pod.spec.and_then(|spec| spec.node_name).filter(|_| running) {
            *seen.pods.entry(node).or_default() += 1;
        }
    }
    for lease in client.namespaced::<Lease>("kube-system").list(&everything).await?.items {
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        let process = holder.rsplit_once('_').map_or(holder.as_str(), |(_, process)| process).to_owned();
        seen.leaders.insert(lease.name().to_owned(), process);
    }
    Ok(seen)
}

/// One line per host: `✓` for what runs, `✗` for what does not.
async fn show(hosts: &Hosts<'_>, host: &Host, seen: &Seen) -> anyhow::Result<bool> {
    let layout = hosts.host_layout(host);
    let mut good = hosts.is_running(host)?;
    let mut boxes = Vec::new();
    let mark = |runs: bool| if runs { '✓' } else { '✗' };
    if host.node {
        let runs = supervise::status(&layout)?.containerd.is_some();
        good &= runs;
        boxes.push(format!("{} {}", containerd::NAME, mark(runs)));
    }
    for unit in units(hosts.topology, host, &layout) {
        let process = supervise::read_pid_file(&layout.pid_file(unit.name))?;
        let mut runs = process.is_some();
        if unit.name == "kube-apiserver" && runs {
            runs = answers(&layout).await;
        }
        good &= runs;
        let leads = process.is_some_and(|process| seen.leaders.get(unit.name) == Some(&process.pid.to_string()));
        boxes.push(format!("{} {}{}", unit.name, mark(runs), if leads { " leads" } else { "" }));
    }
    if host.node {
        let ready = seen.ready.get(&host.name).copied().unwrap_or_default();
        good &= ready;
        let pods = seen.pods.get(&host.name).copied().unwrap_or_default();
        let plural = if pods == 1 { "" } else { "s" };
        boxes.push(format!("{}, {pods} pod{plural}", if ready { "node Ready" } else { "node not Ready" }));
    }
    let lab = hosts.lab();
    let place = match (hosts.is_running(host)?, lab.is_connected(host)) {
        (false, _) => "stopped",
        (true, false) => "cut off",
        (true, true) => "",
    };
    good &= place.is_empty();
    println!("{:<10} {:<15} {:<8} {}", host.name, host.address, place, boxes.join("  "));
    Ok(good)
}

async fn answers(layout: &Layout) -> bool {
    let Ok(client) = clients::remote(&layout.kubeconfig("admin"), "argosy") else { return false };
    let asked = tokio::time::timeout(ANSWER_LIMIT, async { client.all::<Namespace>().find("default").await });
    matches!(asked.await, Ok(Ok(_)))
}
