//! kube-apiserver.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use apiserver::{Config, EndpointReconciler, KubeletAccess, RuntimeConfig, Server, ServiceAccountKeys, SystemClock};
use clap::{Args, ValueEnum};
use cluster::{
    layout::{Layout, Settings},
    machine,
    pki::Pki,
};
use net::{
    server::{ServeOptions, serve_tls},
    tls::{ClientTls, Identity, Pem, ServerTls, Trust, client_config, server_config},
};
use store::Store;
use tokio_util::sync::CancellationToken;

use super::{KUBERNETES_VERSION, host_name, read, storage::StorageFlags};
use crate::{
    flags::{GoDuration, PortRange},
    listeners,
    logging::LogFlags,
};

/// How long requests may go on once nothing new is taken (upstream: `--request-timeout`).
const DRAIN: Duration = Duration::from_secs(60);
/// The same where the whole cluster ends with the server: nobody else could answer.
const DRAIN_OF_ALL: Duration = Duration::from_secs(5);

#[derive(Args, Clone, Debug)]
pub struct Flags {
    #[command(flatten)]
    storage: StorageFlags,
    /// How long events are kept
    #[arg(long, default_value = "1h", help_heading = "Storage")]
    event_ttl: GoDuration,

    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0", help_heading = "Serving")]
    bind_address: IpAddr,
    /// Port to listen on
    #[arg(long, default_value_t = 6443, help_heading = "Serving")]
    secure_port: u16,
    /// Address that the Service `kubernetes` leads to; the machine's where nothing is said
    #[arg(long, help_heading = "Serving")]
    advertise_address: Option<IpAddr>,
    /// Certificate to serve with
    #[arg(long, help_heading = "Serving")]
    tls_cert_file: PathBuf,
    /// Key of --tls-cert-file
    #[arg(long, help_heading = "Serving")]
    tls_private_key_file: PathBuf,
    /// Which built-in APIs are on: GROUP/VERSION[/RESOURCE]=true|false, or api/all, api/ga, api/beta, api/alpha
    #[arg(long, value_delimiter = ',', help_heading = "Serving")]
    runtime_config: Vec<String>,
    /// Reading requests at a time
    #[arg(long, default_value_t = 400, help_heading = "Serving")]
    max_requests_inflight: usize,
    /// Writing requests at a time
    #[arg(long, default_value_t = 200, help_heading = "Serving")]
    max_mutating_requests_inflight: usize,
    /// Who keeps the endpoints of the Service `kubernetes`: the servers, each by a lease, or somebody else
    #[arg(long, value_enum, default_value_t, help_heading = "Serving")]
    endpoint_reconciler_type: ReconcilerType,
    /// How long to serve on after SIGTERM, while /readyz fails already and before connections are no longer taken
    #[arg(long, default_value = "0s", help_heading = "Serving")]
    shutdown_delay_duration: GoDuration,
    /// How likely a request makes its HTTP/2 connection end, so that clients spread over the servers: 0 to 0.02
    #[arg(long, default_value_t = 0.0, help_heading = "Serving")]
    goaway_chance: f64,

    /// Authorities whose client certificates are users
    #[arg(long, help_heading = "Identity")]
    client_ca_file: Option<PathBuf>,
    /// Public (or private) keys that service account tokens are checked with
    #[arg(long, help_heading = "Identity")]
    service_account_key_file: Vec<PathBuf>,
    /// Private key that service account tokens are signed with
    #[arg(long, help_heading = "Identity")]
    service_account_signing_key_file: PathBuf,
    /// Issuer in service account tokens
    #[arg(long, default_value = "https://kubernetes.default.svc.cluster.local", help_heading = "Identity")]
    service_account_issuer: String,
    /// Audiences that tokens for this server name; the issuer where nothing is said
    #[arg(long, value_delimiter = ',', help_heading = "Identity")]
    api_audiences: Vec<String>,
    /// Take tokens out of Secrets of type bootstrap.kubernetes.io/token in kube-system
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set, help_heading = "Identity")]
    enable_bootstrap_token_auth: bool,
    /// Authorizers; Node and RBAC always both decide
    #[arg(long, value_delimiter = ',', default_value = "Node,RBAC", help_heading = "Identity")]
    authorization_mode: Vec<String>,

    /// Range of ClusterIPs
    #[arg(long, default_value = "10.96.0.0/16", help_heading = "Services")]
    service_cluster_ip_range: String,
    /// Range of node ports
    #[arg(long, default_value = "30000-32767", help_heading = "Services")]
    service_node_port_range: PortRange,

    /// Certificate that this server shows to kubelets
    #[arg(long, requires = "kubelet_client_key", help_heading = "Kubelets")]
    kubelet_client_certificate: Option<PathBuf>,
    /// Key of --kubelet-client-certificate
    #[arg(long, requires = "kubelet_client_certificate", help_heading = "Kubelets")]
    kubelet_client_key: Option<PathBuf>,
    /// Authorities that kubelets' certificates must come from
    #[arg(long, help_heading = "Kubelets")]
    kubelet_certificate_authority: Option<PathBuf>,

    #[command(flatten)]
    pub log: LogFlags,
}

