//! Which controllers run, and what they share: one informer per kind, one client, one clock.

use std::{collections::BTreeSet, future::Future, sync::Arc};

use client::{
    Client, Clock, EventRecorder, Informer, InformerFactory, Kind, ListParams, ObjectKey, SystemClock, WorkQueue,
};
use futures_util::{FutureExt, future::BoxFuture};
use tokio_util::sync::CancellationToken;

use crate::{
    executor::Executor,
    expectations::ShownResources,
    registry::{CONTROLLERS, Entry},
    runtime::{LiveController, Runner},
    signer::Signer,
};

/// What kube-controller-manager's flags say.
#[derive(Clone)]
pub struct ControllerManagerConfig {
    /// `--controllers`: upstream's names, `*` for all that are on by default, `-name` to leave one out.
    pub controllers: Vec<String>,
    /// `--cluster-cidr`; several, one per family, separated by commas. Empty: no node gets a podCIDR.
    pub cluster_cidr: String,
    /// `--node-cidr-mask-size` for IPv4 (default 24).
    pub node_cidr_mask_size: u8,
    /// `--service-cluster-ip-range`; kept out of the podCIDRs.
    pub service_cidr: String,
    /// What `kube-root-ca.crt` tells pods.
    pub root_ca_pem: String,
    /// `--node-monitor-grace-period` (default 50 s).
    pub node_monitor_grace_period: std::time::Duration,
    /// `--terminated-pod-gc-threshold` (default 12500).
    pub terminated_pod_gc_threshold: usize,
    /// Signs approved certificate requests; `None`: none are signed.
    pub signer: Option<Arc<dyn Signer>>,
    /// Name of this machine in events.
    pub host: String,
    pub clock: Arc<dyn Clock>,
}

impl Default for ControllerManagerConfig {
    fn default() -> Self {
        ControllerManagerConfig {
            controllers: vec!["*".into()],
            cluster_cidr: "10.244.0.0/16".into(),
            node_cidr_mask_size: 24,
            service_cidr: "10.96.0.0/12".into(),
            root_ca_pem: String::new(),
            node_monitor_grace_period: std::time::Duration::from_secs(50),
            terminated_pod_gc_threshold: 12500,
            signer: None,
            host: String::new(),
            clock: Arc::new(SystemClock),
        }
    }
}

/// What a controller registers itself with: gives it shared informers and a queue, takes the controller.
pub struct Setup {
    pub config: Arc<ControllerManagerConfig>,
    pub client: Client,
    factory: InformerFactory,
    shown: ShownResources,
    runners: Vec<Runner>,
    background: Vec<BoxFuture<'static, ()>>,
    cancel: CancellationToken,
}

impl Setup {
    pub fn new(config: ControllerManagerConfig, client: Client, cancel: CancellationToken) -> Self {
        Setup {
            factory: InformerFactory::new(client.clone()),
            shown: ShownResources::default(),
            config: Arc::new(config),
            client,
            runners: Vec::new(),
            background: Vec::new(),
            cancel,
        }
    }

    /// The process's one informer of this kind. What a controller writes to this kind it will see before it plans again.
    pub fn informer<K: Kind>(&self) -> Informer<K> {
        let informer = self.factory.informer::<K>();
        self.shown.add(&informer);
        informer
    }

    /// An informer of the objects `params` selects, for kinds too large to hold whole.
    pub fn informer_with<K: Kind>(&self, params: ListParams) -> Informer<K> {
        self.factory.informer_with::<K>(params)
    }

    pub fn queue(&self, name: &'static str) -> WorkQueue<ObjectKey> {
        WorkQueue::new(name)
    }

    /// Has `controller` planned for every key of `queue`, by so many workers, once all informers have listed.
    pub fn run(&mut self, controller: impl LiveController, queue: WorkQueue<ObjectKey>, workers: usize) {
        let recorder = EventRecorder::new(self.client.clone(), controller.name(), &self.config.host);
        self.runners.push(Runner {
            controller: Arc::new(controller),
            queue,
            executor: Executor::new(self.client.clone(), recorder),
            client: self.client.clone(),
            shown: self.shown.clone(),
            clock: self.config.clock.clone(),
            workers,
        });
    }

    /// Work beside the queues (the garbage collector's monitors); it gets the token that ends it.
    pub fn background<F: Future<Output = ()> + Send + 'static>(&mut self, work: impl FnOnce(CancellationToken) -> F) {
        let work = work(self.cancel.clone());
        self.background.push(work.boxed());
    }

    async fn start(self) {
        let Setup { factory, runners, background, cancel, .. } = self;
        factory.start(cancel.clone());
        let mut tasks: Vec<_> = background.into_iter().map(tokio::spawn).collect();
        tokio::select! {
            () = factory.wait_for_sync() => {}
            () = cancel.cancelled() => {}
        }
        tasks.extend(runners.into_iter().map(|runner| tokio::spawn(runner.run(cancel.clone()))));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a controller ended");
            }
        }
    }
}

/// A name in `--controllers` that no controller has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not in the list of known controllers")]
pub struct UnknownController(pub String);

pub struct ControllerManager;

impl ControllerManager {
    /// Runs the enabled controllers until `cancel`. The caller has won the leader election.
    pub async fn run(
        config: ControllerManagerConfig,
        client: Client,
        cancel: CancellationToken,
    ) -> Result<(), UnknownController> {
        let enabled = enabled(&config.controllers)?;
        let mut setup = Setup::new(config, client, cancel);
        for entry in CONTROLLERS.iter().filter(|entry| enabled.contains(entry.name)) {
            (entry.register)(&mut setup);
        }
        setup.start().await;
        Ok(())
    }
}

/// The names `--controllers` leaves on (controllermanager `IsControllerEnabled`).
fn enabled(list: &[String]) -> Result<BTreeSet<&'static str>, UnknownController> {
    let find = |name: &str| -> Result<&'static Entry, UnknownController> {
        let known = |entry: &&Entry| entry.name == name || entry.alias == name;
        CONTROLLERS.iter().find(known).ok_or_else(|| UnknownController(name.into()))
    };
    let (mut on, mut off, mut star) = (BTreeSet::new(), BTreeSet::new(), false);
    for item in list {
        match item.strip_prefix('-') {
            Some(name) => off.insert(find(name)?.name),
            None if item == "*" => {
                star = true;
                true
            }
            None => on.insert(find(item)?.name),
        };
    }
    if star {
        on.extend(CONTROLLERS.iter().filter(|entry| entry.by_default).map(|entry| entry.name));
    }
    Ok(on.difference(&off).copied().collect())
}
