//! Takes a cluster's containers off the machine: in order through the runtime while it answers, and then whatever is
//! still there, as a plan of what was observed.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};

use super::network::{self, NetworkError};
use super::{Cri, stop};
use crate::files::{self, FileError};
use crate::layout::{Cidr, Layout, Settings};
use crate::progress::{self, Progress};
use crate::supervise::{self, Process, Signal, SuperviseError};

const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// The cgroup of all pods below the cluster's cgroup root.
const PODS_CGROUP: &str = "kubepods";

/// What of a cluster could not be taken away.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Process(#[from] SuperviseError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("cannot unmount {}; see what holds it with `fuser -vm {}`", path.display(), path.display())]
    Unmount {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What is left of a cluster on the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// containerd, its shims, and everything that runs below them.
    pub processes: Vec<Process>,
    /// Mount points below the data folder, in the order they were mounted.
    pub mounts: Vec<PathBuf>,
    /// The host's ends of pod links.
    pub links: Vec<String>,
    /// cgroups of pods, parents before children.
    pub cgroups: Vec<PathBuf>,
}

/// One thing to take away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CleanupStep {
    Kill(Process),
    Unmount(PathBuf),
    DeleteLink(String),
    /// Removes the cgroup if it is empty: on a machine with two clusters the other's pods are there too.
    RemoveCgroup(PathBuf),
}

/// The steps in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanupPlan(pub Vec<CleanupStep>);

impl fmt::Display for CleanupStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CleanupStep::Kill(process) => write!(f, "kill {}", process.pid),
            CleanupStep::Unmount(path) => write!(f, "unmount {}", path.display()),
            CleanupStep::DeleteLink(name) => write!(f, "delete link {name}"),
            CleanupStep::RemoveCgroup(path) => write!(f, "remove cgroup {}", path.display()),
        }
    }
}

impl fmt::Display for CleanupPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl CleanupPlan {
    /// Processes first, since they hold mounts; the last mount first, since it may lie on an earlier one.
    pub fn new(observed: &Observed) -> CleanupPlan {
        let kills = observed.processes.iter().cloned().map(CleanupStep::Kill);
        let mounts = observed.mounts.iter().rev().cloned().map(CleanupStep::Unmount);
        let links = observed.links.iter().cloned().map(CleanupStep::DeleteLink);
        let cgroups = observed.cgroups.iter().rev().cloned().map(CleanupStep::RemoveCgroup);
        CleanupPlan(kills.chain(mounts).chain(links).chain(cgroups).collect())
    }
}

impl Observed {
    /// Looks at the machine.
    pub fn now(layout: &Layout, settings: &Settings) -> Observed {
        let table = supervise::table();
        let rows: Vec<(u32, u32, &[String])> = table.iter().map(|(p, parent, a)| (p.pid, *parent, &a[..])).collect();
        let ours = processes_of(&rows, layout);
        let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
        Observed {
            processes: table.iter().filter(|(p, ..)| ours.contains(&p.pid)).map(|(p, ..)| p.clone()).collect(),
            mounts: mounts_below(&mountinfo(), layout.root()),
            links: pod_links(&routes, settings.pod_cidr),
            cgroups: pod_cgroups(Path::new(CGROUP_ROOT), &settings.cgroup_root()),
        }
    }
}

/// The pids of this cluster's containerd and shims, told by their arguments, and of all their descendants. Rows are pid,
/// parent's pid and arguments.
fn processes_of(rows: &[(u32, u32, &[String])], layout: &Layout) -> HashSet<u32> {
    let config = layout.containerd_config().to_string_lossy().into_owned();
    let socket = layout.containerd_socket().to_string_lossy().into_owned();
    let is_root = |args: &[String]| {
        let program = args.first().and_then(|a| a.rsplit('/').next()).unwrap_or_default();
        let has = |wanted: &str| args.iter().any(|a| a == wanted);
        program == "containerd" && has(&config) || program.starts_with("containerd-shim") && has(&socket)
    };
    let mut found: HashSet<u32> = rows.iter().filter(|(.., args)| is_root(args)).map(|(pid, ..)| *pid).collect();
    loop {
        let more: Vec<u32> = rows
            .iter()
            .filter(|(pid, parent, _)| found.contains(parent) && !found.contains(pid))
            .map(|r| r.0)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// Bytes, as one mount point with a name that is not UTF-8 must not hide all others.
pub(super) fn mountinfo() -> Vec<u8> {
    fs::read("/proc/self/mountinfo").unwrap_or_default()
}

/// The mount points at or below `root`, in the order of `/proc/self/mountinfo`, which is the order of mounting.
pub(super) fn mounts_below(mountinfo: &[u8], root: &Path) -> Vec<PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(unescape);
    // The folder itself may be a mount of its owner's.
    points.filter(|p| p != root && p.starts_with(root)).collect()
}

/// The kernel writes blank, tab, newline and backslash as a backslash and three octal digits.
fn unescape(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let octal = bytes.get(i + 1..i + 4).filter(|_| bytes[i] == b'\\');
        let value = octal.and_then(|o| u8::from_str_radix(std::str::from_utf8(o).ok()?, 8).ok());
        out.push(value.unwrap_or(bytes[i]));
        i += if value.is_some() { 4 } else { 1 };
    }
    std::ffi::OsString::from_vec(out).into()
}

