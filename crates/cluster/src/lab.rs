//! Several hosts on one machine: each is a network namespace with an address on a bridge. What runs in one differs from a
//! real host in nothing that it can see of the network.
//!
//! Only the network is apart. Programs are started through `nsenter --net`, since `ip netns exec` would give them another
//! `/sys`, in which containerd finds no cgroups.

use std::{
    ffi::OsString,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    containerd::network::{NetworkError, run},
    layout::Cidr,
    supervise::{self, Process, Signal, SuperviseError},
    topology::{Host, Topology},
};

/// Where iproute2 keeps namespaces by name.
const NAMESPACES: &str = "/run/netns";

/// The networks to choose from: the third part of the address tells clusters of one machine apart.
const NETWORKS: std::ops::RangeInclusive<u8> = 0..=255;

/// What failed about a host of the laboratory.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Process(#[from] SuperviseError),
    #[error("no network of 10.89.0.0/16 is free on this machine")]
    NoNetwork,
}

/// A network that nothing on this machine is in, nor leads to. Its bridge is made at once, which makes it ours: the kernel
/// gives a name to one interface only, whoever else is choosing at the same time.
pub async fn claim_network() -> Result<Cidr, LabError> {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let taken: Vec<Cidr> = routes.lines().skip(1).filter_map(route).collect();
    let namespaces: Vec<String> = names_in(NAMESPACES);
    for number in NETWORKS {
        let (network, bridge) = (Cidr::v4([10, 89, number, 0], 24), bridge(number));
        let prefix = format!("{bridge}-");
        let is_taken = taken.iter().any(|route| route.overlaps(&network))
            || namespaces.iter().any(|name| name.starts_with(&prefix))
            || Path::new("/sys/class/net").join(&bridge).exists();
        if !is_taken && run("ip", &["link", "add", &bridge, "type", "bridge"], "").await.is_ok() {
            return Ok(network);
        }
    }
    Err(LabError::NoNetwork)
}

fn bridge(number: u8) -> String {
    format!("argosy-{number}")
}

/// The destination of a line of `/proc/net/route`; the default route leads everywhere and takes nothing.
fn route(line: &str) -> Option<Cidr> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |field: &str| Some(u32::from_be(u32::from_str_radix(field, 16).ok()?));
    let (address, mask) = (number(fields.get(1)?)?, number(fields.get(7)?)?);
    (mask != 0).then(|| Cidr::new(IpAddr::from(address.to_be_bytes()), mask.leading_ones().try_into().unwrap_or(32)))
}

fn names_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The hosts' network on this machine.
pub struct Lab<'a> {
    topology: &'a Topology,
}

impl<'a> Lab<'a> {
    pub fn new(topology: &'a Topology) -> Lab<'a> {
        Lab { topology }
    }

    fn bridge(&self) -> String {
        bridge(self.topology.number())
    }

    /// The bridge's end of a host's link: `argosy-0-101`. Interface names have at most 15 bytes.
    fn link(&self, host: &Host) -> String {
        let [.., last] = host.address.octets();
        format!("argosy-{}-{last}", self.topology.number())
    }

    fn namespace(&self, host: &Host) -> String {
        format!("argosy-{}", self.topology.tag(host))
    }

    fn namespace_file(&self, host: &Host) -> PathBuf {
        Path::new(NAMESPACES).join(self.namespace(host))
    }

    /// `program` with its arguments, as it is started on a host.
    pub fn command(&self, host: &Host, program: &Path, args: Vec<OsString>) -> (PathBuf, Vec<OsString>) {
        let mut net = OsString::from("--net=");
        net.push(self.namespace_file(host));
        let nsenter = crate::machine::find_program("nsenter").unwrap_or_else(|| "nsenter".into());
        (nsenter, [net, "--".into(), program.into()].into_iter().chain(args).collect())
    }

    /// Makes the bridge and whatever of the hosts' networks is missing; the machine becomes their way out.
    pub async fn set_up(&self) -> Result<(), LabError> {
        let Topology { network, .. } = self.topology;
        let bridge = self.bridge();
        let gateway = network.nth(1).ok_or(LabError::NoNetwork)?;
        if !Path::new("/sys/class/net").join(&bridge).exists() {
            run("ip", &["link", "add", &bridge, "type", "bridge"], "").await?;
        }
        let prefix = network.prefix();
        let batch = format!("addr replace {gateway}/{prefix} dev {bridge}\nlink set {bridge} up\n");
        run("ip", &["-batch", "-"], &batch).await?;
        if fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() != "1") {
            // The hosts reach one another without it; only their way out needs it.
            let _ = fs::write("/proc/sys/net/ipv4/ip_forward", "1");
        }
        let table = format!(
            "add table ip {bridge}\ndelete table ip {bridge}\ntable ip {bridge} {{\n  chain postrouting {{\n    type nat hook \
             postrouting priority srcnat; policy accept;\n    ip saddr {network} ip daddr != {network} masquerade\n  }}\n}}\n"
        );
        run("nft", &["-f", "-"], &table).await?;
        for host in &self.topology.hosts {
            self.set_up_host(host).await?;
        }
        Ok(())
    }

