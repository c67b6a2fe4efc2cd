//! kube-apiserver: the request path from connection to store. The only crate that names `store`.
//!
//! [`pipeline`] lists the steps of a request in order; [`rest`] has the verbs, once for all resources; [`cache`] is what
//! reads and watches are served from; [`strategy`] is where kinds differ.

mod admission;
mod alloc;
pub mod auth;
mod bootstrap;
mod cache;
mod clock;
mod components;
mod config;
mod connect;
mod definitions;
mod filter;
mod metrics;
mod negotiate;
mod nonresource;
mod own;
mod pages;
mod peers;
mod pipeline;
mod request;
mod rest;
mod strategy;
mod subresource;
mod table;

use std::{sync::Arc, time::Duration};

use api::{Model, Resource, ResourceTable};
use arc_swap::ArcSwap;
use net::tls::{ClientTls, ReloadingClientConfig, TlsError, Trust, client_config};
use store::Store;
use tokio_util::sync::CancellationToken;

pub use api::enablement::RuntimeConfig;
pub use auth::UserInfo;
pub use clock::{Clock, SystemClock};
pub use config::{Config, EndpointReconciler, KubeletAccess, ServiceAccountKeys};

/// A running API server, whatever carries requests to it.
pub struct Server {
    pub(crate) config: Config,
    pub(crate) model: &'static Model,
    pub(crate) resources: ArcSwap<ResourceTable>,
    pub(crate) definitions: definitions::Definitions,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Arc<cache::Cache>,
    pub(crate) pages: pages::Pages,
    pub(crate) admission: admission::Chain,
    pub(crate) authentication: auth::Authentication,
    pub(crate) authorization: auth::Authorization,
    pub(crate) clock: Arc<dyn Clock>,
    /// Ends everything.
    pub(crate) shutdown: CancellationToken,
    /// Ends watches: with everything, or before.
    pub(crate) watches: CancellationToken,
    pub(crate) peers: peers::Peers,
    pub(crate) documents: nonresource::Documents,
    pub(crate) flights: pipeline::Flights,
    pub(crate) metrics: Arc<metrics::Metrics>,
    /// For those who are asked whatever their certificate: pods, whose cannot be one for their address (upstream:
    /// `CreateProxyTransport`, controlplane/apiserver), and components on this machine.
    pub(crate) unverified: Arc<ReloadingClientConfig>,
}

/// How long a server that starts may take to learn what has happened lately; it takes it a fraction of a second.
const CATCH_UP: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("loading the store: {0}")]
    Store(#[from] store::Error),
    #[error(transparent)]
    Behind(#[from] cache::Behind),
    #[error("service account keys: {0}")]
    Keys(String),
    #[error("metrics: {0}")]
    Metrics(String),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("creating what a cluster starts with: {0}")]
    Bootstrap(Box<api::Status>),
}

impl Server {
    /// Loads the store, makes what every cluster starts with, and follows the store until `shutdown`. An orderly end is
    /// [`leave`](Self::leave), then [`end_watches`](Self::end_watches) with the listeners, then `shutdown`.
    pub async fn start(
        config: Config,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Result<Arc<Server>, StartError> {
        let table = ResourceTable::builtin();
        let metrics = Arc::new(
            metrics::Metrics::new(&config.git_version).map_err(|error| StartError::Metrics(error.to_string()))?,
        );
        let store: Arc<dyn Store> = Arc::new(metrics::MeasuredStore::new(store, table, metrics.clone()));
        let definitions = definitions::Definitions::load(&*store, table.served(&config.runtime_config)).await?;
        let cache = cache::Cache::new(store.clone(), table.resources().cloned().chain(definitions.stored()));
        let revision = cache.load_history().await?;
        tokio::spawn(cache.clone().run(revision, shutdown.clone()));
        cache.wait_for(store.revision().await?, CATCH_UP).await?;
        let authentication =
            auth::Authentication::new(&config, cache.clone(), clock.clone()).map_err(StartError::Keys)?;
        let authorization = auth::Authorization::new(cache.clone());
        let server = Arc::new(Server {
            model: Model::builtin(),
            resources: ArcSwap::from_pointee(definitions.table()),
            definitions,
            store,
            cache,
            pages: pages::Pages::default(),
            admission: admission::standard(),
            authentication,
            authorization,
            clock,
            watches: shutdown.child_token(),
            shutdown,
            peers: peers::Peers::default(),
            documents: nonresource::Documents::default(),
            flights: pipeline::Flights::default(),
            metrics,
            unverified: client_config(ClientTls { trust: Trust::AnyCertificate, identity: None, server_name: None })?,
            config,
        });
        bootstrap::run(&server).await.map_err(|status| StartError::Bootstrap(Box::new(status)))?;
        peers::join(&server).await;
        tokio::spawn(definitions::run(server.clone()));
        tokio::spawn(bootstrap::flow::run(server.clone()));
        tokio::spawn(alloc::repair::run(server.clone(), server.shutdown.clone()));
        Ok(server)
    }

    /// Objects that go away by themselves: events.
    pub(crate) fn ttl(&self, resource: &Resource) -> Option<Duration> {
        (&*resource.plural == "events").then_some(self.config.event_ttl)
    }

    pub(crate) fn resource(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.resources.load().find(group, version, plural).cloned()
    }
}
