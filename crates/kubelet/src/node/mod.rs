//! The node object: registered, kept up to date, and vouched for by a Lease (upstream `kubelet_node_status.go`,
//! `component-helpers/apimachinery/lease`).

pub mod conditions;
pub mod machine;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use client::{
    Client, Clock, Error, Kind, PatchKind,
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
    },
    kinds::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{
            ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeDaemonEndpoints, NodeSpec, NodeStatus, Taint,
        },
    },
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cri::{Runtime, RuntimeError};
use crate::eviction::{Pressure, config::EvictionConfig, plan::Condition};
use conditions::Health;
use machine::Machine;
use volumes::resources::amount;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i32 = 40;
const LEASE_EVERY: Duration = Duration::from_secs(10);
/// How often the status is looked at, and how often it is written though nothing changed (upstream's
/// nodeStatusUpdateFrequency and nodeStatusReportFrequency).
const STATUS_EVERY: Duration = Duration::from_secs(10);
const REPORT_EVERY: SignedDuration = SignedDuration::from_secs(300);
/// While the node is not ready, so that it is soon after what it waits for is there.
const STATUS_UNREADY: Duration = Duration::from_millis(250);
/// Upstream's nodeStatusMaxImages.
const MAX_IMAGES: usize = 50;

/// What the node object says that is not measured.
#[derive(Clone, Debug, Default)]
pub struct NodeConfig {
    pub name: String,
    /// Primary first.
    pub addresses: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// `false`: someone else creates the object.
    pub register: bool,
    /// Of the kubelet's HTTPS API.
    pub port: u16,
    pub max_pods: u32,
    pub system_reserved: BTreeMap<String, Quantity>,
    /// Whose hard thresholds pods cannot have either.
    pub eviction: EvictionConfig,
}

pub struct NodeReporter {
    pub client: Client,
    pub config: NodeConfig,
    pub machine: Machine,
    pub runtime: Arc<dyn Runtime>,
    pub pressure: Pressure,
    pub clock: Arc<dyn Clock>,
}

impl NodeReporter {
    pub fn capacity(&self) -> BTreeMap<String, Quantity> {
        self.machine.capacity(self.config.max_pods)
    }

    pub fn allocatable(&self) -> BTreeMap<String, Quantity> {
        let capacity = self.capacity();
        let kept = self.config.eviction.reserved(|name| capacity.get(name).map(amount));
        let kept = kept.into_iter().map(|(name, amount)| (name, Quantity(amount.to_string()))).collect();
        let left = machine::allocatable(&capacity, &self.config.system_reserved);
        machine::allocatable(&left, &kept)
    }