/// The interfaces that lead to single addresses of `pods`, as the ptp plugin routes them.
fn pod_links(routes: &str, pods: Cidr) -> Vec<String> {
    let mut links = Vec::new();
    for line in routes.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [name, destination, .., mask, _, _, _] = fields[..] else {
            continue;
        };
        let address = u32::from_str_radix(destination, 16).map(|d| Ipv4Addr::from(u32::from_be(d)));
        let of_pods = address.is_ok_and(|a| pods.contains(IpAddr::V4(a)));
        if name.starts_with("veth") && mask == "FFFFFFFF" && of_pods && !links.iter().any(|l| l == name) {
            links.push(name.to_owned());
        }
    }
    links
}

/// The pods' cgroups: one tree on v2, one per hierarchy on v1. An instance's own root goes with them.
fn pod_cgroups(root: &Path, cgroup_root: &str) -> Vec<PathBuf> {
    let top = match cgroup_root.trim_matches('/') {
        "" => PODS_CGROUP,
        own => own,
    };
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path().join(top));
    let mut found: Vec<PathBuf> = std::iter::once(root.join(top)).chain(hierarchies).filter(|p| p.is_dir()).collect();
    let mut next = 0;
    while next < found.len() {
        let children = fs::read_dir(&found[next]).into_iter().flatten().flatten();
        found.extend(children.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        next += 1;
    }
    found
}

/// Stops every pod (each container has `grace` to end by itself), containerd, and takes away what they leave: processes,
/// mounts, network namespaces, links, cgroups, nftables and port mapping rules, address leases. Data stays.
///
/// With a runtime of somebody else's only the network rules go: which of its containers are ours is not known here.
pub async fn take_down(
    layout: &Layout,
    settings: &Settings,
    grace: Duration,
    progress: &dyn Progress,
) -> Result<(), CleanupError> {
    if settings.runtime_endpoint.is_none() {
        let running = supervise::status(layout)?.containerd.is_some();
        if running {
            let work = async {
                remove_pods(layout, grace).await;
                Ok::<(), CleanupError>(())
            };
            progress::step(progress, "stop pods", work).await?;
        }
        progress::step(progress, "stop containerd", stop(layout)).await?;
        progress::step(progress, "clean up the machine", clean_up(layout, settings)).await?;
    }
    Ok(network::tear_down(settings).await?)
}

/// The orderly way, as far as it goes: what is left is cleaned up after it.
async fn remove_pods(layout: &Layout, grace: Duration) {
    let limit = grace + Duration::from_secs(15);
    let orderly = async {
        let cri = Cri::connect(&layout.containerd_socket()).await?;
        let mut removals = tokio::task::JoinSet::new();
        for id in cri.sandboxes().await? {
            let cri = cri.clone();
            removals.spawn(async move { cri.remove_sandbox(&id, grace).await });
        }
        while let Some(done) = removals.join_next().await {
            if let Ok(Err(error)) = done {
                tracing::warn!(error = progress::chain(&error), "a pod was not removed in order");
            }
        }
        Ok::<(), super::CriError>(())
    };
    match tokio::time::timeout(limit, orderly).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = progress::chain(&error), "pods were not stopped in order"),
        Err(_) => tracing::warn!(limit_s = limit.as_secs(), "pods did not stop in time"),
    }
}

async fn clean_up(layout: &Layout, settings: &Settings) -> Result<(), CleanupError> {
    let plan = CleanupPlan::new(&Observed::now(layout, settings));
    let sockets = shim_sockets(layout);
    act(&plan).await?;
    for socket in &sockets {
        files::remove(socket)?;
    }
    for leftover in [layout.containerd_state(), layout.runc_root(), layout.cni_ipam_dir(), layout.containerd_socket()] {
        files::remove(&leftover)?;
    }
    Ok(())
}

