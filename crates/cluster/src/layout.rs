//! Where a cluster keeps its files below its data folder, and the settings that two clusters on one machine must differ in.

mod cidr;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use cidr::{Cidr, CidrError};

use crate::files::{self, FileError};

/// The data folder where none is named.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/argosy";

/// The longest path that a Unix socket's address can hold, without its end mark.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The paths below one data folder. Makes and reads nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// `root` must be absolute: containers and their runtime see other working folders.
    pub fn new(root: impl Into<PathBuf>) -> Layout {
        Layout { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn pki_dir(&self) -> PathBuf {
        self.root.join("pki")
    }

    pub fn settings_file(&self) -> PathBuf {
        self.root.join("settings.json")
    }

    /// The hosts of a cluster of several machines; absent where one machine is all.
    pub fn topology_file(&self) -> PathBuf {
        self.root.join("topology.json")
    }

    /// The kubeconfig of a user such as `admin` or `scheduler`.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.root.join(format!("{user}.kubeconfig"))
    }

    /// Names of images that came from archives, one per line: the kubelet keeps them, since they cannot be pulled again.
    pub fn imported_images_file(&self) -> PathBuf {
        self.root.join("imported-images")
    }

    /// The embedded store's folder.
    pub fn store_dir(&self) -> PathBuf {
        self.root.join("store")
    }

    /// etcd's data, where this machine is a member.
    pub fn etcd_dir(&self) -> PathBuf {
        self.root.join("etcd")
    }

    pub fn nginx_config(&self) -> PathBuf {
        self.root.join("nginx.conf")
    }

    /// The KubeletConfiguration of a kubelet that is a process of its own.
    pub fn kubelet_config(&self) -> PathBuf {
        self.root.join("kubelet.yaml")
    }

    pub fn kubelet_dir(&self) -> PathBuf {
        self.root.join("kubelet")
    }

    pub fn static_pods_dir(&self) -> PathBuf {
        self.root.join("manifests")
    }

    pub fn log_dir(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub fn log_file(&self, process: &str) -> PathBuf {
        self.log_dir().join(format!("{process}.log"))
    }

    pub fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    pub fn pid_file(&self, process: &str) -> PathBuf {
        self.run_dir().join(format!("{process}.pid"))
    }

    /// Held by whoever changes what hosts there are.
    pub fn hosts_lock_file(&self) -> PathBuf {
        self.run_dir().join("hosts.lock")
    }

    /// Held by whoever runs or changes the cluster.
    pub fn lock_file(&self) -> PathBuf {
        self.run_dir().join("lock")
    }

    /// What was learned about built-in images, so that a start need not hash the binary again.
    pub fn image_stamps_file(&self) -> PathBuf {
        self.run_dir().join("images.json")
    }

    pub fn containerd_dir(&self) -> PathBuf {
        self.root.join("containerd")
    }

    pub fn containerd_socket(&self) -> PathBuf {
        self.containerd_dir().join("containerd.sock")
    }

    /// The socket as kubelet and crictl are told it.
    pub fn containerd_endpoint(&self) -> String {
        format!("unix://{}", self.containerd_socket().display())
    }

    pub fn containerd_config(&self) -> PathBuf {
        self.containerd_dir().join("config.toml")
    }

    pub fn containerd_root(&self) -> PathBuf {
        self.containerd_dir().join("root")
    }

    pub fn containerd_state(&self) -> PathBuf {
        self.containerd_dir().join("state")
    }

    pub fn runc_root(&self) -> PathBuf {
        self.containerd_dir().join("runc")
    }

    pub fn cni_conf_dir(&self) -> PathBuf {
        self.root.join("cni").join("net.d")
    }

    pub fn cni_ipam_dir(&self) -> PathBuf {
        self.root.join("cni").join("ipam")
    }
}

/// The ports that the components listen on, upstream's unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ports {
    pub apiserver: u16,
    pub kubelet: u16,
    pub proxy_health: u16,
    pub controller_manager: u16,
    pub scheduler: u16,
}

impl Default for Ports {
    fn default() -> Ports {
        Ports { apiserver: 6443, kubelet: 10250, proxy_health: 10256, controller_manager: 10257, scheduler: 10259 }
    }
}