    /// Registers, then reports until `cancel`.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let reporter = self.clone();
        let lease = cancel.run_until_cancelled(async move { reporter.keep_lease().await });
        let status = cancel.run_until_cancelled(async {
            let mut pause = Duration::from_millis(100);
            while let Err(error) = self.register().await {
                tracing::warn!(node = self.config.name, %error, "cannot register the node");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(7));
            }
            self.keep_status().await;
        });
        tokio::join!(lease, status);
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.config.labels.clone();
        let arch = machine::architecture();
        for (key, value) in [
            ("kubernetes.io/hostname", self.config.name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", arch),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", arch),
        ] {
            labels.insert(key.to_owned(), value.to_owned());
        }
        labels
    }

    async fn register(&self) -> Result<(), Error> {
        let api = self.client.all::<Node>();
        let status = self.status(&[]).await;
        if self.config.register {
            let node = Node {
                metadata: ObjectMeta {
                    name: Some(self.config.name.clone()),
                    labels: Some(self.labels()),
                    annotations: Some(BTreeMap::from([(
                        "volumes.kubernetes.io/controller-managed-attach-detach".to_owned(),
                        "true".to_owned(),
                    )])),
                    ..ObjectMeta::default()
                },
                spec: Some(NodeSpec {
                    taints: Some(self.config.taints.clone()).filter(|taints| !taints.is_empty()),
                    ..NodeSpec::default()
                }),
                status: Some(status),
            };
            match api.create(&node).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(error),
            }
        }
        let present = api.get(&self.config.name).await?;
        let labels = present.metadata.labels.clone().unwrap_or_default();
        let missing: BTreeMap<_, _> =
            self.labels().into_iter().filter(|(key, value)| labels.get(key) != Some(value)).collect();
        if !missing.is_empty() && self.config.register {
            let patch = json!({"metadata": {"labels": missing}}).to_string().into_bytes();
            api.patch(&self.config.name, None, PatchKind::Strategic, patch).await?;
        }
        Ok(())
    }

    async fn keep_status(&self) {
        let mut last: Option<(NodeStatus, Timestamp)> = None;
        let mut pressure = self.pressure.watch();
        loop {
            let ready = match self.update(&mut last).await {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::warn!(node = self.config.name, %error, "cannot write node status");
                    true
                }
            };
            let pause = tokio::time::sleep(if ready { STATUS_EVERY } else { STATUS_UNREADY });
            // Pressure is told at once: what is scheduled here meanwhile would be turned away.
            tokio::select! {
                () = pause => {}
                Ok(()) = pressure.changed() => {}
            }
        }
    }

    /// Writes the status if it changed, or was not written for long. Gives back whether the node is ready.
    async fn update(&self, last: &mut Option<(NodeStatus, Timestamp)>) -> Result<bool, Error> {
        let api = self.client.all::<Node>();
        let before = last.as_ref().and_then(|(status, _)| status.conditions.clone());
        let status = self.status(before.as_deref().unwrap_or_default()).await;
        let ready = status
            .conditions
            .iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let now = self.clock.now();
        let due = match last {
            Some((known, at)) => !same(known, &status) || now.duration_since(*at) >= REPORT_EVERY,
            None => true,
        };
        if !due {
            return Ok(ready);
        }
        let present = match api.get(&self.config.name).await {
            Ok(present) => present,
            // Deleted under a running kubelet: it comes back, as upstream's does on its next start.
            Err(error) if error.is_not_found() && self.config.register => {
                *last = None;
                self.register().await?;
                return Ok(ready);
            }
            Err(error) => return Err(error),
        };
        let conditions = present.status.and_then(|status| status.conditions).unwrap_or_default();
        let status = self.status(&conditions).await;
        let patch = json!({"status": replacing_addresses(&status)});
        api.patch(&self.config.name, Some("status"), PatchKind::Strategic, patch.to_string().into_bytes()).await?;
        *last = Some((status, now));
        Ok(ready)
    }

    async fn status(&self, conditions: &[client::kinds::core::v1::NodeCondition]) -> NodeStatus {
        let health = self.health().await;
        let internal = self.config.addresses.iter().map(|address| ("InternalIP", address));
        let addresses = internal.chain([("Hostname", &self.config.name)]);
        let now = self.clock.now();
        NodeStatus {
            addresses: Some(
                addresses.map(|(kind, address)| NodeAddress { type_: kind.into(), address: address.clone() }).collect(),
            ),
            capacity: Some(self.capacity()),
            allocatable: Some(self.allocatable()),
            conditions: Some(conditions::merge(&health, conditions, now)),
            daemon_endpoints: Some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint { port: self.config.port.into() }),
            }),
            images: self.images().await.ok(),
            node_info: Some(self.machine.info.clone()),
            ..NodeStatus::default()
        }
    }

    async fn health(&self) -> Health {
        let mut health = Health {
            memory_pressure: self.pressure.has(Condition::MemoryPressure),
            disk_pressure: self.pressure.has(Condition::DiskPressure),
            pid_pressure: self.pressure.has(Condition::PidPressure),
            ..Health::default()
        };
        match self.runtime.status().await {
            Ok(status) => {
                for condition in status.status.iter().flat_map(|status| &status.conditions) {
                    let text = format!("reason:{} message:{}", condition.reason, condition.message);
                    match condition.r#type.as_str() {
                        "RuntimeReady" if !condition.status => {
                            health.runtime = Some(format!("container runtime not ready: RuntimeReady=false {text}"));
                        }
                        "NetworkReady" if !condition.status => {
                            health.network =
                                Some(format!("container runtime network not ready: NetworkReady=false {text}"));
                        }
                        _ => {}
                    }
                }
            }
            Err(error) => health.runtime = Some(error.to_string()),
        }
        health
    }

    /// The largest images, as upstream lists them.
    async fn images(&self) -> Result<Vec<ContainerImage>, RuntimeError> {
        let mut images = self.runtime.list_images().await?;
        images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
        images.truncate(MAX_IMAGES);
        let shown = images.into_iter().map(|image| {
            let names = image.repo_digests.into_iter().chain(image.repo_tags).take(5).collect();
            ContainerImage { names: Some(names), size_bytes: i64::try_from(image.size).ok() }
        });
        Ok(shown.collect())
    }

    async fn keep_lease(&self) {
        let api = self.client.namespaced::<Lease>(LEASE_NAMESPACE);
        let mut known: Option<Lease> = None;
        let mut pause = Duration::from_millis(200);
        loop {
            match self.renew(&api, known.take()).await {
                Ok(lease) => {
                    known = Some(lease);
                    pause = Duration::from_millis(200);
                    tokio::time::sleep(LEASE_EVERY).await;
                }
                Err(error) => {
                    tracing::debug!(node = self.config.name, %error, "cannot renew the node's lease");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(7));
                }
            }
        }
    }

    async fn renew(&self, api: &client::Api<Lease>, known: Option<Lease>) -> Result<Lease, Error> {
        let present = match known {
            Some(lease) => Some(lease),
            None => api.find(&self.config.name).await?,
        };
        let renew_time = Some(MicroTime(self.clock.now()));
        if let Some(mut lease) = present {
            let spec = lease.spec.get_or_insert_default();
            spec.renew_time = renew_time;
            spec.holder_identity = Some(self.config.name.clone());
            spec.lease_duration_seconds = Some(LEASE_SECONDS);
            return api.update(&lease).await;
        }
        let owner = self.client.all::<Node>().find(&self.config.name).await?;
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.config.name.clone()),
                namespace: Some(LEASE_NAMESPACE.to_owned()),
                owner_references: owner.map(|node| {
                    vec![OwnerReference {
                        api_version: "v1".into(),
                        kind: "Node".into(),
                        name: node.name().to_owned(),
                        uid: node.uid().to_owned(),
                        ..OwnerReference::default()
                    }]
                }),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.config.name.clone()),
                lease_duration_seconds: Some(LEASE_SECONDS),
                renew_time,
                ..LeaseSpec::default()
            }),
        };
        api.create(&lease).await
    }
}

/// Equal but for the time of the heartbeat.
fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let timeless = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    timeless(a) == timeless(b)
}

/// Addresses merge by type, which loses all but one of a type: they are replaced as a whole.
fn replacing_addresses(status: &NodeStatus) -> serde_json::Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Some(addresses) = value.get_mut("addresses").and_then(serde_json::Value::as_array_mut) {
        addresses.push(json!({"$patch": "replace"}));
    }
    value
}
