//! `argosy network`: the pod network of a node whose components are processes of their own. Upstream leaves this to
//! others; it is as little as hosts on one network need: an address range for the node's pods, and routes to the other
//! nodes' ranges.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use client::{Client, InformerFactory, Kind, kinds::core::v1::Node};
use cluster::{
    containerd::network,
    layout::{Cidr, Layout, Settings},
    machine,
    routes::{self, Routes},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::DataFlags;
use crate::{clients, logging::LogFlags, supervisor::Supervisor};

/// Routes that somebody took away are put back after this time.
const CHECK_EVERY: Duration = Duration::from_secs(30);

#[derive(Args, Clone, Debug)]
pub struct Flags {
    #[command(flatten)]
    data: DataFlags,
    /// Where the API server is, and who this is: somebody who may list and watch nodes
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    /// The node's name, where it is not the host's
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Range of all pods' addresses
    #[arg(long, value_name = "CIDR", default_value = "10.244.0.0/16")]
    cluster_cidr: Cidr,
    #[command(flatten)]
    pub log: LogFlags,
}

pub async fn run(flags: Flags, cancel: CancellationToken) -> anyhow::Result<()> {
    let layout = flags.data.layout()?;
    let name = match flags.node_name {
        Some(name) => name,
        None => machine::node_name()?,
    };
    let settings = match Settings::load(&layout)? {
        Some(settings) => settings,
        None => Settings { cluster_cidr: flags.cluster_cidr, ..Settings::new(&*name, machine::node_ip()?) },
    };
    keep(Some(&layout), &settings, clients::remote(&flags.kubeconfig, "argosy-network")?, &name, cancel).await
}

/// Makes and keeps the pod network of the node `name`, until `cancel`. Without a data folder the node's own part of it is
/// there already, and routes to other nodes' pods are all that is kept.
pub async fn keep(
    layout: Option<&Layout>,
    settings: &Settings,
    client: Client,
    name: &str,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let factory = InformerFactory::new(client);
    let nodes = factory.informer::<Node>();
    let changed = Arc::new(Notify::new());
    let tell = changed.clone();
    nodes.on_event(move |_| tell.notify_one());
    factory.start(cancel.clone());
    cancel.run_until_cancelled(factory.wait_for_sync()).await;
    let mut own = None;
    while !cancel.is_cancelled() {
        let plan = Plan::new(name, &nodes.list());
        if let (Some(layout), Some(range)) = (layout, plan.own.filter(|_| plan.own != own)) {
            set_up(layout, settings, range).await?;
            own = Some(range);
        }
        if routes::apply(settings.cluster_cidr, &plan.routes).await? {
            tracing::info!(nodes = plan.routes.len(), "changed the routes to other nodes' pods");
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = changed.notified() => {}
            () = tokio::time::sleep(CHECK_EVERY) => {}
        }
    }
    Ok(())
}

/// Keeps it as a component of a process that is the node of `settings`, and starts anew where it fails.
pub fn keep_running(supervisor: &Supervisor, layout: Option<&Layout>, settings: &Settings, client: Client) {
    let (layout, settings) = (layout.cloned(), settings.clone());
    supervisor.run("pod network", move |cancel: CancellationToken| {
        let (layout, settings, client) = (layout.clone(), settings.clone(), client.clone());
        async move { keep(layout.as_ref(), &settings, client, &settings.node_name, cancel).await }
    });
}

async fn set_up(layout: &Layout, settings: &Settings, range: Cidr) -> anyhow::Result<()> {
    network::set_up(settings, range).await?;
    // Last: with this file containerd takes the network for ready.
    network::write_conflist(layout, settings, range)?;
    tracing::info!(%range, "pod network is up");
    Ok(())
}

/// What a node's network should be.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// Of the node's own pods; `None` until the controllers have given it one.
    own: Option<Cidr>,
    routes: Routes,
}

impl Plan {
    fn new(name: &str, nodes: &[Arc<Node>]) -> Plan {
        let (own, others): (Vec<&Arc<Node>>, Vec<_>) = nodes.iter().partition(|node| node.name() == name);
        let route = |node: &&Arc<Node>| Some((pod_range(node)?, internal_address(node)?));
        Plan { own: own.first().and_then(|node| pod_range(node)), routes: others.iter().filter_map(route).collect() }
    }
}

fn pod_range(node: &Node) -> Option<Cidr> {
    node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()
}

fn internal_address(node: &Node) -> Option<IpAddr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let address = addresses.iter().find(|address| address.type_ == "InternalIP")?;
    address.address.parse().ok().filter(IpAddr::is_ipv4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, range: Option<&str>, address: Option<&str>) -> Arc<Node> {
        let addresses: Vec<_> =
            address.iter().map(|address| serde_json::json!({"type": "InternalIP", "address": address})).collect();
        let node = serde_json::json!({
            "metadata": {"name": name}, "spec": {"podCIDR": range}, "status": {"addresses": addresses},
        });
        Arc::new(serde_json::from_value(node).expect("a node"))
    }

    #[test]
    fn each_other_node_that_has_a_range_and_an_address_is_routed_to() {
        let nodes = [
            node("a", Some("10.244.0.0/24"), Some("10.89.0.101")),
            node("b", Some("10.244.1.0/24"), Some("10.89.0.102")),
            node("no-range", None, Some("10.89.0.103")),
            node("no-address", Some("10.244.3.0/24"), None),
        ];
        let plan = Plan::new("a", &nodes);
        assert_eq!(plan.own, Some(Cidr::v4([10, 244, 0, 0], 24)));
        assert_eq!(plan.routes, Routes::from([(Cidr::v4([10, 244, 1, 0], 24), IpAddr::from([10, 89, 0, 102]))]));
        assert_eq!(Plan::new("new", &nodes).own, None);
    }
}
