//! What runs on a host: each component as a process with ordinary flags, and the files that they read.

use std::path::{Path, PathBuf};

use super::{ETCD_CLIENTS, Host, Topology, TopologyError};
use crate::{
    containerd, files,
    layout::{Layout, Ports},
    pki::Pki,
    supervise::Process,
};

/// Those that are on by default, and what nodes need that join by token.
const CONTROLLERS: &str = "*,bootstrap-signer-controller,token-cleaner-controller,kubelet-serving-csr-approver";

/// What a unit runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The binary that this code is in.
    Argosy,
    /// A program of the machine.
    Installed(&'static str),
}

/// One process of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Of its pid file and log, and of its unit file.
    pub name: &'static str,
    pub description: &'static str,
    pub program: Program,
    pub args: Vec<String>,
    /// Units of the same host that are better up before it.
    pub after: &'static [&'static str],
    /// Arguments of this binary, run once the unit is up.
    pub then: Vec<String>,
    /// Takes SIGHUP for the order to read its configuration again.
    pub reloads: bool,
}

impl Unit {
    /// `kubelet.service`. The unit of the pod network is named for whose it is.
    pub fn file_name(&self) -> String {
        match self.name {
            "network" => "argosy-network.service".to_owned(),
            name => format!("{name}.service"),
        }
    }

    /// Whether a process was started with just these arguments.
    pub fn is_run_by(&self, process: &Process) -> bool {
        let line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        let words = line.strip_suffix(b"\0").unwrap_or(&line).split(|byte| *byte == 0);
        let args = words.skip(1).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        !self.differs(&Unit { args, ..self.clone() })
    }

    /// Whether it would do something else than `other` if it were started now. What is told etcd of how its cluster begins
    /// means nothing to a member that has data.
    pub fn differs(&self, other: &Unit) -> bool {
        let telling = |unit: &Unit| -> Vec<String> {
            unit.args.iter().filter(|arg| !arg.starts_with("--initial-")).cloned().collect()
        };
        self.program != other.program || telling(self) != telling(other)
    }
}

/// What runs on a host, in the order in which it is started. containerd is not among them where the host's supervisor
/// starts it itself: its configuration, its images and its pods need more than a process.
pub fn units(topology: &Topology, host: &Host, layout: &Layout) -> Vec<Unit> {
    let cluster = Cluster { topology, host, layout, pki: Pki::new(layout.pki_dir()) };
    let mut units = Vec::new();
    if host.balancer {
        units.push(cluster.nginx());
    }
    if host.master {
        units.extend([cluster.etcd(), cluster.apiserver(), cluster.controller_manager(), cluster.scheduler()]);
    }
    if host.node {
        units.extend([cluster.network(), cluster.kubelet(), cluster.proxy()]);
    }
    units
}

/// containerd for a service manager; the built-in images are put into it once it is up.
pub fn containerd_unit(layout: &Layout) -> Unit {
    let root = layout.root().display().to_string();
    Unit {
        name: containerd::NAME,
        description: "containerd, which runs the pods of this node",
        program: Program::Installed("containerd"),
        args: vec!["--config".into(), layout.containerd_config().display().to_string(), "--log-level=warn".into()],
        after: &[],
        then: ["image", "built-in", "--data-dir", &root].map(str::to_owned).into(),
        reloads: false,
    }
}

/// The configuration files of what runs on a host.
pub fn files(topology: &Topology, host: &Host, layout: &Layout) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    if host.balancer {
        files.push((layout.nginx_config(), nginx_conf(topology, layout)));
    }
    if host.node {
        files.push((layout.kubelet_config(), kubelet_yaml(topology, host, layout)));
    }
    files
}

/// Writes them, and makes the folders that the units want to find. Returns whether anything changed.
pub fn write(topology: &Topology, host: &Host, layout: &Layout) -> Result<bool, TopologyError> {
    for folder in [layout.run_dir(), layout.log_dir()] {
        files::make_dir(&folder)?;
    }
    if host.master {
        // etcd refuses a folder that others can read.
        files::make_private_dir(&layout.etcd_dir())?;
    }
    if host.node {
        files::make_dir(&layout.static_pods_dir())?;
    }
    let mut changed = false;
    for (path, text) in self::files(topology, host, layout) {
        changed |= files::write_if_changed(&path, text.as_bytes(), 0o644)?;
    }
    Ok(changed)
}

/// One host of one cluster.
struct Cluster<'a> {
    topology: &'a Topology,
    host: &'a Host,
    layout: &'a Layout,
    pki: Pki,
}

/// `--name=value`.
fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

fn file(name: &str, path: impl AsRef<Path>) -> String {
    flag(name, path.as_ref().display())
}

