//! The kubelet as a whole: its configuration, and [`Kubelet::run`], which connects the parts.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use client::{
    Client, Clock, Delta, EventRecorder, InformerFactory, ListParams, SystemClock,
    apimachinery::pkg::api::resource::Quantity,
    kinds::{
        core::v1::{Node as NodeObject, Pod, Service, Taint},
        node::v1::RuntimeClass,
    },
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use volumes::{KernelMounter, Layout, ObjectSource, VolumeConfig, VolumeManager};

use crate::{
    certificate::{
        Purpose, Template,
        manager::{CertificateManager, TemplateSource},
        store::CertificateStore,
    },
    cgroups::{Cgroups, Enforcement, Hierarchy, Resources},
    config::{NodeFacts, dns::ResolvConf},
    cri::{GrpcRuntime, Runtime},
    eviction::{EvictionManager, Pressure, config::EvictionConfig},
    housekeeping::{
        self,
        images::{ImageCollector, KeptImages},
    },
    images::{Images, gc::ImageGcPolicy},
    manager::{Access, Change, PodManager, PodTable, Source},
    node::{
        NodeConfig, NodeReporter,
        machine::{self, Machine},
    },
    objects::ApiObjects,
    recover, serve,
    server::logs::rotate::RotationPolicy,
    sources,
    stats::StatsCollector,
    worker::Node,
};

/// How often volumes are refreshed: config maps, secrets and tokens (upstream's sync period).
const REFRESH_EVERY: Duration = Duration::from_secs(60);

/// Names are those of upstream's flags and KubeletConfiguration.
#[derive(Clone, Debug)]
pub struct KubeletConfig {
    pub node_name: String,
    /// `/var/lib/kubelet`.
    pub root_dir: PathBuf,
    /// `/var/log/pods`.
    pub pod_logs_dir: PathBuf,
    pub container_runtime_endpoint: String,
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    /// `None`: pods with dnsPolicy Default get no name servers.
    pub resolv_conf: Option<PathBuf>,
    /// `None`: the address of the default route.
    pub node_ip: Option<String>,
    pub node_labels: BTreeMap<String, String>,
    pub register_with_taints: Vec<Taint>,
    pub register_node: bool,
    pub max_pods: u32,
    pub system_reserved: BTreeMap<String, Quantity>,
    /// `None`: no static pods.
    pub static_pod_path: Option<PathBuf>,
    pub cgroups_per_qos: bool,
    pub cgroup_root: String,
    pub cpu_cfs_quota: bool,
    pub pod_pids_limit: Option<u64>,
    pub seccomp_default: bool,
    /// Names, and beginnings before a `*`, as [`crate::sysctl::check_pattern`] lets them.
    pub allowed_unsafe_sysctls: Vec<String>,
    pub container_log_max_size: u64,
    pub container_log_max_files: usize,
    pub image_gc: ImageGcPolicy,
    pub eviction: EvictionConfig,
    /// Images that are never collected: what no registry could give back.
    pub kept_images: KeptImages,
    /// Where certificates are kept that the kubelet asks for itself.
    pub cert_dir: PathBuf,
    /// The client certificate in `cert_dir` is replaced before it ends.
    pub rotate_certificates: bool,
    /// The certificate to serve with is asked of the cluster and kept in `cert_dir`; files that `serving` names are not used.
    pub server_tls_bootstrap: bool,
    /// `None`: no HTTPS API.
    pub serving: Option<Serving>,
}

/// The HTTPS API on port 10250.
#[derive(Clone, Debug)]
pub struct Serving {
    pub address: std::net::IpAddr,
    pub port: u16,
    pub tls_cert_file: PathBuf,
    pub tls_private_key_file: PathBuf,
    pub client_ca_file: PathBuf,
}

