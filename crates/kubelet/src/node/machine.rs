//! What this machine is: capacity, system information and addresses from /proc, uname and the routing table.

use std::{collections::BTreeMap, fs, net::UdpSocket};

use client::{
    apimachinery::pkg::api::resource::Quantity,
    kinds::core::v1::{NodeSwapStatus, NodeSystemInfo},
};
use volumes::resources::amount;

/// Upstream's version that this kubelet behaves as.
pub const VERSION: &str = "v1.36.0";

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    pub cpus: i64,
    pub memory_bytes: i64,
    pub swap_bytes: i64,
    /// Of the file system that holds the kubelet's root.
    pub disk_bytes: i64,
    pub huge_pages: BTreeMap<String, i64>,
    pub info: NodeSystemInfo,
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// A line of /proc/meminfo in bytes.
pub fn meminfo(text: &str, name: &str) -> i64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<i64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

fn os_image() -> String {
    let text = read("/etc/os-release");
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map(|name| name.trim_matches('"').to_owned()).unwrap_or_else(|| "Linux".into())
}

/// Go's name of this architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

impl Machine {
    /// `runtime`: the container runtime's name and version; `root`: the kubelet's directory.
    pub fn read(runtime: &str, root: &std::path::Path) -> Machine {
        let memory = read("/proc/meminfo");
        let uname = rustix::system::uname();
        let disk = rustix::fs::statvfs(root).map(|fs| fs.f_blocks.saturating_mul(fs.f_frsize)).unwrap_or(0);
        let swap = meminfo(&memory, "SwapTotal");
        let machine_id = read("/etc/machine-id");
        let uuid = read("/sys/class/dmi/id/product_uuid");
        Machine {
            cpus: std::thread::available_parallelism().map_or(1, |n| i64::try_from(n.get()).unwrap_or(1)),
            memory_bytes: meminfo(&memory, "MemTotal"),
            swap_bytes: swap,
            disk_bytes: i64::try_from(disk).unwrap_or(i64::MAX),
            huge_pages: huge_pages(),
            info: NodeSystemInfo {
                architecture: architecture().into(),
                boot_id: read("/proc/sys/kernel/random/boot_id"),
                container_runtime_version: runtime.into(),
                kernel_version: uname.release().to_string_lossy().into_owned(),
                kube_proxy_version: String::new(),
                kubelet_version: VERSION.into(),
                system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
                machine_id,
                operating_system: "linux".into(),
                os_image: os_image(),
                swap: (swap > 0).then_some(NodeSwapStatus { capacity: Some(swap) }),
            },
        }
    }

    /// The node's capacity as the API shows it.
    pub fn capacity(&self, max_pods: u32) -> BTreeMap<String, Quantity> {
        let mut capacity = BTreeMap::from([
            ("cpu".to_owned(), Quantity(self.cpus.to_string())),
            ("memory".to_owned(), Quantity(format!("{}Ki", self.memory_bytes / 1024))),
            ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", self.disk_bytes / 1024))),
            ("pods".to_owned(), Quantity(max_pods.to_string())),
        ]);
        for (size, bytes) in &self.huge_pages {
            capacity.insert(format!("hugepages-{size}"), Quantity(bytes.to_string()));
        }
        capacity
    }
}

/// Bytes of preallocated huge pages by size (`2Mi`, `1Gi`).
fn huge_pages() -> BTreeMap<String, i64> {
    let Ok(entries) = fs::read_dir("/sys/kernel/mm/hugepages") else { return BTreeMap::new() };
    let sizes = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        let kib: i64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count: i64 = read(&entry.path().join("nr_hugepages").to_string_lossy()).parse().unwrap_or(0);
        let size = match kib {
            kib if kib % (1 << 20) == 0 => format!("{}Gi", kib >> 20),
            kib if kib % (1 << 10) == 0 => format!("{}Mi", kib >> 10),
            kib => format!("{kib}Ki"),
        };
        Some((size, count.saturating_mul(kib).saturating_mul(1024)))
    });
    sizes.collect()
}

/// Capacity less what is reserved for the system, never below zero. CPU in thousandths, everything else as the capacity is
/// written.
pub fn allocatable(
    capacity: &BTreeMap<String, Quantity>,
    reserved: &BTreeMap<String, Quantity>,
) -> BTreeMap<String, Quantity> {
    let mut allocatable = capacity.clone();
    for (name, less) in reserved {
        let Some(have) = allocatable.get_mut(name) else { continue };
        let (total, less) = (amount(have), amount(less));
        *have = match name.as_str() {
            "cpu" => Quantity(format!("{}m", (total.milli_value() - less.milli_value()).max(0))),
            _ => {
                let left = (total.value() - less.value()).max(0);
                Quantity(api::quantity::Quantity::new(left, total.format()).to_string())
            }
        };
    }
    allocatable
}

/// Whether the kernel confines processes with AppArmor.
pub fn has_apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// The address that packets to the outside leave from: upstream's choice where no `--node-ip` is given.
pub fn default_address() -> Option<String> {
    // Connecting a datagram socket sends nothing; it only asks the routing table.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then(|| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_meminfo_and_subtracts_what_is_reserved() {
        assert_eq!(meminfo("MemTotal:       2048 kB\nMemFree: 1 kB\n", "MemTotal"), 2 << 20);
        let list = |cpu: &str, memory: &str| {
            BTreeMap::from([("cpu".to_owned(), Quantity(cpu.into())), ("memory".to_owned(), Quantity(memory.into()))])
        };
        let left = allocatable(&list("2", "1Gi"), &list("500m", "2Gi"));
        assert_eq!(left["cpu"].0, "1500m");
        assert_eq!(left["memory"].0, "0");
    }
}
