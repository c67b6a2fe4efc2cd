//! `argosy down` for a layout of several hosts.

use cluster::{
    layout::Layout,
    topology::{Host, Topology},
};

use super::Hosts;
use crate::{display, process::step};

pub async fn run(layout: &Layout, topology: &Topology, grace: u64) -> anyhow::Result<()> {
    let hosts = Hosts { layout, topology };
    let shown = display::new();
    hosts.each(&*shown, |host| stop(&hosts, host, grace)).await?;
    step(&*shown, "network", async { Ok(hosts.lab().tear_down().await?) }).await
}

async fn stop(hosts: &Hosts<'_>, host: Host, grace: u64) -> anyhow::Result<()> {
    hosts.stop(&host, grace).await
}
