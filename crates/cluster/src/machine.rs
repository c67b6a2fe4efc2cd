//! What the machine is and whether it can carry a node: its name and address, and checks that each say what to do.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use crate::layout::{Layout, SOCKET_PATH_BYTES_MAX, Settings};

/// Folders where distributions and CNI's own releases put the plugins, in the order they are looked at.
pub const CNI_PLUGIN_DIRS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// Below this a node would be under disk pressure from its first minute.
const FREE_DISK_BYTES_MIN: u64 = 1 << 30;

const PLUGINS: [&str; 4] = ["ptp", "host-local", "portmap", "loopback"];

/// Programs that a node runs, and Debian's package of each.
const PROGRAMS: [(&str, &str); 8] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("runc", "runc"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
];

/// Something that keeps this machine from being a node, and the way out.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error("a node needs root: run it with sudo")]
    NotRoot,
    #[error("{program} is not on PATH: install it, on Debian with `apt-get install {package}` (`make setup` does)")]
    MissingProgram { program: &'static str, package: &'static str },
    #[error(
        "the CNI plugins {} are in none of {}: install them, on Debian with `apt-get install containernetworking-plugins`",
        missing.join(", "), CNI_PLUGIN_DIRS.join(", ")
    )]
    MissingPlugins { missing: Vec<&'static str> },
    #[error("port {port}, which {component} needs, is taken: stop what holds it, or choose another port")]
    PortTaken { component: &'static str, port: u16 },
    #[error("cannot listen on {address} for {component}")]
    CannotListen {
        component: &'static str,
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("{} has {free_mib} MiB free, a node needs {} MiB: free some, or choose another --data-dir", path.display(), FREE_DISK_BYTES_MIN >> 20)]
    DiskFull { path: PathBuf, free_mib: u64 },
    #[error("no cgroups below /sys/fs/cgroup: mount cgroup2 there (`mount -t cgroup2 none /sys/fs/cgroup`)")]
    NoCgroups,
    #[error("cgroup controller {0} is not enabled: enable it on the kernel's command line")]
    NoController(&'static str),
    #[error("the data folder {} must be an absolute path of at most {bytes_max} bytes", path.display())]
    BadDataDir { path: PathBuf, bytes_max: usize },
    #[error("this machine's host name {0:?} is no valid node name: set another, or pass --node-name")]
    BadHostName(String),
    #[error("this machine has no address besides loopback: connect it to a network, or pass --node-ip")]
    NoAddress,
}

/// The node's name: the host name in lower case, as the kubelet takes it (`cmd/kubelet/app`, `GetHostname`).
pub fn node_name() -> Result<String, CheckError> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().trim().to_lowercase();
    if is_dns_subdomain(&name) { Ok(name) } else { Err(CheckError::BadHostName(name)) }
}

fn is_dns_subdomain(name: &str) -> bool {
    let label = |l: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !l.is_empty() && l.chars().all(inner) && !l.starts_with('-') && !l.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The address other machines reach this one by: the one the kernel would send from towards the default route, else the
/// first local one that is not loopback.
pub fn node_ip() -> Result<IpAddr, CheckError> {
    // Connecting a datagram socket sends nothing; it asks the kernel for the route. The target is a documentation address.
    let routed = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|s| s.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).and_then(|()| s.local_addr()))
        .map(|a| a.ip());
    match routed {
        Ok(ip) if !ip.is_loopback() && !ip.is_unspecified() => Ok(ip),
        _ => {
            let trie = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
            local_addresses(&trie).into_iter().next().map(IpAddr::V4).ok_or(CheckError::NoAddress)
        }
    }
}

/// A node's name and address: what is given, else what this machine has.
pub fn name_and_address(name: Option<String>, address: Option<IpAddr>) -> Result<(String, IpAddr), CheckError> {
    Ok((name.map_or_else(node_name, Ok)?, address.map_or_else(node_ip, Ok)?))
}

/// The machine's own addresses in the kernel's routing trie, loopback and link-local left out.
fn local_addresses(fib_trie: &str) -> Vec<Ipv4Addr> {
    let mut found: Vec<Ipv4Addr> = Vec::new();
    let mut last = None;
    for line in fib_trie.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last.take()
            && !address.is_loopback()
            && !address.is_link_local()
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// The first folder on PATH, or of the system's, that holds an executable `name`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|d| d.join(name)).find(|p| is_executable(p))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// The folder of CNI plugins: the first that holds every one a node needs.
pub fn cni_plugin_dir() -> Result<PathBuf, CheckError> {
    let lacking = |dir: &str| -> Vec<&'static str> {
        PLUGINS.into_iter().filter(|p| !is_executable(&Path::new(dir).join(p))).collect()
    };
    let mut fewest: Vec<&'static str> = PLUGINS.to_vec();
    for dir in CNI_PLUGIN_DIRS {
        let missing = lacking(dir);
        if missing.is_empty() {
            return Ok(dir.into());
        }
        if missing.len() < fewest.len() {
            fewest = missing;
        }
    }
    Err(CheckError::MissingPlugins { missing: fewest })
}

