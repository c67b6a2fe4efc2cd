//! `argosy node`: the hosts of a layout, as a laboratory: what happens when one stops, is cut off, joins or goes.

use std::{ffi::OsString, os::unix::process::CommandExt, time::Duration};

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use cluster::{
    layout::Layout,
    supervise::{Lock, log_tail},
    topology::{Host, Topology},
};
use jiff::Timestamp;

use super::{
    DataFlags,
    topology::{Hosts, START_LIMIT, beside, masters},
};
use crate::{clients, node};

/// How many lines of a log are shown.
const LINES: usize = 100;

#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Switch a host off: everything on it ends at once
    Stop(HostFlags),
    /// Switch it on again
    Start(HostFlags),
    /// End its components in order and start them again, with this binary; its pods go on
    Restart(HostFlags),
    /// Pull its network cable; everything on it goes on
    Cut(HostFlags),
    /// Put the cable back
    Heal(HostFlags),
    /// Add a worker, or a master
    Join(JoinFlags),
    /// Take a worker or a master out of the cluster, with its data
    Remove(HostFlags),
    /// Run a command on a host's network
    Exec(ExecFlags),
    /// Show the end of what a host's component logged
    Logs(LogsFlags),
}

#[derive(Args, Clone, Debug)]
pub struct HostFlags {
    /// The host, such as worker-1
    name: String,
    #[command(flatten)]
    data: DataFlags,
}

#[derive(Args, Clone, Debug)]
pub struct JoinFlags {
    /// What it is to be
    #[arg(long, value_enum, default_value_t = Role::Worker)]
    role: Role,
    /// How long it may take until it serves, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = START_LIMIT.as_secs())]
    timeout: u64,
    #[command(flatten)]
    data: DataFlags,
}

/// What a machine is to be in a cluster.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Worker,
    Master,
}

#[derive(Args, Clone, Debug)]
pub struct ExecFlags {
    #[command(flatten)]
    host: HostFlags,
    /// The command with its arguments, behind --
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

#[derive(Args, Clone, Debug)]
pub struct LogsFlags {
    #[command(flatten)]
    host: HostFlags,
    /// The component, such as kubelet; all that there are where none is named
    component: Option<String>,
}

pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Stop(flags) => {
            with(&flags, async |hosts, host| {
                hosts.stop(host, 0).await?;
                hosts.lab().tear_down_host(host).await?;
                done(host, "is off")
            })
            .await
        }
        Command::Start(flags) => {
            with(&flags, async |hosts, host| {
                if hosts.is_running(host)? {
                    return done(host, "is on already");
                }
                start(hosts, host).await?;
                done(host, "is on")
            })
            .await
        }
        Command::Restart(flags) => {
            with(&flags, async |hosts, host| {
                hosts.end_components(host).await?;
                start(hosts, host).await?;
                done(host, "is restarted")
            })
            .await
        }
        Command::Cut(flags) => {
            with(&flags, async |hosts, host| {
                hosts.lab().connect(host, false).await?;
                done(host, "is cut off; `argosy node heal` connects it again")
            })
            .await
        }
        Command::Heal(flags) => {
            with(&flags, async |hosts, host| {
                hosts.lab().connect(host, true).await?;
                done(host, "is connected")
            })
            .await
        }
        Command::Join(flags) => {
            let (layout, limit) = (flags.data.layout()?, Duration::from_secs(flags.timeout));
            match flags.role {
                Role::Worker => join(&layout, limit).await,
                Role::Master => join_master(&layout, limit).await,
            }
        }
        Command::Remove(flags) => remove(&flags).await,
        Command::Exec(flags) => with(&flags.host, async |hosts, host| exec(hosts, host, &flags.command)).await,
        Command::Logs(flags) => logs(&flags),
    }
}

fn done(host: &Host, what: &str) -> anyhow::Result<()> {
    println!("{} {what}", host.name);
    Ok(())
}

async fn start(hosts: &Hosts<'_>, host: &Host) -> anyhow::Result<()> {
    hosts.lab().set_up_host(host).await?;
    hosts.prepare(host)?;
    hosts.start(host, START_LIMIT, 0).await
}

