//! The layouts of a cluster of several machines: which hosts there are, where they are, and what runs on each.
//!
//! | name | etcd | masters | workers |
//! |---|---|---|---|
//! | `single` | 1 | 1 | 1 |
//! | `single-schedulable` | 1 | 1, also a node | 1 |
//! | `ha` | 3 | 3, behind nginx | 3 |
//! | `ha-schedulable` | 3 | 3, also nodes, behind nginx | 3 |
//!
//! etcd's members run beside the API servers; nginx has a host of its own. `embedded` is the one process that is everything,
//! on the machine itself, with workers beside it.

mod host;
mod unit_file;

use std::{fmt, net::Ipv4Addr, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

pub use host::{Program, Unit, containerd_unit, files, units, write};
pub use unit_file::unit_file;

use crate::{
    files::{self as file, FileError},
    layout::{Cidr, Layout, Settings, SettingsError},
    pki::{Identity, Roles, San},
};

pub const ETCD_CLIENTS: u16 = 2379;
pub const ETCD_PEERS: u16 = 2380;

/// More workers would not fit below the network's last addresses.
pub const WORKERS_MAX: u8 = 99;

/// etcd asks each of its members before it writes: more than these make it slower, and hardly safer.
pub const MASTERS_MAX: u8 = 9;

/// The layout's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    Single,
    SingleSchedulable,
    Ha,
    HaSchedulable,
    Embedded,
}

impl Shape {
    /// Those of several machines.
    pub const ALL: [Shape; 4] = [Shape::Single, Shape::SingleSchedulable, Shape::Ha, Shape::HaSchedulable];

    pub fn name(self) -> &'static str {
        match self {
            Shape::Single => "single",
            Shape::SingleSchedulable => "single-schedulable",
            Shape::Ha => "ha",
            Shape::HaSchedulable => "ha-schedulable",
            Shape::Embedded => "embedded",
        }
    }

    fn masters(self) -> u8 {
        match self {
            Shape::Single | Shape::SingleSchedulable => 1,
            Shape::Ha | Shape::HaSchedulable => 3,
            Shape::Embedded => 0,
        }
    }

    /// Masters are nodes too.
    fn is_schedulable(self) -> bool {
        matches!(self, Shape::SingleSchedulable | Shape::HaSchedulable)
    }

    /// With nginx in front of them.
    pub fn has_several_masters(self) -> bool {
        self.masters() > 1
    }

    fn default_workers(self) -> u8 {
        if self.has_several_masters() { 3 } else { 1 }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Shape, String> {
        let found = Shape::ALL.into_iter().find(|shape| shape.name() == text);
        found.ok_or_else(|| format!("no such layout; there are {}", Shape::ALL.map(Shape::name).join(", ")))
    }
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Host {
    /// Also the node's name.
    pub name: String,
    pub address: Ipv4Addr,
    /// nginx in front of the API servers.
    #[serde(default)]
    pub balancer: bool,
    /// A member of etcd, an API server, a controller manager and a scheduler.
    #[serde(default)]
    pub master: bool,
    /// containerd, kubelet, kube-proxy and the pod network.
    #[serde(default)]
    pub node: bool,
    /// A master whose etcd member was added to a cluster that ran already.
    #[serde(default, skip_serializing_if = "is_false")]
    pub joined: bool,
    /// A master that is about to join or to go: nginx and the other API servers do without it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub apart: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Host {
    fn new(name: impl Into<String>, address: Ipv4Addr) -> Host {
        let (balancer, master, node, joined, apart) = (false, false, false, false, false);
        Host { name: name.into(), address, balancer, master, node, joined, apart }
    }

    /// Where etcd's clients reach the member of this master.
    pub fn etcd_clients(&self) -> String {
        format!("https://{}:{ETCD_CLIENTS}", self.address)
    }

    /// Where the other members reach it. It is what a member is known by before it has been started.
    pub fn etcd_peers(&self) -> String {
        format!("https://{}:{ETCD_PEERS}", self.address)
    }

    /// A master that joins a running cluster, and is no node.
    pub fn joining(name: &str, address: Ipv4Addr) -> Host {
        Host { master: true, joined: true, ..Host::new(name, address) }
    }

    /// The master whose member is at a peer URL of etcd; `None` where no layout has made it.
    fn of_peer_url(name: &str, url: &str) -> Option<Host> {
        let address = url.strip_prefix("https://")?.strip_suffix(&format!(":{ETCD_PEERS}"))?.parse().ok()?;
        Some(Host { master: true, ..Host::new(name, address) })
    }
}

/// All machines of a cluster. Kept in its data folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topology {
    pub shape: Shape,
    pub hosts: Vec<Host>,
    /// The hosts are network namespaces of one machine, whose cgroups they share.
    #[serde(default)]
    pub lab: bool,
    /// The network that the hosts are on; of machines of their own, the one that the first is on.
    pub network: Cidr,
    pub cluster_cidr: Cidr,
    pub service_cidr: Cidr,
    pub dns_ip: Ipv4Addr,
    pub cluster_domain: String,
    /// What evicts pods, as the kubelet's `--eviction-hard` spells it; without it, thresholds that suit one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eviction_hard: Option<String>,
    /// Where the API is, where none of the hosts serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<String>,
}

