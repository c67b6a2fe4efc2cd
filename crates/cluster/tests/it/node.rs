//! A real containerd below a temporary folder: started, filled with the built-in images, a pod run on it, all of it taken
//! off the machine again. Needs root, as a node does.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cluster::containerd::{self, Containerd, network};
use cluster::images::{ImageStore, PAUSE_IMAGE, argosy_image};
use cluster::layout::{Cidr, Layout, Settings};
use cluster::progress::Silent;
use cluster::supervise::processes_with_argument;
use k8s_cri::v1;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;

fn settings() -> Settings {
    let mut settings = Settings::new("node-1", [127, 0, 0, 1].into());
    settings.instance = "it".into();
    settings.cluster_cidr = Cidr::v4([10, 213, 0, 0], 16);
    settings.pod_cidr = Cidr::v4([10, 213, 7, 0], 24);
    settings
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn links() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").expect("interfaces").flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn store(node: &Containerd, layout: &Layout) -> ImageStore<'static> {
    // The connection lives as long as the test.
    ImageStore { cri: Box::leak(Box::new(node.cri.clone())), socket: layout.containerd_socket() }
}

/// A sandbox with a host port and one container of the binary's own image, through CRI.
async fn run_pod(socket: &Path, container_args: &[&str]) -> (String, String, String) {
    let path = socket.to_owned();
    let channel = tonic::transport::Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_: tonic::transport::Uri| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
        }))
        .await
        .expect("connected");
    let mut runtime = RuntimeServiceClient::new(channel);
    let config = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata { name: "p".into(), uid: "u".into(), namespace: "n".into(), attempt: 0 }),
        hostname: "p".into(),
        port_mappings: vec![v1::PortMapping {
            protocol: 0,
            container_port: 80,
            host_port: 28080,
            host_ip: String::new(),
        }],
        linux: Some(v1::LinuxPodSandboxConfig { cgroup_parent: "/kubepods/podargosy-it".into(), ..Default::default() }),
        ..Default::default()
    };
    let request = v1::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
    let sandbox = runtime.run_pod_sandbox(request).await.expect("a sandbox").into_inner().pod_sandbox_id;
    let container = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "c".into(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: argosy_image(), ..Default::default() }),
        args: container_args.iter().map(|a| (*a).to_owned()).collect(),
        linux: Some(v1::LinuxContainerConfig::default()),
        ..Default::default()
    };
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: sandbox.clone(),
        config: Some(container),
        sandbox_config: Some(config),
    };
    let id = runtime.create_container(request).await.expect("a container").into_inner().container_id;
    let start = v1::StartContainerRequest { container_id: id.clone() };
    runtime.start_container(start).await.expect("started");
    let status = v1::PodSandboxStatusRequest { pod_sandbox_id: sandbox.clone(), verbose: false };
    let status = runtime.pod_sandbox_status(status).await.expect("a status").into_inner().status;
    let ip = status.and_then(|s| s.network).map(|n| n.ip).unwrap_or_default();
    (sandbox, id, ip)
}

fn assert_nothing_left(layout: &Layout, links_before: &[String]) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let root = layout.root().to_string_lossy().into_owned();
    assert!(!mounts.contains(&root), "mounts are left: {mounts}");
    let socket = layout.containerd_socket().to_string_lossy().into_owned();
    assert!(processes_with_argument("containerd-shim-runc-v2", &socket).is_empty(), "shims are left");
    let config = layout.containerd_config().to_string_lossy().into_owned();
    assert!(processes_with_argument("containerd", &config).is_empty(), "containerd is left");
    assert_eq!(links(), links_before, "interfaces are left");
    assert!(!said("nft", &["list", "tables"]).contains("argosy-masq-it"), "the masquerading is left");
    assert!(!said("iptables-save", &["-t", "nat"]).contains("argosy-it"), "port mappings are left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_comes_up_runs_a_pod_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (layout, settings) = (Layout::new(folder.path()), settings());
    let links_before = links();
    network::write_conflist(&layout, &settings, settings.pod_cidr).expect("written");
    network::set_up(&settings, settings.pod_cidr).await.expect("set up");
    network::set_up(&settings, settings.pod_cidr).await.expect("set up again");

    let begin = Instant::now();
    let node = containerd::start(&layout, PAUSE_IMAGE).await.expect("containerd");
    println!("containerd {} ready after {:?}", node.version, begin.elapsed());
    let images = store(&node, &layout);
    let begin = Instant::now();
    let imported = images.ensure_built_in(&layout, &["hello"]).await.expect("imported");
    println!("images imported after {:?}", begin.elapsed());
    assert_eq!(imported, [PAUSE_IMAGE.to_owned(), argosy_image()]);
    let begin = Instant::now();
    assert!(images.ensure_built_in(&layout, &["hello"]).await.expect("looked up").is_empty(), "imported twice");
    println!("images found after {:?}", begin.elapsed());

    // This test's own program is in the image; `--list` is what it does without side effects, and then it ends.
    let (_, _, ip) = run_pod(&layout.containerd_socket(), &["--list"]).await;
    assert!(settings.pod_cidr.contains(ip.parse().expect("an address")), "{ip}");
    assert!(said("iptables-save", &["-t", "nat"]).contains("argosy-it"), "the host port is mapped");

    let again = containerd::start(&layout, PAUSE_IMAGE).await.expect("taken over");
    assert!(again.adopted && again.process == node.process);
    containerd::stop(&layout).await.expect("stopped");
    let shims = || {
        let socket = layout.containerd_socket().to_string_lossy().into_owned();
        processes_with_argument("containerd-shim-runc-v2", &socket).len()
    };
    assert_eq!(shims(), 1, "the pod goes on without containerd");
    let back = containerd::start(&layout, PAUSE_IMAGE).await.expect("back");
    assert!(!back.adopted);
    assert_eq!(back.cri.sandboxes().await.expect("listed").len(), 1, "the pod is known again");

    let begin = Instant::now();
    containerd::take_down(&layout, &settings, Duration::from_secs(1), &Silent).await.expect("down");
    println!("down after {:?}", begin.elapsed());
    assert_nothing_left(&layout, &links_before);

    // Once more, with containerd killed before: no runtime helps to clean up.
    let node = containerd::start(&layout, PAUSE_IMAGE).await.expect("containerd");
    assert!(store(&node, &layout).ensure_built_in(&layout, &["hello"]).await.expect("kept").is_empty());
    run_pod(&layout.containerd_socket(), &["--list"]).await;
    node.process.signal(cluster::supervise::Signal::KILL).expect("killed");
    node.ended().await.expect("gone");
    assert_eq!(shims(), 1);
    let bundles = layout.containerd_state().join("io.containerd.runtime.v2.task/k8s.io");
    let bundle = fs::read_dir(bundles).expect("bundles").flatten().next().expect("a bundle");
    let address = fs::read_to_string(bundle.path().join("address")).expect("an address");
    let shim_socket = Path::new(address.trim().strip_prefix("unix://").expect("a socket"));
    assert!(shim_socket.exists());
    containerd::take_down(&layout, &settings, Duration::from_secs(1), &Silent).await.expect("down");
    assert_nothing_left(&layout, &links_before);
    assert!(!shim_socket.exists(), "the shim's socket is left");
}