    pub async fn set_up_host(&self, host: &Host) -> Result<(), LabError> {
        if self.namespace_file(host).exists() {
            return self.connect(host, true).await;
        }
        let (namespace, link, bridge) = (self.namespace(host), self.link(host), self.bridge());
        let outside = format!(
            "netns add {namespace}\nlink add {link} type veth peer name eth0 netns {namespace}\n\
             link set {link} master {bridge} up\n"
        );
        run("ip", &["-batch", "-"], &outside).await?;
        let prefix = self.topology.network.prefix();
        let gateway = self.topology.network.nth(1).ok_or(LabError::NoNetwork)?;
        let inside = format!(
            "link set lo up\naddr add {}/{prefix} dev eth0\nlink set eth0 up\nroute add default via {gateway}\n",
            host.address
        );
        Ok(run("ip", &["-netns", &namespace, "-batch", "-"], &inside).await.map(drop)?)
    }

    /// Puts a host on the network or takes it off, as if its cable were pulled: nobody is told.
    pub async fn connect(&self, host: &Host, connected: bool) -> Result<(), LabError> {
        let state = if connected { "up" } else { "down" };
        Ok(run("ip", &["link", "set", &self.link(host), state], "").await.map(drop)?)
    }

    pub fn is_connected(&self, host: &Host) -> bool {
        let flags = fs::read_to_string(format!("/sys/class/net/{}/flags", self.link(host))).unwrap_or_default();
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or_default();
        flags & 1 == 1
    }

    pub fn exists(&self, host: &Host) -> bool {
        self.namespace_file(host).exists()
    }

    /// Ends whatever still runs on a host, at once.
    pub async fn kill_all(&self, host: &Host) -> Result<(), LabError> {
        const GONE: Duration = Duration::from_secs(5);
        let Ok(namespace) = fs::metadata(self.namespace_file(host)) else { return Ok(()) };
        let inode = std::os::unix::fs::MetadataExt::ino(&namespace);
        let processes: Vec<Process> =
            supervise::table().into_iter().map(|(process, ..)| process).filter(|p| is_in(p, inode)).collect();
        for process in &processes {
            process.signal(Signal::KILL)?;
        }
        for process in &processes {
            process.wait_exit(GONE).await?;
        }
        Ok(())
    }

    /// Takes a host's network away, with all that is in it.
    pub async fn tear_down_host(&self, host: &Host) -> Result<(), LabError> {
        self.kill_all(host).await?;
        if self.exists(host) {
            run("ip", &["netns", "delete", &self.namespace(host)], "").await?;
        }
        // The link goes with the namespace, a moment later.
        let link = Path::new("/sys/class/net").join(self.link(host));
        if link.exists() {
            let _ = run("ip", &["link", "delete", &self.link(host)], "").await;
        }
        Ok(())
    }

    pub async fn tear_down(&self) -> Result<(), LabError> {
        for host in &self.topology.hosts {
            self.tear_down_host(host).await?;
        }
        let bridge = self.bridge();
        if Path::new("/sys/class/net").join(&bridge).exists() {
            run("ip", &["link", "delete", &bridge], "").await?;
        }
        run("nft", &["-f", "-"], &format!("add table ip {bridge}\ndelete table ip {bridge}\n")).await?;
        Ok(())
    }
}

fn is_in(process: &Process, namespace: u64) -> bool {
    let link = fs::read_link(format!("/proc/{}/ns/net", process.pid)).unwrap_or_default();
    link.to_string_lossy() == format!("net:[{namespace}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_the_kernel_are_read() {
        let line = |destination: &str, mask: &str| format!("eth0\t{destination}\t0\t0001\t0\t0\t0\t{mask}\t0\t0\t0");
        assert_eq!(route(&line("0000590A", "00FFFFFF")), Some(Cidr::v4([10, 89, 0, 0], 24)));
        assert_eq!(route(&line("0105590A", "FFFFFFFF")), Some(Cidr::v4([10, 89, 5, 1], 32)));
        assert_eq!(route(&line("00000000", "00000000")), None);
        assert_eq!(route("Iface\tDestination"), None);
    }
}
