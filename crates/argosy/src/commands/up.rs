//! `argosy up`: starts the cluster in the background and shows how it comes up.

use std::{
    ffi::OsString,
    io,
    net::{IpAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use cluster::{
    layout::{Cidr, Layout, Settings},
    machine,
    supervise::{self, BackgroundSpec, SUPERVISOR, start_background},
    topology::{Shape, Topology},
};

use super::{
    DataFlags,
    topology::{self, beside, up::Wanted},
};
use crate::{clients, components::kubelet_limits::hard_eviction, display, node};

/// A log of an earlier run larger than this is put aside.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// What makes one cluster different from another. Kept in the data folder by the first start.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct SettingsFlags {
    /// Name of the node [default: the host's name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Address of the node [default: the one of the default route]
    #[arg(long, value_name = "ADDRESS")]
    node_ip: Option<IpAddr>,
    /// Socket of a container runtime that runs already, instead of a containerd of the cluster's own
    #[arg(long, value_name = "ENDPOINT")]
    container_runtime_endpoint: Option<String>,
    /// Range of the pods' addresses [default: 10.244.0.0/16]
    #[arg(long, value_name = "CIDR")]
    cluster_cidr: Option<Cidr>,
    /// Range of the Services' addresses [default: 10.96.0.0/16]
    #[arg(long, value_name = "CIDR")]
    service_cluster_ip_range: Option<Cidr>,
    /// Domain of the Services' names [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    cluster_domain: Option<String>,
    /// Port of the API server [default: 6443]
    #[arg(long, value_name = "PORT")]
    secure_port: Option<u16>,
    /// Port of the kubelet [default: 10250]
    #[arg(long, value_name = "PORT")]
    kubelet_port: Option<u16>,
    /// Port of kube-proxy's health check [default: 10256]
    #[arg(long, value_name = "PORT")]
    proxy_healthz_port: Option<u16>,
    /// Port of the controller manager's health check [default: 10257]
    #[arg(long, value_name = "PORT")]
    controller_manager_port: Option<u16>,
    /// Port of the scheduler's health check [default: 10259]
    #[arg(long, value_name = "PORT")]
    scheduler_port: Option<u16>,
    /// What evicts pods, as for the kubelet [default: less than 100Mi of memory, 5% of the disk or of its inodes]
    #[arg(long, value_name = "SIGNAL<AMOUNT,...>")]
    eviction_hard: Option<String>,
    /// Tells a second cluster on this machine from the first, in names of nftables tables and networks
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub struct Flags {
    #[command(flatten)]
    data: DataFlags,
    /// A layout of several hosts, each a network namespace of this machine, with etcd and nginx: single,
    /// single-schedulable, ha or ha-schedulable [default: one process that is everything]
    #[arg(long, value_name = "LAYOUT", conflicts_with_all = SettingsFlags::OF_MACHINE,
        conflicts_with_all = SettingsFlags::OF_CLUSTER)]
    topology: Option<Shape>,
    /// How many workers the layout has [default: 1, or 3 with ha and ha-schedulable]
    #[arg(long, value_name = "COUNT", conflicts_with = "nodes")]
    workers: Option<u8>,
    /// How many nodes the cluster has: this machine, and further ones that are network namespaces of it [default: 1]
    #[arg(long, value_name = "COUNT", conflicts_with = "topology")]
    nodes: Option<u8>,
    #[command(flatten)]
    settings: SettingsFlags,
    /// How long to wait until the nodes are Ready, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    timeout: u64,
    /// How much the cluster logs
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 0)]
    verbosity: u8,
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let begin = Instant::now();
    let layout = flags.data.layout()?;
    let of_hosts = |topology: Topology| topology.lab && topology.shape != Shape::Embedded;
    if flags.topology.is_some() || Topology::load(&layout)?.is_some_and(of_hosts) {
        ensure!(flags.nodes.is_none(), "--nodes is for a cluster of one process; a layout has --workers");
        ensure!(
            flags.settings.are_of_a_layout(),
            "{} holds a layout of several hosts, which takes of a cluster's settings --eviction-hard alone",
            layout.root().display()
        );
        let (shape, workers) = (flags.topology, flags.workers);
        let (timeout, verbosity) = (Duration::from_secs(flags.timeout), flags.verbosity);
        let eviction_hard = flags.settings.eviction_hard;
        if let Some(thresholds) = &eviction_hard {
            hard_eviction(thresholds)?;
        }
        return topology::up::run(&layout, Wanted { shape, workers, eviction_hard, timeout, verbosity }).await;
    }
    ensure!(
        flags.workers.is_none(),
        "--workers is for a layout of several hosts, which --topology names; a cluster of one process has --nodes"
    );
    if let Some(supervisor) = supervise::status(&layout)?.supervisor {
        return already_up(&layout, &flags, supervisor.pid).await;
    }
    let settings = flags.settings.resolve(&layout)?;
    check_machine(&layout, &settings)?;
    let beside = beside::resolve(&layout, &settings, flags.nodes)?;
    settings.save(&layout)?;
    put_log_aside(&layout).context("putting the old log aside")?;
    let limit = Duration::from_secs(flags.timeout);
    let background = start_background(&BackgroundSpec {
        program: std::env::current_exe().context("finding this program")?,
        args: vec![
            OsString::from("background"),
            "--data-dir".into(),
            layout.root().into(),
            format!("--v={}", flags.verbosity).into(),
        ],
        log: layout.log_file(SUPERVISOR),
    })?;
    let shown = display::new();
    background.follow(&*shown, limit).await?;
    beside::up(&layout, &settings, beside, limit, flags.verbosity).await?;
    let what = match beside {
        0 => format!("node {} is", settings.node_name),
        _ => format!("{} nodes are", beside + 1),
    };
    println!("{what} Ready after {:.1} s", begin.elapsed().as_secs_f64());
    tell_how_to_go_on(&layout).await;
    Ok(())
}