impl Ports {
    /// Each port with the component that wants it.
    pub fn all(&self) -> [(&'static str, u16); 5] {
        [
            ("kube-apiserver", self.apiserver),
            ("kubelet", self.kubelet),
            ("kube-proxy", self.proxy_health),
            ("kube-controller-manager", self.controller_manager),
            ("kube-scheduler", self.scheduler),
        ]
    }
}

/// The settings of the layout `single-schedulable` on the embedded store: one process, one node. Kept in the data folder
/// by the first start, so that a later start without flags brings the same cluster back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    pub node_name: String,
    pub node_ip: IpAddr,
    /// Where pods of the whole cluster live.
    pub cluster_cidr: Cidr,
    /// This node's part of `cluster_cidr`.
    pub pod_cidr: Cidr,
    pub service_cidr: Cidr,
    pub dns_ip: IpAddr,
    pub cluster_domain: String,
    #[serde(default)]
    pub ports: Ports,
    /// A runtime that somebody else runs; without it the cluster starts a containerd of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_endpoint: Option<String>,
    /// What evicts pods, as the kubelet's `--eviction-hard` spells it; without it, thresholds that suit one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eviction_hard: Option<String>,
    /// Names what belongs to this cluster in places that all clusters of the machine share: the CNI network and the
    /// nftables table `argosy-masq` get it as a suffix. Empty for the first cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} does not hold valid settings; correct it, or remove it to start with the defaults", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the address {address} of {what} lies outside of {cidr}")]
    OutOfRange { what: &'static str, address: IpAddr, cidr: Cidr },
    #[error("{first} and {second} overlap; choose ranges that do not")]
    Overlap { first: Cidr, second: Cidr },
    #[error("the range {0} is too small")]
    TooSmall(Cidr),
}

impl Settings {
    /// Upstream's usual ranges and ports for one node.
    pub fn new(node_name: impl Into<String>, node_ip: IpAddr) -> Settings {
        Settings {
            node_name: node_name.into(),
            node_ip,
            cluster_cidr: Cidr::v4([10, 244, 0, 0], 16),
            pod_cidr: Cidr::v4([10, 244, 0, 0], 24),
            service_cidr: Cidr::v4([10, 96, 0, 0], 16),
            dns_ip: IpAddr::from([10, 96, 0, 10]),
            cluster_domain: "cluster.local".into(),
            ports: Ports::default(),
            runtime_endpoint: None,
            eviction_hard: None,
            instance: String::new(),
        }
    }

    /// Where other machines reach the API server of the one process.
    pub fn api_server(&self) -> String {
        format!("https://{}:{}", self.node_ip, self.ports.apiserver)
    }

    /// The address of the Service `kubernetes`: the first of the Service range.
    pub fn kubernetes_service_ip(&self) -> Result<IpAddr, SettingsError> {
        self.service_cidr.nth(1).ok_or(SettingsError::TooSmall(self.service_cidr))
    }

    /// Checks what the types cannot say: addresses in their ranges, ranges apart from one another.
    pub fn validate(&self) -> Result<(), SettingsError> {
        self.kubernetes_service_ip()?;
        if !self.service_cidr.contains(self.dns_ip) {
            let (address, cidr) = (self.dns_ip, self.service_cidr);
            return Err(SettingsError::OutOfRange { what: "cluster DNS", address, cidr });
        }
        if !self.cluster_cidr.contains(self.pod_cidr.address()) {
            let (address, cidr) = (self.pod_cidr.address(), self.cluster_cidr);
            return Err(SettingsError::OutOfRange { what: "the node's pods", address, cidr });
        }
        if self.cluster_cidr.overlaps(&self.service_cidr) {
            return Err(SettingsError::Overlap { first: self.cluster_cidr, second: self.service_cidr });
        }
        Ok(())
    }

    /// The settings of an earlier start, `None` on a first one.
    pub fn load(layout: &Layout) -> Result<Option<Settings>, SettingsError> {
        let path = layout.settings_file();
        let Some(bytes) = files::read_optional(&path)? else {
            return Ok(None);
        };
        let settings: Settings =
            serde_json::from_slice(&bytes).map_err(|source| SettingsError::Parse { path, source })?;
        settings.validate()?;
        Ok(Some(settings))
    }

    /// Keeps the settings for later starts. Returns whether they differ from what was kept.
    pub fn save(&self, layout: &Layout) -> Result<bool, SettingsError> {
        self.validate()?;
        let path = layout.settings_file();
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|source| SettingsError::Parse { path: path.clone(), source })?;
        text.push(b'\n');
        files::make_dir(layout.root())?;
        Ok(files::write_if_changed(&path, &text, 0o644)?)
    }

    /// The cgroup below which pods run: `/`, or one of the instance's own, since a kubelet takes every pod's cgroup below
    /// its root that it does not know for a leftover.
    pub fn cgroup_root(&self) -> String {
        match self.instance.as_str() {
            "" => "/".to_owned(),
            instance => format!("/argosy-{instance}"),
        }
    }

    /// `name`, with the instance as a suffix where there is one.
    pub fn instance_name(&self, name: &str) -> String {
        match self.instance.as_str() {
            "" => name.to_owned(),
            instance => format!("{name}-{instance}"),
        }
    }
}
