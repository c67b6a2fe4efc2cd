//! An API server in a temporary folder that listens on a port of its own, with certificates of a cluster.

use std::{net::Ipv4Addr, sync::Arc, time::Duration, time::SystemTime};

use apiserver::{Config, Server, ServiceAccountKeys, SystemClock};
use bench::{Options, Plan, Target};
use bytes::Bytes;
use clap::Parser;
use client::{Client, Kubeconfig, kubeconfig};
use cluster::{
    layout::Layout,
    pki::{self, Pki},
};
use http::Method;
use http_body_util::BodyExt;
use net::{
    server::{Handler, ServeOptions, serve_tls},
    tls::{Identity, Pem, ServerTls, server_config},
};
use store::embedded::{Embedded, EmbeddedOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub struct Harness {
    pub kubeconfig: Kubeconfig,
    pub client: Client,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

pub const NAMESPACE: &str = "argosy-bench-test";

impl Harness {
    pub async fn start() -> Harness {
        net::tls::install_provider();
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(folder.path());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let pki = certificates(&layout, port);
        let stop = CancellationToken::new();
        let store = Arc::new(Embedded::open(EmbeddedOptions::new(folder.path().join("store"))).expect("a store"));
        let config = config(&pki, port);
        let server = Server::start(config, store, Arc::new(SystemClock), stop.clone()).await.expect("a server");
        let handler: Handler =
            Arc::new(move |request| server.handle(request.map(|body| body.map_err(Into::into).boxed_unsync())));
        let identity = Identity::files(pki.cert("apiserver"), pki.key("apiserver"));
        let tls = ServerTls { identity, client_cas: vec![Pem::File(pki.cert("ca"))] };
        let options = ServeOptions { drain: Duration::ZERO, ..ServeOptions::default() };
        tokio::spawn(serve_tls(listener, server_config(tls).expect("TLS"), handler, options, stop.clone()));
        let kubeconfig = kubeconfig::load(layout.kubeconfig("admin")).expect("a kubeconfig");
        let client = Client::from_kubeconfig(&kubeconfig, "test").expect("a client");
        Harness { kubeconfig, client, stop, _folder: folder }
    }

    /// A plan with these flags.
    pub fn plan(&self, arguments: &str) -> Plan {
        let arguments = std::iter::once("bench").chain(arguments.split_whitespace());
        let options = Cli::try_parse_from(arguments).expect("flags").options;
        let target = Target { name: "own".into(), kubeconfig: self.kubeconfig.clone(), pids: vec![std::process::id()] };
        Plan { targets: vec![target], options, bare_server: Vec::new(), namespace: NAMESPACE.into() }
    }

    /// What the server itself counted: answered requests on ConfigMaps with this verb and status.
    pub async fn counted(&self, verb: &str, code: u16) -> u64 {
        let metrics = self.client.raw(Method::GET, "/metrics", None, Bytes::new()).await.expect("metrics");
        let metrics = String::from_utf8_lossy(&metrics).into_owned();
        let wanted = [format!("verb=\"{verb}\""), format!("code=\"{code}\""), "resource=\"configmaps\"".into()];
        let lines = metrics.lines().filter(|line| line.starts_with("apiserver_request_total{"));
        let lines = lines.filter(|line| wanted.iter().all(|label| line.contains(label.as_str())));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).map(|count| count as u64).sum()
    }
}

fn certificates(layout: &Layout, port: u16) -> Pki {
    let pki = Pki::new(layout.pki_dir());
    let identity = pki::Identity {
        roles: pki::Roles::ALL_IN_ONE,
        node_name: "node".into(),
        node_ips: vec![Ipv4Addr::LOCALHOST.into()],
        kubernetes_service_ip: Ipv4Addr::new(10, 96, 0, 1).into(),
        cluster_domain: "cluster.local".into(),
        apiserver_sans: Vec::new(),
    };
    pki.ensure(&identity, SystemTime::now()).expect("certificates");
    let server = format!("https://127.0.0.1:{port}");
    let target = pki::KubeconfigTarget { cluster: "own".into(), server };
    pki::write_kubeconfigs(layout, &pki, &target, None).expect("kubeconfigs");
    pki
}

fn config(pki: &Pki, port: u16) -> Config {
    let issuer = "https://kubernetes.default.svc.cluster.local".to_owned();
    let read = |path: std::path::PathBuf| Arc::from(std::fs::read(path).expect("a key"));
    let keys = ServiceAccountKeys {
        api_audiences: vec![issuer.clone()],
        issuer,
        signing_key: read(pki.service_account_key()),
        verification_keys: vec![read(pki.service_account_public())],
    };
    Config::new(Ipv4Addr::LOCALHOST.into(), port, keys)
}
