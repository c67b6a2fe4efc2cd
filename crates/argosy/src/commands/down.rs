//! `argosy down`: stops the cluster and takes it off the machine.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use cluster::{
    containerd::take_down,
    files,
    layout::Settings,
    supervise::{self, Lock, SUPERVISOR},
    topology::{Shape, Topology},
};

use super::DataFlags;
use crate::{display, joining::kept::Kept, process::step};

/// How long the cluster's process may take to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(20);

#[derive(Args, Clone, Debug)]
pub struct Flags {
    #[command(flatten)]
    data: DataFlags,
    /// Remove the data too: objects, certificates, images, logs
    #[arg(long)]
    purge: bool,
    /// How long containers may take to end by themselves, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    grace: u64,
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let layout = flags.data.layout()?;
    if let Some(topology) = Topology::load(&layout)?.filter(|topology| topology.lab) {
        need_root()?;
        super::topology::down::run(&layout, &topology, flags.grace).await?;
        if topology.shape != Shape::Embedded {
            return purge(&flags, &layout, true);
        }
    }
    if let Some(kept) = Kept::load(&layout)? {
        need_root()?;
        let shown = display::new();
        if flags.purge {
            step(&*shown, "leave etcd", kept.take_out(&layout)).await?;
        }
        step(&*shown, "stop the master", kept.stop(&layout)).await?;
        return purge(&flags, &layout, true);
    }
    let Some(settings) = Settings::load(&layout)? else {
        println!("no cluster in {}", layout.root().display());
        return purge(&flags, &layout, false);
    };
    need_root()?;
    let shown = display::new();
    step(&*shown, "stop the control plane", async {
        Ok(supervise::stop_by_pid_file(&layout.pid_file(SUPERVISOR), STOP_GRACE).await?)
    })
    .await?;
    let lock = Lock::take(&layout.lock_file())?;
    take_down(&layout, &settings, Duration::from_secs(flags.grace), &*shown).await?;
    step(&*shown, "remove Service rules", crate::components::proxy::clean_up(&settings)).await?;
    drop(lock);
    purge(&flags, &layout, true)
}

fn need_root() -> anyhow::Result<()> {
    anyhow::ensure!(rustix::process::geteuid().is_root(), "taking a node down needs root: run it with sudo");
    Ok(())
}

fn purge(flags: &Flags, layout: &cluster::layout::Layout, was_there: bool) -> anyhow::Result<()> {
    if flags.purge {
        // A folder that never held a cluster may be anybody's.
        let known = was_there || layout.run_dir().exists() || layout.pki_dir().exists();
        if known {
            files::remove(layout.root()).context("removing the data")?;
            println!("removed {}", layout.root().display());
        }
    } else if was_there {
        println!("down; the data stays in {} (`argosy down --purge` removes it)", layout.root().display());
    }
    Ok(())
}
