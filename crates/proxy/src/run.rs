//! The loop: what the informers tell is collected, planned and written, at once and then at most every so often.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use client::{
    Client, Delta, Informer, InformerFactory, Kind, ListParams, ObjectKey, SystemClock,
    kinds::{
        core::v1::{Node, Service},
        discovery::v1::EndpointSlice,
    },
};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Conntrack, ConntrackCli, Health, HealthError, NftCli, NftError, NodeView, Planner, ProxyConfig, Stale,
    health::HealthCheckPorts, nft::Writer, stale_flows,
};

/// Services that another proxy cares for, and endpoints of headless Services, are none of ours.
const SELECTOR: &str = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name";
/// Index of EndpointSlices by Service: `NAMESPACE/NAME`.
const BY_SERVICE: &str = "service";
/// After a failed write, doubling.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How long chains of no more use stay: kernels before 6.2 notice late that nothing names them.
const STALE_AFTER: Duration = Duration::from_secs(1);
/// The taint of a node that an autoscaler is about to remove.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error(transparent)]
    Health(#[from] HealthError),
}

/// What changed since the last write.
#[derive(Default)]
struct Dirty {
    services: BTreeSet<ObjectKey>,
    node: bool,
}

#[derive(Clone)]
struct Changes {
    dirty: Arc<Mutex<Dirty>>,
    notify: Arc<Notify>,
    health: Health,
}

impl Changes {
    fn add(&self, change: impl FnOnce(&mut Dirty)) {
        change(&mut self.dirty.lock());
        self.health.queued();
        self.notify.notify_one();
    }
}

pub struct Proxy {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    nodes: Informer<Node>,
    node: NodeView,
    planner: Planner,
    writer: Writer,
    conntrack: Box<dyn Conntrack>,
    config: ProxyConfig,
    changes: Changes,
    ports: HealthCheckPorts,
    /// Whether conntrack may hold UDP flows to endpoints that are gone.
    flows_stale: bool,
}

impl Proxy {
    /// Keeps the kernel's rules as the Services want them until `cancel`. The rules stay; [`crate::cleanup`] removes
    /// them. Fails only when it cannot listen for health checks.
    pub async fn run(config: ProxyConfig, client: Client, cancel: CancellationToken) -> Result<(), ProxyError> {
        let health = Health::new(Arc::new(SystemClock));
        if let Some(address) = config.healthz_bind_address {
            health.serve(address, cancel.clone()).await?;
        }
        let factory = InformerFactory::new(client);
        let proxy = Proxy::new(config, &factory, health, &cancel);
        factory.start(cancel.clone());
        tokio::select! {
            () = cancel.cancelled() => {}
            () = proxy.sync_forever(factory) => {}
        }
        Ok(())
    }

    fn new(config: ProxyConfig, factory: &InformerFactory, health: Health, cancel: &CancellationToken) -> Proxy {
        let selected = ListParams { label_selector: Some(SELECTOR.to_owned()), ..ListParams::default() };
        let own = format!("metadata.name={}", config.node_name);
        let own = ListParams { field_selector: Some(own), ..ListParams::default() };
        let changes = Changes { dirty: Arc::default(), notify: Arc::default(), health: health.clone() };
        let proxy = Proxy {
            services: factory.informer_with(selected.clone()),
            slices: factory.informer_with(selected),
            nodes: factory.informer_with(own),
            node: NodeView { name: config.node_name.clone(), zone: String::new() },
            planner: Planner::new(config.rules.clone()),
            writer: Writer::new(config.table(), Box::new(NftCli::new(&config.nft))),
            conntrack: Box::new(ConntrackCli::new(&config.conntrack)),
            ports: HealthCheckPorts::new(config.rules.family, health, cancel.clone()),
            changes,
            config,
            flows_stale: true,
        };
        proxy.observe();
        proxy
    }