/// A second start changes nothing; it waits like the first where that is still under way.
async fn already_up(layout: &Layout, flags: &Flags, pid: u32) -> anyhow::Result<()> {
    let kept = Settings::load(layout)?;
    let Some(settings) = kept else { bail!("process {pid} runs, but {} is gone", layout.settings_file().display()) };
    if flags.settings.resolve(layout)? != settings {
        bail!("the cluster runs with other settings (process {pid}): run `argosy down` first");
    }
    let beside = beside::resolve(layout, &settings, flags.nodes)?;
    let client = clients::remote(&layout.kubeconfig("admin"), "argosy")?;
    let limit = Duration::from_secs(flags.timeout);
    let waited = tokio::time::timeout(limit, node::wait_ready(&client, &settings.node_name, None)).await;
    waited.with_context(|| format!("the node is not Ready; see {}", layout.log_file(SUPERVISOR).display()))??;
    beside::up(layout, &settings, beside, limit, flags.verbosity).await?;
    println!("already up (process {pid}), node {} is Ready", settings.node_name);
    tell_how_to_go_on(layout).await;
    Ok(())
}

pub async fn tell_how_to_go_on(layout: &Layout) {
    /// How long it may take to ask how the nodes are.
    const PRESSURE_LIMIT: Duration = Duration::from_secs(2);
    let kubeconfig = layout.kubeconfig("admin");
    // A word beside what was asked for: where it cannot be said, nothing is lost.
    let full = async { node::under_pressure(&clients::remote(&kubeconfig, "argosy")?).await };
    for (node, pressure) in tokio::time::timeout(PRESSURE_LIMIT, full).await.into_iter().flatten().flatten() {
        println!("\n  No pods are placed on {node}, which has {pressure}: see `kubectl describe node {node}`");
    }
    println!(
        "\n  export KUBECONFIG={}\n  kubectl get nodes\n  kubectl get pods --all-namespaces",
        kubeconfig.display()
    );
}

/// Everything that is in the way, at once and not one after the other.
pub fn check_machine(layout: &Layout, settings: &Settings) -> anyhow::Result<()> {
    let found = machine::check(layout, settings, true);
    if found.is_empty() {
        return Ok(());
    }
    let list: String = found.iter().map(|problem| format!("\n  - {problem}")).collect();
    bail!("this machine cannot carry a cluster yet:{list}")
}

