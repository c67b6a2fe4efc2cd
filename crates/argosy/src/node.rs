//! The node's side of the one process: containerd with the built-in images, kubelet and kube-proxy.

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use ::kubelet::{KubeletConfig, Serving, housekeeping::images::KeptImages, images::gc::ImageGcPolicy};
use anyhow::{Context, anyhow};
use apiserver::Server;
use client::{
    Client, DeleteParams, ListParams,
    kinds::{coordination::v1::Lease, core::v1::Node},
};
use cluster::{
    containerd::{self, Containerd, network as pod_network},
    images::{ImageStore, PAUSE_IMAGE},
    layout::{Layout, Settings},
    pki::Pki,
    progress::Progress,
};
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::TOOLS,
    clients,
    commands::network,
    components::{
        kubelet,
        kubelet_limits::{ONE_MACHINE_EVICTION_HARD, hard_eviction},
        proxy,
    },
    process::step,
    supervisor::Supervisor,
};

/// Resolver files in the order of choice: where systemd-resolved runs, `/etc/resolv.conf` names a server on loopback,
/// which means another machine to a pod.
const RESOLV_CONFS: [&str; 2] = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];

/// The runtime on its way up.
pub struct Machine {
    task: JoinHandle<anyhow::Result<Option<Containerd>>>,
}

impl Machine {
    pub fn start(layout: Layout, settings: Settings, progress: Arc<dyn Progress>) -> Machine {
        Machine { task: tokio::spawn(async move { start_machine(&layout, &settings, &*progress).await }) }
    }

    /// Our own containerd once it answers and has the images; `None` where somebody else's is used.
    pub async fn join(self) -> anyhow::Result<Option<Containerd>> {
        self.task.await.context("starting containerd")?
    }
}

async fn start_machine(
    layout: &Layout,
    settings: &Settings,
    progress: &dyn Progress,
) -> anyhow::Result<Option<Containerd>> {
    if let Some(endpoint) = &settings.runtime_endpoint {
        pod_network::set_up(settings, settings.pod_cidr).await?;
        step(progress, "images", import_elsewhere(layout, endpoint)).await?;
        return Ok(None);
    }
    let containerd = step(progress, "containerd", async {
        pod_network::write_conflist(layout, settings, settings.pod_cidr)?;
        pod_network::set_up(settings, settings.pod_cidr).await?;
        Ok(containerd::start(layout, PAUSE_IMAGE).await?)
    })
    .await?;
    let store = ImageStore { cri: &containerd.cri, socket: layout.containerd_socket() };
    step(progress, "images", async { Ok(store.ensure_built_in(layout, &TOOLS).await?) }).await?;
    Ok(Some(containerd))
}

/// The path of a `unix:` endpoint.
pub fn socket_of(endpoint: &str) -> PathBuf {
    endpoint.strip_prefix("unix://").or(endpoint.strip_prefix("unix:")).unwrap_or(endpoint).into()
}

async fn import_elsewhere(layout: &Layout, endpoint: &str) -> anyhow::Result<()> {
    let socket = socket_of(endpoint);
    let cri = containerd::Cri::connect(&socket).await?;
    let store = ImageStore { cri: &cri, socket };
    if let Err(error) = store.ensure_built_in(layout, &TOOLS).await {
        // Only containerd takes archives this way; another runtime has to be given the images by hand.
        tracing::warn!(%error, endpoint, "cannot put the built-in images into this runtime");
    }
    Ok(())
}

/// Starts what makes this machine a node.
pub fn start(
    supervisor: &Supervisor,
    layout: &Layout,
    settings: &Settings,
    pki: &Pki,
    server: &Arc<Server>,
    own: Option<Containerd>,
) -> anyhow::Result<()> {
    if let Some(containerd) = own {
        keep_containerd(supervisor, layout, containerd);
        // Nodes that join later have pods too; the way to its own is there already.
        let client = clients::local(server, "argosy", clients::user("system:kube-proxy"));
        network::keep_running(supervisor, None, settings, client);
    }
    let client = clients::local(server, "kubelet", clients::node_user(&settings.node_name));
    kubelet::keep(supervisor, kubelet_config(layout, settings, pki)?, client);
    proxy::all_in_one(supervisor, settings, server)
}