    fn observe(&self) {
        let changes = self.changes.clone();
        self.services.on_event(move |delta| {
            changes.add(|dirty| dirty.services.extend([delta.object().key()]));
        });
        let changes = self.changes.clone();
        self.slices.add_index(BY_SERVICE, |slice| {
            ObjectKey::of_service(slice).map(|key| key.to_string()).into_iter().collect()
        });
        self.slices.on_event(move |delta| {
            let old = match delta {
                Delta::Updated { old, .. } => ObjectKey::of_service(old),
                _ => None,
            };
            changes.add(|dirty| dirty.services.extend(ObjectKey::of_service(delta.object()).into_iter().chain(old)));
        });
        let (changes, name) = (self.changes.clone(), self.node.name.clone());
        self.nodes.on_event(move |delta| {
            // A node's status changes all the time, and none of that matters here.
            let is_same = matches!(delta, Delta::Updated { old, new } if zone(old) == zone(new));
            if delta.object().name() == name {
                changes.health.set_node_eligible(!matches!(delta, Delta::Deleted(_)) && is_eligible(delta.object()));
                if !is_same {
                    changes.add(|dirty| dirty.node = true);
                }
            }
        });
    }

    async fn sync_forever(mut self, factory: InformerFactory) {
        factory.wait_for_sync().await;
        // Also without any Service the table is written.
        self.changes.notify.notify_one();
        let mut retry = RETRY_MIN;
        let mut next_clean_up = None;
        let notify = self.changes.notify.clone();
        loop {
            let stale = match next_clean_up {
                None => {
                    notify.notified().await;
                    Stale::Keep
                }
                Some(at) => tokio::select! {
                    () = notify.notified() => Stale::Keep,
                    () = tokio::time::sleep_until(at) => Stale::Delete,
                },
            };
            let started = Instant::now();
            match self.sync(stale).await {
                Ok(changes) => {
                    retry = RETRY_MIN;
                    tracing::debug!(changes, elapsed = ?started.elapsed(), "rules written");
                }
                Err(error) => {
                    tracing::error!(%error, "cannot write rules, writing all of them again in {retry:?}");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MAX);
                    notify.notify_one();
                }
            }
            let has_stale = self.writer.has_stale(self.planner.ruleset());
            next_clean_up = has_stale.then(|| Instant::now() + STALE_AFTER);
            tokio::time::sleep_until(started + self.config.min_sync_period).await;
        }
    }

    async fn sync(&mut self, stale: Stale) -> Result<usize, NftError> {
        let dirty = std::mem::take(&mut *self.changes.dirty.lock());
        let keys = self.refresh_node(dirty);
        for key in &keys {
            let service = self.services.get(&key.namespace, &key.name);
            let slices = self.slices.by_index(BY_SERVICE, &key.to_string());
            self.flows_stale |= self.planner.set(key, service.as_deref(), &slices, &self.node);
        }
        for key in &keys {
            let check = self.planner.fragments().get(key).and_then(|fragment| fragment.health_check.as_ref());
            self.ports.set(key, check).await;
        }
        let changes = self.writer.write(self.planner.ruleset(), stale).await?;
        let more = !self.changes.dirty.lock().services.is_empty();
        self.changes.health.written(more);
        if std::mem::take(&mut self.flows_stale) {
            self.end_stale_flows().await;
        }
        Ok(changes)
    }

    /// The Services to plan: those that changed, or all where the node's place did.
    fn refresh_node(&mut self, dirty: Dirty) -> BTreeSet<ObjectKey> {
        let mut keys = dirty.services;
        if dirty.node {
            let node = self.nodes.get("", &self.node.name);
            let zone = node.as_deref().map(zone).unwrap_or_default().to_owned();
            if zone != self.node.zone {
                self.node.zone = zone;
                keys.extend(self.services.list().iter().map(|service| service.key()));
            }
        }
        keys
    }

    async fn end_stale_flows(&self) {
        let frontends = || self.planner.fragments().values().flat_map(|fragment| &fragment.udp);
        if frontends().next().is_none() {
            return;
        }
        let ended = async {
            let flows = self.conntrack.udp_flows(self.config.rules.family).await?;
            let stale = stale_flows(flows, frontends());
            if stale.is_empty() { Ok(()) } else { self.conntrack.delete(&stale).await }
        };
        if let Err(error) = ended.await {
            tracing::warn!(%error, "cannot end UDP flows to endpoints that are gone");
        }
    }
}

fn zone(node: &Node) -> &str {
    let labels = node.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get("topology.kubernetes.io/zone")).map(String::as_str).unwrap_or_default()
}

fn is_eligible(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    node.metadata.deletion_timestamp.is_none() && taints.into_iter().all(|taint| taint.key != TO_BE_DELETED)
}