fn put_log_aside(layout: &Layout) -> io::Result<()> {
    let log = layout.log_file(SUPERVISOR);
    match std::fs::metadata(&log) {
        Ok(meta) if meta.len() > LOG_BYTES_MAX => std::fs::rename(&log, log.with_extension("log.1")),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl SettingsFlags {
    /// Of one machine: they make no sense where there are several hosts.
    const OF_MACHINE: [&str; 2] = ["node_name", "node_ip"];

    /// Settled already where a machine joins a cluster, or where there are several hosts.
    pub const OF_CLUSTER: [&str; 10] = [
        "container_runtime_endpoint",
        "cluster_cidr",
        "service_cluster_ip_range",
        "cluster_domain",
        "secure_port",
        "kubelet_port",
        "proxy_healthz_port",
        "controller_manager_port",
        "scheduler_port",
        "instance",
    ];

    /// Whether nothing is said that a layout of several hosts does not take.
    fn are_of_a_layout(&self) -> bool {
        *self == SettingsFlags { eviction_hard: self.eviction_hard.clone(), ..SettingsFlags::default() }
    }

    /// This machine's name and address.
    pub fn machine(&self) -> anyhow::Result<(String, IpAddr)> {
        Ok(machine::name_and_address(self.node_name.clone(), self.node_ip)?)
    }

    /// What an earlier start has kept, else the defaults, with what the flags say.
    pub fn resolve(&self, layout: &Layout) -> anyhow::Result<Settings> {
        let settings = match Settings::load(layout)? {
            Some(kept) => self.change(kept)?,
            None => self.first()?,
        };
        settings.validate()?;
        if let Some(thresholds) = &settings.eviction_hard {
            hard_eviction(thresholds)?;
        }
        Ok(settings)
    }

    fn first(&self) -> anyhow::Result<Settings> {
        let (name, address) = self.machine()?;
        let mut settings = Settings::new(name, address);
        if let Some(range) = self.cluster_cidr {
            settings.cluster_cidr = range;
            settings.pod_cidr = Cidr::new(range.address(), range.prefix().max(24));
        }
        if let Some(range) = self.service_cluster_ip_range {
            settings.service_cidr = range;
            settings.dns_ip = range.nth(10).with_context(|| format!("the range {range} is too small"))?;
        }
        settings.cluster_domain = self.cluster_domain.clone().unwrap_or(settings.cluster_domain);
        settings.instance = self.instance.clone().unwrap_or_default();
        self.set_places(&mut settings);
        Ok(settings)
    }

    /// Where things listen may change from start to start; what objects in the store were made with may not.
    fn change(&self, mut kept: Settings) -> anyhow::Result<Settings> {
        let fixed = [
            ("--node-name", self.node_name.as_ref().is_some_and(|name| *name != kept.node_name)),
            ("--cluster-cidr", self.cluster_cidr.is_some_and(|range| range != kept.cluster_cidr)),
            (
                "--service-cluster-ip-range",
                self.service_cluster_ip_range.is_some_and(|range| range != kept.service_cidr),
            ),
            ("--cluster-domain", self.cluster_domain.as_ref().is_some_and(|domain| *domain != kept.cluster_domain)),
            ("--instance", self.instance.as_ref().is_some_and(|name| *name != kept.instance)),
        ];
        if let Some((flag, _)) = fixed.iter().find(|(_, differs)| *differs) {
            bail!("{flag} cannot change after the first start: `argosy down --purge` makes way for a new cluster");
        }
        match self.node_ip {
            Some(address) => kept.node_ip = address,
            // The machine has moved to another network.
            None if UdpSocket::bind((kept.node_ip, 0)).is_err() => kept.node_ip = machine::node_ip()?,
            None => {}
        }
        self.set_places(&mut kept);
        Ok(kept)
    }

    fn set_places(&self, settings: &mut Settings) {
        let ports = &mut settings.ports;
        for (port, flag) in [
            (&mut ports.apiserver, self.secure_port),
            (&mut ports.kubelet, self.kubelet_port),
            (&mut ports.proxy_health, self.proxy_healthz_port),
            (&mut ports.controller_manager, self.controller_manager_port),
            (&mut ports.scheduler, self.scheduler_port),
        ] {
            *port = flag.unwrap_or(*port);
        }
        if self.container_runtime_endpoint.is_some() {
            settings.runtime_endpoint = self.container_runtime_endpoint.clone();
        }
        if self.eviction_hard.is_some() {
            settings.eviction_hard = self.eviction_hard.clone();
        }
    }
}