/// Starts containerd again whenever it has ended. Its shims and pods do not notice.
pub fn keep_containerd(supervisor: &Supervisor, layout: &Layout, started: Containerd) {
    let layout = layout.clone();
    let first = std::sync::Mutex::new(Some(started));
    supervisor.run("containerd", move |cancel: CancellationToken| {
        let layout = layout.clone();
        let running = first.lock().ok().and_then(|mut first| first.take());
        async move {
            let containerd = match running {
                Some(containerd) => containerd,
                None => containerd::start(&layout, PAUSE_IMAGE).await?,
            };
            match cancel.run_until_cancelled(containerd.ended()).await {
                None => Ok(()),
                Some(ended) => {
                    ended?;
                    Err(anyhow!("process {} ended", containerd.process.pid))
                }
            }
        }
    });
}

fn kubelet_config(layout: &Layout, settings: &Settings, pki: &Pki) -> anyhow::Result<KubeletConfig> {
    let thresholds = settings.eviction_hard.as_deref().unwrap_or(ONE_MACHINE_EVICTION_HARD);
    Ok(KubeletConfig {
        eviction: hard_eviction(thresholds)?,
        // In step with eviction: images go before pods do, and not on a disk that is merely well filled.
        image_gc: ImageGcPolicy { high_threshold_percent: 95, low_threshold_percent: 90, ..ImageGcPolicy::default() },
        kept_images: KeptImages { file: Some(layout.imported_images_file()), ..KubeletConfig::default().kept_images },
        cgroup_root: settings.cgroup_root(),
        node_name: settings.node_name.clone(),
        root_dir: layout.kubelet_dir(),
        pod_logs_dir: layout.log_dir().join("pods"),
        container_runtime_endpoint: settings.runtime_endpoint.clone().unwrap_or_else(|| layout.containerd_endpoint()),
        cluster_dns: vec![settings.dns_ip.to_string()],
        cluster_domain: settings.cluster_domain.clone(),
        resolv_conf: resolv_conf(),
        node_ip: Some(settings.node_ip.to_string()),
        static_pod_path: Some(layout.static_pods_dir()),
        serving: Some(Serving {
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: settings.ports.kubelet,
            tls_cert_file: pki.cert("kubelet"),
            tls_private_key_file: pki.key("kubelet"),
            client_ca_file: pki.cert("ca"),
        }),
        ..KubeletConfig::default()
    })
}

pub fn resolv_conf() -> Option<PathBuf> {
    RESOLV_CONFS.iter().map(PathBuf::from).find(|path| path.exists())
}

/// Waits until the node says of itself that it is Ready; what it said before `since` counts for nothing, since its kubelet
/// may have died then.
pub async fn wait_ready(client: &Client, name: &str, since: Option<Timestamp>) -> anyhow::Result<()> {
    const PAUSE: Duration = Duration::from_millis(20);
    let (leases, nodes) = (client.namespaced::<Lease>("kube-node-lease"), client.all::<Node>());
    let ready = async || {
        let renewed = match since {
            Some(since) => leases.find(name).await?.is_some_and(|lease| renewed_after(&lease, since)),
            None => true,
        };
        Ok(renewed && nodes.find(name).await?.is_some_and(|node| is_ready(&node)))
    };
    while !clients::patiently(ready).await? {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// The nodes that are short of something, so that the scheduler leaves them out, each with what it is called.
pub async fn under_pressure(client: &Client) -> client::Result<Vec<(String, String)>> {
    const KINDS: [&str; 3] = ["MemoryPressure", "DiskPressure", "PIDPressure"];
    let nodes = client.all::<Node>().list(&ListParams::default()).await?;
    let of = |node: Node| {
        let name = node.metadata.name.unwrap_or_default();
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        let short = conditions.into_iter().filter(|c| KINDS.contains(&&*c.type_) && c.status == "True");
        short.map(move |condition| (name.clone(), condition.type_)).collect::<Vec<_>>()
    };
    Ok(nodes.items.into_iter().flat_map(of).collect())
}

/// Deletes the node; that it is not there is success.
pub async fn forget(client: &Client, name: &str) -> anyhow::Result<()> {
    let nodes = client.all::<Node>();
    if nodes.find(name).await?.is_some() {
        nodes.delete(name, &DeleteParams::default()).await?;
    }
    Ok(())
}

fn renewed_after(lease: &Lease, since: Timestamp) -> bool {
    let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
    renewed.is_some_and(|renewed| renewed.0 >= since)
}

pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|list| list.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}