/// Where shims listen: outside of the data folder, at paths that only their bundles tell.
fn shim_sockets(layout: &Layout) -> Vec<PathBuf> {
    let bundles = layout.containerd_state().join("io.containerd.runtime.v2.task/k8s.io");
    let bundles = fs::read_dir(bundles).into_iter().flatten().flatten();
    let addresses = bundles.filter_map(|b| fs::read_to_string(b.path().join("address")).ok());
    addresses.filter_map(|a| a.trim().strip_prefix("unix://").map(PathBuf::from)).collect()
}

async fn act(plan: &CleanupPlan) -> Result<(), CleanupError> {
    // All are killed before one is waited for: a shim whose container ends would report and linger.
    for step in &plan.0 {
        if let CleanupStep::Kill(process) = step {
            process.signal(Signal::KILL)?;
        }
    }
    for step in &plan.0 {
        match step {
            CleanupStep::Kill(process) => supervise::stop(process, Duration::from_secs(1)).await?,
            CleanupStep::Unmount(path) => take_mount_away(path)?,
            CleanupStep::DeleteLink(name) => network::delete_link(name).await?,
            CleanupStep::RemoveCgroup(path) => {
                // Not empty: another cluster's, or a process on its way out.
                let _ = fs::remove_dir(path);
            }
        }
    }
    Ok(())
}

/// A mount that something outside still uses is taken out of the tree now and goes when its last user does.
fn take_mount_away(path: &Path) -> Result<(), CleanupError> {
    let flags = UnmountFlags::NOFOLLOW;
    match unmount(path, flags).or_else(|_| unmount(path, flags | UnmountFlags::DETACH)) {
        // Gone with the mount above it.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(CleanupError::Unmount { path: path.to_owned(), source: e.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_below_the_data_folder_are_found() {
        let info = b"20 1 0:8 / /mnt/\xe4 rw - tmpfs t rw\n22 1 254:0 / / rw - ext4 /dev/vda rw\n29 22 0:9 / /data rw - ext4 /dev/vdb rw\n30 22 0:3 / /data/a\\040b rw - tmpfs t rw\n31 22 0:4 / /data2 rw - \
                    tmpfs t rw\n32 30 0:5 / /data/a\\040b/c rw - tmpfs t rw\n";
        let found = mounts_below(info, Path::new("/data"));
        assert_eq!(found, [PathBuf::from("/data/a b"), PathBuf::from("/data/a b/c")]);
        assert!(mounts_below(info, Path::new("/dat")).is_empty());
    }

    #[test]
    fn shims_of_this_folder_and_their_descendants_are_ours() {
        let layout = Layout::new("/data");
        let args = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let lines = [
            (1, 0, args("/sbin/init")),
            (10, 1, args("/usr/bin/containerd --config /data/containerd/config.toml")),
            (11, 1, args("/usr/bin/containerd --config /etc/containerd/config.toml")),
            (20, 1, args("/usr/bin/containerd-shim-runc-v2 -address /data/containerd/containerd.sock -id a")),
            (21, 1, args("/usr/bin/containerd-shim-runc-v2 -address /data2/containerd/containerd.sock -id b")),
            (31, 30, args("sleep 9")),
            (30, 20, args("/pause")),
            (32, 21, args("/pause")),
            (40, 1, args("vi /data/containerd/containerd.sock")),
        ];
        let rows: Vec<(u32, u32, &[String])> = lines.iter().map(|(p, q, a)| (*p, *q, &a[..])).collect();
        let mut found: Vec<u32> = processes_of(&rows, &layout).into_iter().collect();
        found.sort_unstable();
        assert_eq!(found, [10, 20, 30, 31]);
    }

    #[test]
    fn links_to_single_pod_addresses_are_found() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                      eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                      vethaa\t0500F40A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n\
                      vethbb\t0500F50A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n";
        assert_eq!(pod_links(routes, Cidr::v4([10, 244, 0, 0], 24)), ["vethaa"]);
    }

    #[test]
    fn the_plan_kills_before_it_unmounts_the_last_mount_first() {
        let observed = Observed {
            processes: Vec::new(),
            mounts: vec!["/d/a".into(), "/d/a/b".into()],
            links: vec!["veth1".into()],
            cgroups: vec!["/c/kubepods".into(), "/c/kubepods/burstable".into()],
        };
        let want = "unmount /d/a/b\nunmount /d/a\ndelete link veth1\nremove cgroup /c/kubepods/burstable\n\
                    remove cgroup /c/kubepods\n";
        assert_eq!(CleanupPlan::new(&observed).to_string(), want);
    }
}