impl Default for KubeletConfig {
    fn default() -> KubeletConfig {
        KubeletConfig {
            node_name: String::new(),
            root_dir: "/var/lib/kubelet".into(),
            pod_logs_dir: "/var/log/pods".into(),
            container_runtime_endpoint: "unix:///run/containerd/containerd.sock".into(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            resolv_conf: Some("/etc/resolv.conf".into()),
            node_ip: None,
            node_labels: BTreeMap::new(),
            register_with_taints: Vec::new(),
            register_node: true,
            max_pods: 110,
            system_reserved: BTreeMap::new(),
            static_pod_path: None,
            cgroups_per_qos: true,
            cgroup_root: String::new(),
            cpu_cfs_quota: true,
            pod_pids_limit: None,
            seccomp_default: false,
            allowed_unsafe_sysctls: Vec::new(),
            container_log_max_size: RotationPolicy::default().max_bytes,
            container_log_max_files: RotationPolicy::default().max_files,
            image_gc: ImageGcPolicy::default(),
            eviction: EvictionConfig::default(),
            kept_images: KeptImages { names: vec!["localhost/argosy/".into()], file: None },
            cert_dir: "/var/lib/kubelet/pki".into(),
            rotate_certificates: false,
            server_tls_bootstrap: false,
            serving: None,
        }
    }
}

/// Why a kubelet cannot run at all; everything else is waited out.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    #[error("cannot use {}: {source}", path.display())]
    Directory { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Hierarchy(#[from] crate::cgroups::DetectError),
    #[error(transparent)]
    Cgroups(#[from] crate::cgroups::CgroupError),
    #[error("this node has no address; name one with --node-ip")]
    NoAddress,
    #[error("cannot serve the kubelet's API: {0}")]
    Serve(#[from] serve::ServeError),
}

pub struct Kubelet;

impl Kubelet {
    /// Runs until `cancel`; pods go on running then, and the next run takes them over.
    pub async fn run(config: KubeletConfig, client: Client, cancel: CancellationToken) -> Result<(), KubeletError> {
        let runtime: Arc<dyn Runtime> = Arc::new(GrpcRuntime::connect(&config.container_runtime_endpoint));
        Kubelet::run_with(config, client, runtime, cancel).await
    }

    /// With any runtime: tests bring their own.
    pub async fn run_with(
        config: KubeletConfig,
        client: Client,
        runtime: Arc<dyn Runtime>,
        cancel: CancellationToken,
    ) -> Result<(), KubeletError> {
        for path in [&config.root_dir, &config.pod_logs_dir] {
            let failed = |source| KubeletError::Directory { path: path.clone(), source };
            std::fs::create_dir_all(path).map_err(failed)?;
        }
        let Some(version) = wait_for(&*runtime, &cancel).await else { return Ok(()) };
        let parts = Parts::make(&config, client, runtime, version).await?;
        let found = loop {
            match recover::find(&*parts.node.runtime).await {
                Ok(found) => break found,
                Err(error) => tracing::warn!(%error, "cannot list what the runtime runs"),
            }
            if cancel.run_until_cancelled(tokio::time::sleep(Duration::from_millis(500))).await.is_none() {
                return Ok(());
            }
        };
        let (changes, received) = mpsc::unbounded_channel();
        let manifests = config.static_pod_path.as_ref().map(|_| Source::Manifests);
        let sources = [Source::Api].into_iter().chain(manifests);
        let (node, client) = (parts.node.clone(), parts.client.clone());
        let manager = PodManager::new(node, client, found, sources, changes.clone(), cancel.clone());
        let access = Arc::new(Access { table: manager.table(), node: parts.node.clone() });
        let stats = serve::statistics(&config, &parts.node, access.clone());
        let certificates = parts.keep_certificates(&config, &cancel);
        if let Some(serving) = &config.serving {
            let stats = stats.clone().ok_or(serve::ServeError::NoCgroups)?;
            let server = serve::server(&config, &parts.node, access, stats, parts.client.clone());
            serve::start(serving, server, certificates, cancel.clone()).await?;
        }
        parts.keep_house(&config, manager.table(), stats, &cancel);
        parts.start(&config, &changes, &cancel);
        manage(manager, received, cancel).await;
        Ok(())
    }
}

/// The runtime's name and version, once it answers.
async fn wait_for(runtime: &dyn Runtime, cancel: &CancellationToken) -> Option<(String, String)> {
    let mut said = false;
    loop {
        match runtime.version().await {
            Ok(version) => return Some((version.runtime_name, version.runtime_version)),
            Err(error) if !said => {
                tracing::warn!(%error, "waiting for the container runtime");
                said = true;
            }
            Err(_) => {}
        }
        cancel.run_until_cancelled(tokio::time::sleep(Duration::from_millis(100))).await?;
    }
}

struct Parts {
    client: Client,
    node: Arc<Node>,
    reporter: Arc<NodeReporter>,
    factory: InformerFactory,
    collector: Arc<ImageCollector>,
    clock: Arc<dyn Clock>,
}

impl Parts {
    async fn make(
        config: &KubeletConfig,
        client: Client,
        runtime: Arc<dyn Runtime>,
        (name, version): (String, String),
    ) -> Result<Parts, KubeletError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let machine = Machine::read(&format!("{name}://{version}"), &config.root_dir);
        let address = config.node_ip.clone().or_else(machine::default_address).ok_or(KubeletError::NoAddress)?;
        let pressure = Pressure::default();
        let reporter = Arc::new(NodeReporter {
            client: client.clone(),
            config: node_config(config, &address),
            machine: machine.clone(),
            runtime: runtime.clone(),
            pressure: pressure.clone(),
            clock: clock.clone(),
        });
        let allocatable = Arc::new(reporter.allocatable());
        let objects = ApiObjects::new(client.clone());
        objects.set_allocatable(allocatable.clone());
        let source: Arc<dyn ObjectSource> = Arc::new(objects.clone());
        let factory = InformerFactory::new(client.clone());
        let services = factory.informer::<Service>();
        let classes = factory.informer::<RuntimeClass>();
        let facts = NodeFacts {
            node_name: config.node_name.clone(),
            host_ips: vec![address],
            cluster_dns: config.cluster_dns.clone(),
            cluster_domain: config.cluster_domain.clone(),
            host_resolv: config.resolv_conf.as_ref().map(read_resolv_conf).unwrap_or_default(),
            root: config.root_dir.clone(),
            pod_logs: config.pod_logs_dir.clone(),
            seccomp_default: config.seccomp_default,
            allowed_unsafe_sysctls: config.allowed_unsafe_sysctls.clone(),
            memory_capacity: machine.memory_bytes,
            allocatable,
            apparmor: machine::has_apparmor(),
        };
        let node = Node {
            images: Images::new(runtime.clone(), source.clone()),
            volumes: volume_manager(config, source.clone(), clock.clone()),
            cgroups: cgroups(config).await?,
            runtime,
            runtime_name: name,
            objects: source,
            enforcement: Enforcement {
                cpu_quota: config.cpu_cfs_quota,
                pids: config.pod_pids_limit,
                ..Enforcement::default()
            },
            services: Box::new(move || services.list()),
            runtime_classes: Box::new(move |name| match classes.get("", name) {
                Some(class) => Ok(class.handler.clone()),
                None => Err(format!("failed to get RuntimeClass {name:?}: it does not exist")),
            }),
            api: Arc::new(objects),
            recorder: Arc::new(EventRecorder::new(client.clone(), "kubelet", &config.node_name)),
            pressure,
            clock: clock.clone(),
            facts: RwLock::new(Arc::new(facts)),
            owners: Mutex::new(HashMap::new()),
        };
        let (policy, kept) = (config.image_gc.clone(), config.kept_images.clone());
        let collector = ImageCollector::new(node.runtime.clone(), clock.clone(), policy, kept);
        Ok(Parts { client, node: Arc::new(node), reporter, factory, collector: Arc::new(collector), clock })
    }

    /// Starts what keeps the kubelet's own certificates fresh. Gives the one to serve with, where it is asked of the cluster.
    fn keep_certificates(&self, config: &KubeletConfig, cancel: &CancellationToken) -> Option<serve::Requested> {
        let start = |purpose, template: TemplateSource| {
            let store = CertificateStore::new(&config.cert_dir, purpose);
            let (ready, when_ready) = tokio::sync::watch::channel(false);
            let requested = serve::Requested { pem: store.current_path(), when_ready };
            let (client, clock) = (self.client.clone(), self.clock.clone());
            let manager = CertificateManager { client, store, template, clock, ready };
            tokio::spawn(cancel.clone().run_until_cancelled_owned(manager.run()));
            requested
        };
        let name = config.node_name.clone();
        if config.rotate_certificates {
            let client = Template::client(&name);
            start(Purpose::Client, Box::new(move || Some(client.clone())));
        }
        if !config.server_tls_bootstrap || config.serving.is_none() {
            return None;
        }
        // What the API server says of the node, since that is what a request is compared with.
        let nodes = self.factory.informer_with::<NodeObject>(this_node(config, "metadata.name"));
        let template = move || {
            let node = nodes.get("", &name)?;
            let addresses = node.status.as_ref().and_then(|status| status.addresses.as_deref());
            Template::serving(&name, addresses.unwrap_or_default())
        };
        Some(start(Purpose::Serving, Box::new(template)))
    }

    /// Starts what tends the node as a whole.
    fn keep_house(
        &self,
        config: &KubeletConfig,
        table: PodTable,
        stats: Option<Arc<StatsCollector>>,
        cancel: &CancellationToken,
    ) {
        let policy =
            RotationPolicy { max_bytes: config.container_log_max_size, max_files: config.container_log_max_files };
        let logs = housekeeping::logs::run(self.node.clone(), table.clone(), policy);
        tokio::spawn(cancel.clone().run_until_cancelled_owned(logs));
        let images = housekeeping::images::run(self.node.clone(), self.collector.clone());
        tokio::spawn(cancel.clone().run_until_cancelled_owned(images));
        // Without pods' cgroups nobody knows what they use.
        let Some(stats) = stats else { return };
        let eviction = EvictionManager {
            node: self.node.clone(),
            table,
            stats,
            images: self.collector.clone(),
            config: config.eviction.clone(),
            pressure: self.node.pressure.clone(),
            root: config.root_dir.clone(),
            state: RwLock::default(),
        };
        tokio::spawn(cancel.clone().run_until_cancelled_owned(eviction.run()));
    }

    /// Starts everything that feeds the manager.
    fn start(&self, config: &KubeletConfig, changes: &mpsc::UnboundedSender<Change>, cancel: &CancellationToken) {
        let nodes = self.factory.informer_with::<NodeObject>(this_node(config, "metadata.name"));
        let sender = changes.clone();
        let runtime = self.node.runtime.clone();
        let cidr: Mutex<Option<String>> = Mutex::new(None);
        nodes.on_event(move |delta| {
            if matches!(delta, Delta::Deleted(_)) {
                return;
            }
            let node = delta.object().clone();
            let now = node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone());
            let mut known = cidr.lock();
            if let Some(new) = now.filter(|new| known.as_ref() != Some(new)) {
                *known = Some(new.clone());
                let runtime = runtime.clone();
                tokio::spawn(async move {
                    if let Err(error) = runtime.update_pod_cidr(&new).await {
                        tracing::warn!(%error, "cannot tell the runtime the pod CIDR");
                    }
                });
            }
            let _ = sender.send(Change::Node(node));
        });
        let pods = self.factory.informer_with::<Pod>(this_node(config, "spec.nodeName"));
        let services = self.factory.informer::<Service>();
        let (sender, pods_seen) = (changes.clone(), pods.clone());
        self.factory.start(cancel.clone());
        let cancelled = cancel.clone();
        tokio::spawn(cancel.clone().run_until_cancelled_owned(async move {
            // Pods see the services that were there before them, and the node's labels decide on their admission.
            services.wait_for_sync().await;
            nodes.wait_for_sync().await;
            let to = sender.clone();
            pods_seen.on_event(move |delta| {
                let _ = to.send(match delta {
                    Delta::Deleted(pod) => Change::ApiGone(pod.clone()),
                    delta => Change::Api(delta.object().clone()),
                });
            });
            pods_seen.wait_for_sync().await;
            let _ = sender.send(Change::ApiSynced);
            while !cancelled.is_cancelled() {
                tokio::time::sleep(REFRESH_EVERY).await;
                let _ = sender.send(Change::RefreshVolumes);
            }
        }));
        if let Some(dir) = &config.static_pod_path {
            tokio::spawn(cancel.clone().run_until_cancelled_owned(watch_manifests(
                dir.clone(),
                config.node_name.clone(),
                changes.clone(),
            )));
        }
        tokio::spawn(recover::watch(self.node.clone(), self.clock.clone(), changes.clone(), cancel.clone()));
        tokio::spawn(self.reporter.clone().run(cancel.clone()));
    }
}

/// The objects with this node's name in a field.
fn this_node(config: &KubeletConfig, field: &str) -> ListParams {
    ListParams::fields(format!("{field}={}", config.node_name))
}

fn node_config(config: &KubeletConfig, address: &str) -> NodeConfig {
    NodeConfig {
        name: config.node_name.clone(),
        addresses: vec![address.to_owned()],
        labels: config.node_labels.clone(),
        taints: config.register_with_taints.clone(),
        register: config.register_node,
        port: config.serving.as_ref().map_or(10250, |serving| serving.port),
        max_pods: config.max_pods,
        system_reserved: config.system_reserved.clone(),
        eviction: config.eviction.clone(),
    }
}

fn read_resolv_conf(path: &PathBuf) -> ResolvConf {
    match std::fs::read_to_string(path) {
        Ok(text) => ResolvConf::parse(&text),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read the node's resolver configuration");
            ResolvConf::default()
        }
    }
}

fn volume_manager(config: &KubeletConfig, source: Arc<dyn ObjectSource>, clock: Arc<dyn Clock>) -> VolumeManager {
    VolumeManager::new(VolumeConfig {
        layout: Layout::new(&config.root_dir),
        source,
        mounter: Arc::new(KernelMounter),
        tmpfs_no_swap: KernelMounter::supports_no_swap(),
        now: Arc::new(move || clock.now()),
    })
}

async fn cgroups(config: &KubeletConfig) -> Result<Option<Cgroups>, KubeletError> {
    if !config.cgroups_per_qos {
        return Ok(None);
    }
    let cgroups = Cgroups::new(Hierarchy::detect()?, &config.cgroup_root)?;
    cgroups.set_up(Resources::default()).await?;
    Ok(Some(cgroups))
}

async fn watch_manifests(dir: PathBuf, node: String, changes: mpsc::UnboundedSender<Change>) {
    loop {
        match sources::read(&dir, &node) {
            Ok((pods, errors)) => {
                for error in errors {
                    tracing::warn!(%error, "cannot use a static pod's manifest");
                }
                let _ = changes.send(Change::Static(pods));
            }
            // A directory that is not there has no manifests; one that cannot be read says nothing.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let _ = changes.send(Change::Static(Vec::new()));
            }
            Err(error) => tracing::warn!(dir = %dir.display(), %error, "cannot read static pods"),
        }
        tokio::time::sleep(sources::CHECK_EVERY).await;
    }
}

/// Feeds the manager until `cancel`.
async fn manage(mut manager: PodManager, mut changes: mpsc::UnboundedReceiver<Change>, cancel: CancellationToken) {
    while let Some(Some(change)) = cancel.run_until_cancelled(changes.recv()).await {
        manager.apply(change);
    }
}