/// `--endpoint-reconciler-type`
#[derive(ValueEnum, Clone, Copy, Debug, Default)]
enum ReconcilerType {
    #[default]
    Lease,
    None,
}

/// What a server is started with, beyond its own configuration.
struct Serving {
    storage: StorageFlags,
    bind_address: IpAddr,
    tls: ServerTls,
    options: ServeOptions,
    /// How long it serves on after it was told to end.
    delay: Duration,
}

/// An API server that answers.
pub struct Plane {
    pub server: Arc<Server>,
    /// Cancelled when serving ended without having been told to.
    pub failed: CancellationToken,
    /// Ends the listener.
    serving: CancellationToken,
    /// Ends the server behind it.
    stop: CancellationToken,
    delay: Duration,
    task: tokio::task::JoinHandle<()>,
    store: Arc<dyn Store>,
}

impl Plane {
    async fn start(config: Config, serving: Serving) -> anyhow::Result<Plane> {
        let claim = listeners::Claim::new("kube-apiserver", serving.bind_address, config.secure_port)?;
        let tls = server_config(serving.tls)?;
        let store = serving.storage.open().await?;
        let stop = CancellationToken::new();
        let server = Server::start(config, store.clone(), Arc::new(SystemClock), stop.clone()).await?;
        let listener = claim.listen()?;
        let listening = CancellationToken::new();
        let serve = serve_tls(listener, tls, listeners::api(server.clone()), serving.options, listening.clone());
        let failed = CancellationToken::new();
        let guard = failed.clone().drop_guard();
        let task = tokio::spawn(async move {
            let _guard = guard;
            serve.await;
        });
        Ok(Plane { server, failed, serving: listening, stop, delay: serving.delay, task, store })
    }

    /// Says that it ends and has nobody led here any more; after the delay takes no new connections, ends watches, lets
    /// requests end; then closes the store (upstream's order: `apiserver/pkg/server/genericapiserver.go`, RunWithContext).
    pub async fn stop(self) -> anyhow::Result<()> {
        tokio::join!(self.server.leave(), tokio::time::sleep(self.delay));
        self.serving.cancel();
        self.server.end_watches();
        // A panic was logged when it happened.
        let _ = self.task.await;
        self.stop.cancel();
        self.store.close().await.context("closing the store")
    }
}

/// The API server as a process of its own, until `cancel`.
pub async fn run(flags: Flags, cancel: CancellationToken) -> anyhow::Result<()> {
    let (config, serving) = flags.into_config()?;
    let plane = Plane::start(config, serving).await?;
    tracing::info!("serving");
    let failed = tokio::select! {
        () = cancel.cancelled() => false,
        () = plane.failed.cancelled() => true,
    };
    let closed = plane.stop().await;
    if failed {
        bail!("serving ended; the log has the cause");
    }
    closed
}