impl Cluster<'_> {
    fn unit(&self, name: &'static str, description: &'static str, flags: Vec<String>) -> Unit {
        let args = std::iter::once(name.to_owned()).chain(flags).collect();
        Unit { name, description, program: Program::Argosy, args, after: &[], then: Vec::new(), reloads: false }
    }

    fn etcd(&self) -> Unit {
        let peer = |host: &Host| format!("{}={}", host.name, host.etcd_peers());
        let members: Vec<String> = self.topology.masters().map(peer).collect();
        let (clients, peers) = (self.host.etcd_clients(), self.host.etcd_peers());
        let ca = self.pki.cert("etcd/ca");
        let args = vec![
            flag("name", &self.host.name),
            file("data-dir", self.layout.etcd_dir()),
            flag("listen-client-urls", format!("{clients},https://127.0.0.1:{ETCD_CLIENTS}")),
            flag("advertise-client-urls", &clients),
            flag("listen-peer-urls", &peers),
            flag("initial-advertise-peer-urls", &peers),
            flag("initial-cluster", members.join(",")),
            // A member that was added to a running cluster asks the others which; a first one makes it with them.
            flag("initial-cluster-state", if self.host.joined { "existing" } else { "new" }),
            flag("initial-cluster-token", format!("argosy-{}", self.topology.number())),
            file("cert-file", self.pki.cert("etcd/server")),
            file("key-file", self.pki.key("etcd/server")),
            file("trusted-ca-file", &ca),
            "--client-cert-auth=true".into(),
            file("peer-cert-file", self.pki.cert("etcd/peer")),
            file("peer-key-file", self.pki.key("etcd/peer")),
            file("peer-trusted-ca-file", &ca),
            "--peer-client-cert-auth=true".into(),
            // A member that comes back asks whether there is a leader before it makes the others elect one.
            "--pre-vote=true".into(),
            "--logger=zap".into(),
        ];
        let program = Program::Installed("etcd");
        Unit {
            name: "etcd",
            description: "etcd, where the cluster keeps its data",
            program,
            args,
            after: &[],
            then: Vec::new(),
            reloads: false,
        }
    }

    fn apiserver(&self) -> Unit {
        let topology = self.topology;
        // Its own member first, which is asked for as long as it answers: what happens to the others matters less then.
        let others = topology.serving().filter(|host| *host != self.host);
        let etcd: Vec<String> = std::iter::once(self.host).chain(others).map(Host::etcd_clients).collect();
        let pki = &self.pki;
        let unit = self.unit(
            "kube-apiserver",
            "Kubernetes API server",
            vec![
                flag("advertise-address", self.host.address),
                flag("secure-port", Ports::default().apiserver),
                flag("etcd-servers", etcd.join(",")),
                file("etcd-cafile", pki.cert("etcd/ca")),
                file("etcd-certfile", pki.cert("apiserver-etcd-client")),
                file("etcd-keyfile", pki.key("apiserver-etcd-client")),
                file("tls-cert-file", pki.cert("apiserver")),
                file("tls-private-key-file", pki.key("apiserver")),
                file("client-ca-file", pki.cert("ca")),
                flag("authorization-mode", "Node,RBAC"),
                "--enable-bootstrap-token-auth=true".into(),
                flag("service-account-issuer", format!("https://kubernetes.default.svc.{}", topology.cluster_domain)),
                file("service-account-key-file", pki.service_account_public()),
                file("service-account-signing-key-file", pki.service_account_key()),
                flag("service-cluster-ip-range", topology.service_cidr),
                file("kubelet-client-certificate", pki.cert("apiserver-kubelet-client")),
                file("kubelet-client-key", pki.key("apiserver-kubelet-client")),
                file("kubelet-certificate-authority", pki.cert("ca")),
            ],
        );
        Unit { after: &["etcd"], ..unit }
    }

    fn controller_manager(&self) -> Unit {
        let (topology, pki) = (self.topology, &self.pki);
        let unit = self.unit(
            "kube-controller-manager",
            "Kubernetes controllers",
            vec![
                file("kubeconfig", self.layout.kubeconfig("controller-manager")),
                "--leader-elect=true".into(),
                flag("controllers", CONTROLLERS),
                "--allocate-node-cidrs=true".into(),
                flag("cluster-cidr", topology.cluster_cidr),
                flag("service-cluster-ip-range", topology.service_cidr),
                file("root-ca-file", pki.cert("ca")),
                file("cluster-signing-cert-file", pki.cert("ca")),
                file("cluster-signing-key-file", pki.key("ca")),
                "--bind-address=127.0.0.1".into(),
                file("tls-cert-file", pki.cert("components")),
                file("tls-private-key-file", pki.key("components")),
            ],
        );
        Unit { after: &["kube-apiserver"], ..unit }
    }

    fn scheduler(&self) -> Unit {
        let unit = self.unit(
            "kube-scheduler",
            "Kubernetes scheduler",
            vec![
                file("kubeconfig", self.layout.kubeconfig("scheduler")),
                "--leader-elect=true".into(),
                "--bind-address=127.0.0.1".into(),
                file("tls-cert-file", self.pki.cert("components")),
                file("tls-private-key-file", self.pki.key("components")),
            ],
        );
        Unit { after: &["kube-apiserver"], ..unit }
    }

    fn network(&self) -> Unit {
        self.unit(
            "network",
            "Pod network: routes to the other nodes' pods",
            vec![
                file("data-dir", self.layout.root()),
                file("kubeconfig", self.layout.kubeconfig("kube-proxy")),
                flag("node-name", &self.host.name),
                flag("cluster-cidr", self.topology.cluster_cidr),
            ],
        )
    }

    fn kubelet(&self) -> Unit {
        let unit = self.unit(
            "kubelet",
            "Kubernetes node agent",
            vec![
                file("kubeconfig", self.layout.kubeconfig("kubelet")),
                file("config", self.layout.kubelet_config()),
                flag("hostname-override", &self.host.name),
                flag("node-ip", self.host.address),
                file("root-dir", self.layout.kubelet_dir()),
            ],
        );
        Unit { after: &["containerd"], ..unit }
    }

    fn proxy(&self) -> Unit {
        self.unit(
            "kube-proxy",
            "Kubernetes Services on nftables",
            vec![
                file("kubeconfig", self.layout.kubeconfig("kube-proxy")),
                flag("hostname-override", &self.host.name),
                flag("cluster-cidr", self.topology.cluster_cidr),
            ],
        )
    }

    fn nginx(&self) -> Unit {
        let config = self.layout.nginx_config();
        let args = vec!["-c".into(), config.display().to_string(), "-e".into(), "stderr".into()];
        let program = Program::Installed("nginx");
        Unit {
            name: "nginx",
            description: "nginx in front of the API servers",
            program,
            args,
            after: &[],
            then: Vec::new(),
            reloads: true,
        }
    }
}