/// Why a topology cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("{} does not hold a valid topology; restore it, or start anew after `argosy down --purge`", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("there is no host {name}; there are {hosts}")]
    NoHost { name: String, hosts: String },
    #[error("at most {WORKERS_MAX} workers are possible")]
    TooManyWorkers,
    #[error("the cluster's addresses are like {0}: further nodes on this machine need IPv4")]
    NotIpv4(std::net::IpAddr),
    #[error("at most {MASTERS_MAX} masters are possible")]
    TooManyMasters,
    #[error("the layout {0} has one master, and nothing in front of it that would spread requests over several: {ha} has", ha = Shape::Ha)]
    OneMaster(Shape),
    #[error(
        "etcd's member {name} is at {url}, which is no https://ADDRESS:2380: such a cluster gets its masters by hand, see \
         `argosy store member add`"
    )]
    Stranger { name: String, url: String },
    #[error(
        "etcd has a member at {0} that was never started: start it, or take it out with `argosy store member remove {0}`, \
         then join again"
    )]
    NeverStarted(String),
    #[error("{0} are new masters: etcd takes one after the other; deploy and start one of them first")]
    SeveralNew(String),
    #[error("the layout {shape} needs {wanted}")]
    Machines { shape: Shape, wanted: &'static str },
    #[error("{first} and {second} have the same name or address")]
    Twice { first: String, second: String },
    #[error("the address of {name} lies in {range}, where the cluster's pods or Services are")]
    Inside { name: String, range: Cidr },
}

impl Topology {
    /// Upstream's usual ranges.
    fn without_hosts(shape: Shape, network: Cidr, lab: bool) -> Topology {
        let usual = Settings::new("", Ipv4Addr::UNSPECIFIED.into());
        Topology {
            shape,
            hosts: Vec::new(),
            lab,
            network,
            cluster_cidr: usual.cluster_cidr,
            service_cidr: usual.service_cidr,
            dns_ip: Ipv4Addr::new(10, 96, 0, 10),
            cluster_domain: usual.cluster_domain,
            eviction_hard: None,
            api_server: None,
        }
    }

    /// Further nodes for the one process that `settings` are of.
    pub fn beside(settings: &Settings, workers: u8, network: Cidr) -> Result<Topology, TopologyError> {
        let std::net::IpAddr::V4(dns_ip) = settings.dns_ip else { return Err(TopologyError::NotIpv4(settings.dns_ip)) };
        let topology = Topology {
            cluster_cidr: settings.cluster_cidr,
            service_cidr: settings.service_cidr,
            dns_ip,
            cluster_domain: settings.cluster_domain.clone(),
            eviction_hard: settings.eviction_hard.clone(),
            api_server: Some(settings.api_server()),
            ..Topology::new(Shape::Embedded, Some(0), network)?
        };
        (0..workers).try_fold(topology, |mut topology, _| topology.add_worker().map(|_| topology))
    }