fn load(layout: &Layout) -> anyhow::Result<Topology> {
    match Topology::load(layout)?.filter(|topology| topology.lab) {
        Some(topology) => Ok(topology),
        None => bail!(
            "no cluster of several hosts in {}: `argosy up --topology` or `argosy up --nodes` makes one",
            layout.root().display()
        ),
    }
}

async fn with(
    flags: &HostFlags,
    work: impl AsyncFnOnce(&Hosts<'_>, &Host) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let layout = flags.data.layout()?;
    let topology = load(&layout)?;
    let host = topology.host(&flags.name)?;
    work(&Hosts { layout: &layout, topology: &topology }, host).await
}

async fn join(layout: &Layout, limit: Duration) -> anyhow::Result<()> {
    let _lock = Lock::take(&layout.hosts_lock_file())?;
    let first = if Topology::load(layout)?.is_none() { beside::first(layout).await? } else { None };
    let mut topology = first.map_or_else(|| load(layout), Ok)?;
    let (host, since) = (topology.add_worker()?, Timestamp::now());
    let hosts = Hosts { layout, topology: &topology };
    // Kept before anything runs: `down` finds it whatever happens next.
    topology.save(layout)?;
    start(&hosts, &host).await?;
    let client = clients::remote(&layout.kubeconfig("admin"), "argosy")?;
    let ready = node::wait_ready(&client, &host.name, Some(since));
    match tokio::time::timeout(limit, ready).await {
        Ok(ready) => ready?,
        Err(_) => bail!("{} is not Ready; see {}", host.name, hosts.host_layout(&host).log_dir().display()),
    }
    done(&host, "has joined and is Ready")
}

async fn join_master(layout: &Layout, limit: Duration) -> anyhow::Result<()> {
    let topology = load(layout)?;
    let _lock = Lock::take(&layout.hosts_lock_file())?;
    let host = masters::join(layout, topology, limit).await?;
    done(&host, "has joined and serves")
}

async fn remove(flags: &HostFlags) -> anyhow::Result<()> {
    let layout = flags.data.layout()?;
    let mut topology = load(&layout)?;
    let _lock = Lock::take(&layout.hosts_lock_file())?;
    let host = topology.host(&flags.name)?.clone();
    if host.master {
        masters::remove(&layout, topology, &host).await?;
        return done(&host, "is removed");
    }
    if host.balancer {
        bail!("{} stays: the layout {} needs it", host.name, topology.shape);
    }
    let hosts = Hosts { layout: &layout, topology: &topology };
    hosts.stop(&host, 5).await?;
    hosts.lab().tear_down_host(&host).await?;
    node::forget(&clients::remote(&layout.kubeconfig("admin"), "argosy")?, &host.name).await?;
    cluster::files::remove(Topology::host_layout(&layout, &host.name).root())?;
    beside::forget(&layout, &mut topology, &host).await?;
    done(&host, "is removed")
}

/// Becomes the command: its exit code and signals are its own.
fn exec(hosts: &Hosts<'_>, host: &Host, command: &[OsString]) -> anyhow::Result<()> {
    if !hosts.lab().exists(host) {
        bail!("{} is off: `argosy node start {}` switches it on", host.name, host.name);
    }
    let Some((program, args)) = command.split_first() else { bail!("no command is named") };
    let (program, args) = hosts.lab().command(host, program.as_ref(), args.to_vec());
    Err(anyhow::Error::new(std::process::Command::new(program).args(args).exec()).context("nsenter"))
}

fn logs(flags: &LogsFlags) -> anyhow::Result<()> {
    let layout = flags.host.data.layout()?;
    let topology = load(&layout)?;
    let host = topology.host(&flags.host.name)?;
    let folder = Topology::host_layout(&layout, &host.name).log_dir();
    let entries = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    files.sort();
    let name = |path: &std::path::Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(component) = &flags.component {
        let names: Vec<String> = files.iter().map(|path| name(path)).collect();
        files.retain(|path| name(path) == *component);
        if files.is_empty() {
            bail!("{} has no log of {component}; it has {}", host.name, names.join(", "));
        }
    }
    for path in files {
        println!("==> {} <==\n{}", path.display(), log_tail(&path, LINES));
    }
    Ok(())
}