/// Where Debian's package `libnginx-mod-stream` puts the module, which other builds have inside.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Connections are spread over the API servers. One that refuses or does not answer within a second is left out for some
/// seconds by all workers, which share what they know, and the connection goes to the next. Watches and upgraded connections may be silent for a day; whether the
/// other side is still there is what TCP's keep-alive finds out.
fn nginx_conf(topology: &Topology, layout: &Layout) -> String {
    let port = Ports::default().apiserver;
    let server = |host: &Host| format!("        server {}:{port} max_fails=1 fail_timeout=3s;\n", host.address);
    let servers: String = topology.serving().map(server).collect();
    // What machines of their own have is not known here: they are taken for Debian.
    let module = match !topology.lab || Path::new(STREAM_MODULE).exists() {
        true => format!("load_module {STREAM_MODULE};\n"),
        false => String::new(),
    };
    format!(
        "{module}daemon off;\npid {pid};\nworker_processes 2;\nworker_rlimit_nofile 65536;\nevents {{\n    \
         worker_connections 16384;\n}}\nstream {{\n    upstream apiservers {{\n        zone apiservers 256k;\n        least_conn;\n{servers}    }}\n    \
         server {{\n        listen 0.0.0.0:{port} backlog=4096 so_keepalive=10s:5s:3;\n        proxy_pass apiservers;\n        \
         proxy_connect_timeout 1s;\n        proxy_next_upstream on;\n        proxy_next_upstream_timeout 5s;\n        \
         proxy_timeout 24h;\n        proxy_socket_keepalive on;\n        tcp_nodelay on;\n    }}\n}}\n",
        pid = layout.pid_file("nginx-master").display(),
    )
}

/// A disk that is nine tenths full is ordinary where several nodes share it.
const EVICTION_HARD: &str =
    "memory.available<100Mi,nodefs.available<5%,nodefs.inodesFree<5%,imagefs.available<5%,imagefs.inodesFree<5%";

/// `SIGNAL<AMOUNT,…` as lines of the configuration.
fn eviction(thresholds: &str) -> String {
    let line = |(signal, amount): (&str, &str)| format!("  {signal}: {amount}\n");
    thresholds.split(',').filter_map(|threshold| threshold.split_once('<')).map(line).collect()
}

fn kubelet_yaml(topology: &Topology, host: &Host, layout: &Layout) -> String {
    let pki = Pki::new(layout.pki_dir());
    let resolv_conf = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"].into_iter();
    let resolv_conf =
        resolv_conf.filter(|path| topology.lab && Path::new(path).exists()).map(|path| format!("resolvConf: {path}\n"));
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nclusterDNS:\n- {dns}\nclusterDomain: {domain}\n\
         containerRuntimeEndpoint: {runtime}\nstaticPodPath: {manifests}\npodLogsDir: {logs}\ncgroupRoot: {cgroup}\n\
         tlsCertFile: {cert}\ntlsPrivateKeyFile: {key}\nauthentication:\n  x509:\n    clientCAFile: {ca}\n\
         evictionHard:\n{eviction}imageGCHighThresholdPercent: 95\nimageGCLowThresholdPercent: 90\n{resolv_conf}",
        dns = topology.dns_ip,
        domain = topology.cluster_domain,
        runtime = layout.containerd_endpoint(),
        manifests = layout.static_pods_dir().display(),
        logs = layout.log_dir().join("pods").display(),
        cgroup = topology.settings(host).cgroup_root(),
        cert = pki.cert("kubelet").display(),
        key = pki.key("kubelet").display(),
        ca = pki.cert("ca").display(),
        eviction = eviction(topology.eviction_hard.as_deref().unwrap_or(EVICTION_HARD)),
        resolv_conf = resolv_conf.take(1).collect::<String>(),
    )
}