    /// A layout of machines that there are, by name and address. With what was deployed before, masters that it does not
    /// know join the cluster that the others make.
    pub fn of_machines(
        shape: Shape,
        balancer: Option<(String, Ipv4Addr)>,
        masters: Vec<(String, Ipv4Addr)>,
        workers: Vec<(String, Ipv4Addr)>,
        before: Option<&Topology>,
    ) -> Result<Topology, TopologyError> {
        let several = shape.has_several_masters();
        let enough = match (several, before) {
            (false, _) => masters.len() == 1,
            (true, None) => masters.len() >= 3 && masters.len() % 2 == 1,
            // While masters are exchanged or added, one after the other.
            (true, Some(_)) => !masters.is_empty(),
        };
        if !enough || balancer.is_some() != several {
            let wanted = if several { "three masters or five, and a balancer" } else { "one master and no balancer" };
            return Err(TopologyError::Machines { shape, wanted });
        }
        let network = before.map_or_else(|| Cidr::new(masters[0].1.into(), 24), |before| before.network);
        let known = |name: &str| before.and_then(|before| before.masters().find(|host| host.name == name));
        let master = |(name, address): (String, Ipv4Addr)| {
            let joined = known(&name).map_or(before.is_some(), |host| host.joined);
            Host { master: true, node: shape.is_schedulable(), joined, ..Host::new(name, address) }
        };
        let hosts = (balancer.into_iter().map(|(name, address)| Host { balancer: true, ..Host::new(name, address) }))
            .chain(masters.into_iter().map(master))
            .chain(workers.into_iter().map(|(name, address)| Host { node: true, ..Host::new(name, address) }));
        let topology = Topology { hosts: hosts.collect(), ..Topology::without_hosts(shape, network, false) };
        let new: Vec<&str> =
            topology.masters().map(|host| host.name.as_str()).filter(|name| known(name).is_none()).collect();
        if before.is_some() && new.len() > 1 {
            return Err(TopologyError::SeveralNew(new.join(" and ")));
        }
        for (at, host) in topology.hosts.iter().enumerate() {
            let same = |other: &&Host| other.name == host.name || other.address == host.address;
            if let Some(other) = topology.hosts[..at].iter().find(same) {
                return Err(TopologyError::Twice { first: other.name.clone(), second: host.name.clone() });
            }
            let ranges = [topology.cluster_cidr, topology.service_cidr];
            if let Some(range) = ranges.into_iter().find(|range| range.contains(host.address.into())) {
                return Err(TopologyError::Inside { name: host.name.clone(), range });
            }
        }
        Ok(topology)
    }

    /// A layout on the /24 `network` of one machine; `workers` where the usual number does not do.
    pub fn new(shape: Shape, workers: Option<u8>, network: Cidr) -> Result<Topology, TopologyError> {
        let mut topology = Topology::without_hosts(shape, network, true);
        let host = |name: &str, address, balancer, master, node| {
            let address = topology.place(address)?;
            Some(Host { balancer, master, node, ..Host::new(name, address) })
        };
        let balancer = shape.has_several_masters().then(|| host("balancer", 10, true, false, false));
        let masters = (1..=shape.masters())
            .map(|number| host(&format!("master-{number}"), 10 + number, false, true, shape.is_schedulable()));
        let workers = workers.unwrap_or(shape.default_workers());
        if workers > WORKERS_MAX {
            return Err(TopologyError::TooManyWorkers);
        }
        let workers = (1..=workers).map(|number| host(&format!("worker-{number}"), 100 + number, false, false, true));
        topology.hosts = balancer.into_iter().chain(masters).chain(workers).flatten().collect();
        Ok(topology)
    }

    fn place(&self, last: u8) -> Option<Ipv4Addr> {
        match self.network.nth(last.into())? {
            std::net::IpAddr::V4(address) => Some(address),
            std::net::IpAddr::V6(_) => None,
        }
    }

    /// Adds another worker, which gets the lowest number that is free.
    pub fn add_worker(&mut self) -> Result<Host, TopologyError> {
        let taken = |name: &str| self.hosts.iter().any(|host| host.name == name);
        let number = (1..=WORKERS_MAX).find(|number| !taken(&format!("worker-{number}")));
        let place = number.and_then(|number| Some((number, self.place(100 + number)?)));
        let (number, address) = place.ok_or(TopologyError::TooManyWorkers)?;
        let host = Host { node: true, ..Host::new(format!("worker-{number}"), address) };
        self.hosts.push(host.clone());
        Ok(host)
    }

    /// Adds another master, which gets the lowest number that is free, and is still apart.
    pub fn add_master(&mut self) -> Result<Host, TopologyError> {
        if !self.shape.has_several_masters() {
            return Err(TopologyError::OneMaster(self.shape));
        }
        let taken = |name: &str| self.hosts.iter().any(|host| host.name == name);
        let number = (1..=MASTERS_MAX).find(|number| !taken(&format!("master-{number}")));
        let place = number.and_then(|number| Some((number, self.place(10 + number)?)));
        let (number, address) = place.ok_or(TopologyError::TooManyMasters)?;
        let (name, node) = (format!("master-{number}"), self.shape.is_schedulable());
        let host = Host { master: true, node, joined: true, apart: true, ..Host::new(name, address) };
        // Masters are shown together.
        let behind = self.hosts.iter().rposition(|host| host.master).map_or(self.hosts.len(), |last| last + 1);
        self.hosts.insert(behind, host.clone());
        Ok(host)
    }