/// Everything that keeps this machine from carrying the cluster; empty when nothing does. Ports are looked at only when
/// the cluster is not running already (`ports`).
pub fn check(layout: &Layout, settings: &Settings, ports: bool) -> Vec<CheckError> {
    let mut found = Vec::new();
    if !rustix::process::geteuid().is_root() {
        found.push(CheckError::NotRoot);
    }
    let own_runtime = settings.runtime_endpoint.is_none();
    for (program, package) in PROGRAMS {
        let of_runtime = package == "containerd" || package == "runc";
        if (own_runtime || !of_runtime) && find_program(program).is_none() {
            found.push(CheckError::MissingProgram { program, package });
        }
    }
    if own_runtime {
        found.extend(cni_plugin_dir().err());
    }
    let socket = layout.containerd_socket();
    if !layout.root().is_absolute() || socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        let bytes_max = SOCKET_PATH_BYTES_MAX - "/containerd/containerd.sock".len();
        found.push(CheckError::BadDataDir { path: layout.root().to_owned(), bytes_max });
    }
    found.extend(check_disk(layout.root()));
    found.extend(check_cgroups(Path::new("/sys/fs/cgroup")));
    if ports {
        found.extend(settings.ports.all().into_iter().filter_map(|(c, p)| check_port(c, p)));
    }
    found
}

fn check_disk(path: &Path) -> Option<CheckError> {
    let existing = path.ancestors().find(|p| p.exists())?;
    let stat = rustix::fs::statvfs(existing).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    (free < FREE_DISK_BYTES_MIN).then(|| CheckError::DiskFull { path: existing.to_owned(), free_mib: free >> 20 })
}

/// On v2 the controllers are listed in one file; on v1 each has its own hierarchy.
fn check_cgroups(root: &Path) -> Vec<CheckError> {
    const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];
    let missing = |present: &dyn Fn(&str) -> bool| -> Vec<CheckError> {
        NEEDED.into_iter().filter(|c| !present(c)).map(CheckError::NoController).collect()
    };
    if let Ok(controllers) = fs::read_to_string(root.join("cgroup.controllers")) {
        return missing(&|c| controllers.split_whitespace().any(|x| x == c));
    }
    if root.join("memory/tasks").exists() || root.join("cpu/tasks").exists() {
        return missing(&|c| root.join(c).join("tasks").exists());
    }
    vec![CheckError::NoCgroups]
}

/// Whether a component can listen on a port; `None` where it can.
pub fn check_port(component: &'static str, port: u16) -> Option<CheckError> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    match TcpListener::bind(address) {
        Ok(_) => None,
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Some(CheckError::PortTaken { component, port }),
        Err(source) => Some(CheckError::CannotListen { component, address, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_come_from_the_routing_trie() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 127.0.0.1\n        \
                    /32 host LOCAL\n     |-- 192.168.7.0\n        /24 link UNICAST\n     |-- 192.168.7.4\n        \
                    /32 host LOCAL\n     |-- 192.168.7.255\n        /32 link BROADCAST\n";
        assert_eq!(local_addresses(trie), [Ipv4Addr::new(192, 168, 7, 4)]);
        assert!(local_addresses("").is_empty());
    }

    #[test]
    fn node_names_are_dns_subdomains() {
        for (name, valid) in [("vm", true), ("a-1.b", true), ("A", false), ("-a", false), ("a..b", false), ("", false)]
        {
            assert_eq!(is_dns_subdomain(name), valid, "{name}");
        }
    }

    #[test]
    fn a_taken_port_names_its_component() {
        let held = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
        let port = held.local_addr().expect("an address").port();
        assert!(
            matches!(check_port("kubelet", port), Some(CheckError::PortTaken { component: "kubelet", port: p }) if p == port)
        );
        drop(held);
        assert!(check_port("kubelet", port).is_none());
    }

    #[test]
    fn cgroups_are_found_in_both_versions() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        assert!(matches!(check_cgroups(root)[..], [CheckError::NoCgroups]));
        fs::write(root.join("cgroup.controllers"), "cpuset cpu io memory\n").expect("written");
        assert!(matches!(check_cgroups(root)[..], [CheckError::NoController("pids")]));
        fs::remove_file(root.join("cgroup.controllers")).expect("removed");
        for controller in ["cpu", "memory", "pids"] {
            fs::create_dir(root.join(controller)).expect("made");
            fs::write(root.join(controller).join("tasks"), "").expect("written");
        }
        assert!(check_cgroups(root).is_empty());
    }
}