impl Flags {
    fn into_config(self) -> anyhow::Result<(Config, Serving)> {
        self.check()?;
        let advertise_address = match self.advertise_address {
            Some(address) => address,
            None => machine::node_ip().context("--advertise-address is not given")?,
        };
        let keys = &self.service_account_key_file;
        let keys: anyhow::Result<Vec<Arc<[u8]>>> =
            keys.iter().map(|path| Ok(read("service-account-key-file", path)?.into())).collect();
        let issuer = self.service_account_issuer;
        let audiences = if self.api_audiences.is_empty() { vec![issuer.clone()] } else { self.api_audiences };
        let kubelet = match (&self.kubelet_client_certificate, &self.kubelet_client_key) {
            (Some(certificate), Some(key)) => {
                Some(kubelet_access(certificate, key, self.kubelet_certificate_authority.as_deref())?)
            }
            _ => None,
        };
        let config = Config {
            advertise_address,
            secure_port: self.secure_port,
            service_cluster_ip_range: self.service_cluster_ip_range.parse().map_err(anyhow::Error::msg)?,
            service_node_port_range: self.service_node_port_range.0,
            service_account: ServiceAccountKeys {
                issuer,
                api_audiences: audiences,
                signing_key: read("service-account-signing-key-file", &self.service_account_signing_key_file)?.into(),
                verification_keys: keys?,
            },
            kubelet,
            event_ttl: self.event_ttl.0,
            runtime_config: RuntimeConfig::parse(&self.runtime_config).context("--runtime-config")?,
            max_requests_inflight: self.max_requests_inflight,
            max_mutating_requests_inflight: self.max_mutating_requests_inflight,
            client_ca: self.client_ca_file.as_deref().map(text).transpose()?,
            endpoint_reconciler: match self.endpoint_reconciler_type {
                ReconcilerType::Lease => EndpointReconciler::Lease,
                ReconcilerType::None => EndpointReconciler::None,
            },
            host_name: Some(host_name()),
            bootstrap_token_auth: self.enable_bootstrap_token_auth,
            git_version: KUBERNETES_VERSION.into(),
        };
        let tls = ServerTls {
            identity: Identity::files(self.tls_cert_file, self.tls_private_key_file),
            client_cas: self.client_ca_file.into_iter().map(Pem::File).collect(),
        };
        let options = ServeOptions { drain: DRAIN, goaway_chance: self.goaway_chance, ..ServeOptions::default() };
        let delay = self.shutdown_delay_duration.0;
        Ok((config, Serving { storage: self.storage, bind_address: self.bind_address, tls, options, delay }))
    }

    fn check(&self) -> anyhow::Result<()> {
        let mut modes = self.authorization_mode.clone();
        modes.sort();
        if modes != ["Node", "RBAC"] {
            bail!("--authorization-mode: Argosy authorizes with Node,RBAC and with nothing else");
        }
        if self.service_account_key_file.is_empty() {
            bail!("--service-account-key-file is needed to check service account tokens");
        }
        if !(0.0..=0.02).contains(&self.goaway_chance) {
            bail!("--goaway-chance can not be less than 0 or greater than 0.02");
        }
        Ok(())
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn kubelet_access(certificate: &Path, key: &Path, authority: Option<&Path>) -> anyhow::Result<KubeletAccess> {
    let trust = match authority {
        Some(authority) => Trust::Bundle(Pem::File(authority.to_owned())),
        // As upstream without --kubelet-certificate-authority.
        None => Trust::AnyCertificate,
    };
    let identity = Some(Identity::files(certificate, key));
    Ok(KubeletAccess { tls: client_config(ClientTls { trust, identity, server_name: None })? })
}

/// The API server of the one process: everything from the data folder.
pub async fn all_in_one(layout: &Layout, settings: &Settings, pki: &Pki) -> anyhow::Result<Plane> {
    let issuer = format!("https://kubernetes.default.svc.{}", settings.cluster_domain);
    let file = |path: PathBuf| std::fs::read(&path).with_context(|| path.display().to_string());
    let ca = pki.cert("ca");
    let client = (pki.cert("apiserver-kubelet-client"), pki.key("apiserver-kubelet-client"));
    let keys = ServiceAccountKeys {
        api_audiences: vec![issuer.clone()],
        issuer,
        signing_key: file(pki.service_account_key())?.into(),
        verification_keys: vec![file(pki.service_account_public())?.into()],
    };
    let config = Config {
        service_cluster_ip_range: settings.service_cidr.to_string().parse().map_err(anyhow::Error::msg)?,
        kubelet: Some(kubelet_access(&client.0, &client.1, Some(&ca))?),
        client_ca: Some(text(&ca)?),
        host_name: Some(settings.node_name.clone()),
        bootstrap_token_auth: true,
        git_version: KUBERNETES_VERSION.into(),
        ..Config::new(settings.node_ip, settings.ports.apiserver, keys)
    };
    let tls = ServerTls {
        identity: Identity::files(pki.cert("apiserver"), pki.key("apiserver")),
        client_cas: vec![Pem::File(ca)],
    };
    let bind_address = Ipv4Addr::UNSPECIFIED.into();
    let storage = StorageFlags::embedded(layout.store_dir());
    let options = ServeOptions { drain: DRAIN_OF_ALL, ..ServeOptions::default() };
    Plane::start(config, Serving { storage, bind_address, tls, options, delay: Duration::ZERO }).await
}