    /// The same cluster with those masters that etcd's members are, given by name and peer URL, and `host`, which joins
    /// them: etcd starts a new member only if it is told exactly who the others are.
    pub fn joined_by(&self, host: &Host, members: &[(String, String)]) -> Result<Topology, TopologyError> {
        let mut hosts: Vec<Host> = self.hosts.iter().filter(|other| !other.master).cloned().collect();
        for (name, url) in members.iter().filter(|(_, url)| *url != host.etcd_peers()) {
            if name.is_empty() {
                return Err(TopologyError::NeverStarted(url.clone()));
            }
            let stranger = || TopologyError::Stranger { name: name.clone(), url: url.clone() };
            hosts.push(Host::of_peer_url(name, url).ok_or_else(stranger)?);
        }
        let same = |other: &&Host| {
            other.name == host.name && !other.node || other.address == host.address && (other.master || other.balancer)
        };
        if let Some(other) = hosts.iter().find(same) {
            return Err(TopologyError::Twice { first: other.name.clone(), second: host.name.clone() });
        }
        hosts.push(host.clone());
        Ok(Topology { hosts, lab: false, ..self.clone() })
    }

    pub fn masters(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.master)
    }

    /// The masters that nginx and the API servers count on.
    pub fn serving(&self) -> impl Iterator<Item = &Host> {
        self.masters().filter(|host| !host.apart)
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.node)
    }

    pub fn host(&self, name: &str) -> Result<&Host, TopologyError> {
        self.hosts.iter().find(|host| host.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.hosts.iter().map(|host| host.name.as_str()).collect();
            TopologyError::NoHost { name: name.to_owned(), hosts: names.join(", ") }
        })
    }

    /// Where the API is for whoever is not a master: nginx, or the only API server.
    pub fn api_address(&self) -> Ipv4Addr {
        let balancer = self.hosts.iter().find(|host| host.balancer);
        balancer.or_else(|| self.masters().next()).map_or(Ipv4Addr::LOCALHOST, |host| host.address)
    }

    pub fn api_server(&self) -> String {
        if let Some(server) = &self.api_server {
            return server.clone();
        }
        format!("https://{}:{}", self.api_address(), crate::layout::Ports::default().apiserver)
    }

    /// Tells a host of this cluster from one of another cluster on the machine, such as `0-worker-1` on 10.89.0.0/24.
    pub fn tag(&self, host: &Host) -> String {
        format!("{}-{}", self.number(), host.name)
    }

    /// The third part of the network's address.
    pub fn number(&self) -> u8 {
        match self.network.address() {
            std::net::IpAddr::V4(address) => address.octets()[2],
            std::net::IpAddr::V6(_) => 0,
        }
    }

    /// What the tools for one machine need to know of a host.
    pub fn settings(&self, host: &Host) -> Settings {
        Settings {
            cluster_cidr: self.cluster_cidr,
            // Its own part is what the controllers give it.
            pod_cidr: self.cluster_cidr,
            service_cidr: self.service_cidr,
            dns_ip: self.dns_ip.into(),
            cluster_domain: self.cluster_domain.clone(),
            instance: if self.lab { self.tag(host) } else { String::new() },
            ..Settings::new(host.name.clone(), host.address.into())
        }
    }

    /// Who a host is in its certificates.
    pub fn identity(&self, host: &Host) -> Result<Identity, TopologyError> {
        Ok(Identity {
            roles: Roles { control_plane: host.master, asks_etcd: host.master, etcd: host.master, node: host.node },
            node_name: host.name.clone(),
            node_ips: vec![host.address.into()],
            kubernetes_service_ip: self.settings(host).kubernetes_service_ip()?,
            cluster_domain: self.cluster_domain.clone(),
            apiserver_sans: vec![San::Ip(self.api_address().into())],
        })
    }

    /// The data folder of one host below the cluster's.
    pub fn host_layout(layout: &Layout, host: &str) -> Layout {
        Layout::new(layout.root().join("hosts").join(host))
    }

    /// The topology in a data folder; `None` where there is none.
    pub fn load(layout: &Layout) -> Result<Option<Topology>, TopologyError> {
        let path = layout.topology_file();
        let Some(bytes) = file::read_optional(&path)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| TopologyError::Parse { path, source })
    }

    pub fn save(&self, layout: &Layout) -> Result<(), TopologyError> {
        let path = layout.topology_file();
        let text = serde_json::to_vec_pretty(self);
        let mut text = text.map_err(|source| TopologyError::Parse { path: path.clone(), source })?;
        text.push(b'\n');
        file::make_dir(layout.root())?;
        Ok(file::write_if_changed(&path, &text, 0o644).map(drop)?)
    }
}
