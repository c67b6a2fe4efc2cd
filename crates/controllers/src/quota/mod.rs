//! ResourceQuota status: what a namespace uses of what its quotas limit (upstream pkg/controller/resourcequota, pkg/quota/v1).
//!
//! Pods, services and claims are counted from informers. Other kinds are listed when a quota limits them, and again every
//! few seconds while it does, as nothing here watches every kind.

mod usage;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use api::quantity::Quantity;
use async_trait::async_trait;
use bytes::Bytes;
use client::{
    Client, Delta, Informer, Kind, ObjectKey,
    apimachinery::pkg::api::resource::Quantity as Text,
    kinds::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus, Service},
};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

pub use usage::{Inputs, used};

use crate::{
    discovery::{Discovered, discover},
    manager::Setup,
    metadata::List,
    plan::{Plan, ResourceId},
    runtime::{Context, LiveController},
    shared::{owners, pods},
};

/// How soon kinds that are not watched are counted again.
const RECOUNT: Duration = Duration::from_secs(5);
/// How soon a status that somebody else changed is set right (upstream's `--resource-quota-sync-period`).
const RESYNC: Duration = Duration::from_secs(5 * 60);
/// Between a charge and when what was charged is stored and known here there is less.
const QUIET: Duration = Duration::from_millis(500);
const DISCOVERY_HOLDS: SignedDuration = SignedDuration::from_secs(30);

/// The status that `used` amounts to; a plan of one write or none. Unless the quota has been quiet for a while nothing is
/// taken from what it counts: admission charges before it stores, and what is just being stored cannot be counted here.
pub fn plan(quota: &ResourceQuota, used: &BTreeMap<String, Quantity>, is_quiet: bool) -> Plan {
    let mut plan = Plan::default();
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone()).unwrap_or_default();
    let charged = |name: &str| Quantity::parse(&quota.status.as_ref()?.used.as_ref()?.get(name)?.0).ok();
    let amount = |name: &String| {
        let counted = used.get(name).copied().unwrap_or(Quantity::ZERO);
        let kept = charged(name).filter(|charged| !is_quiet && *charged > counted);
        (name.clone(), Text(kept.unwrap_or(counted).to_string()), kept.is_some())
    };
    let amounts: Vec<(String, Text, bool)> = hard.keys().map(amount).collect();
    if amounts.iter().any(|(.., is_kept)| *is_kept) {
        plan.requeue_after(QUIET);
    }
    let used = amounts.into_iter().map(|(name, amount, _)| (name, amount)).collect();
    let status = ResourceQuotaStatus { hard: Some(hard), used: Some(used) };
    if quota.status.as_ref() != Some(&status) {
        plan.update_status(&ResourceQuota { status: Some(status), ..quota.clone() });
    }
    plan
}

type Changes = Arc<Mutex<HashMap<ObjectKey, Instant>>>;

struct QuotaController {
    quotas: Informer<ResourceQuota>,
    pods: Informer<Pod>,
    services: Informer<Service>,
    claims: Informer<PersistentVolumeClaim>,
    /// When each quota last changed, as far as is known here.
    changed: Changes,
    /// What discovery said, and when.
    discovered: Mutex<Option<(Timestamp, Arc<Discovered>)>>,
}

impl QuotaController {
    /// Objects of a kind by its name in a quota: `secrets`, `count/deployments.apps`.
    async fn count(&self, client: &Client, namespace: &str, resource: &ResourceId) -> client::Result<i64> {
        let mut total = 0;
        let mut token = String::new();
        loop {
            let path = format!("{}?limit=500{token}", resource.path(namespace));
            let body = client.raw(Method::GET, &path, None, Bytes::new()).await?;
            let list: List = serde_json::from_slice(&body).map_err(|error| client::Error::Decode {
                what: resource.resource.to_string(),
                message: error.to_string(),
            })?;
            total += list.items.len() as i64;
            if list.metadata.continue_token.is_empty() {
                return Ok(total);
            }
            token = format!(
                "&continue={}",
                list.metadata.continue_token.replace('=', "%3D").replace('+', "%2B").replace('/', "%2F")
            );
        }
    }

    async fn discovered(&self, client: &Client, now: Timestamp) -> client::Result<Arc<Discovered>> {
        let known = self.discovered.lock().clone();
        if let Some((_, known)) = known.filter(|(at, _)| now.duration_since(*at) < DISCOVERY_HOLDS) {
            return Ok(known);
        }
        let fresh = Arc::new(discover(client).await?);
        *self.discovered.lock() = Some((now, fresh.clone()));
        Ok(fresh)
    }

    async fn other_counts(
        &self,
        client: &Client,
        quota: &ResourceQuota,
        now: Timestamp,
    ) -> client::Result<BTreeMap<String, i64>> {
        let names = usage::other_kinds(quota);
        let mut counts = BTreeMap::new();
        if names.is_empty() {
            return Ok(counts);
        }
        let discovered = self.discovered(client, now).await?;
        for (name, resource, group) in names {
            let found =
                discovered.resources.iter().find(|known| known.id.resource == resource && known.id.group == group);
            if let Some(found) = found {
                counts.insert(name, self.count(client, quota.namespace(), &found.id).await?);
            }
        }
        Ok(counts)
    }
}

#[async_trait]
impl LiveController for QuotaController {
    fn name(&self) -> &'static str {
        "resourcequota-controller"
    }

    async fn plan(&self, key: &ObjectKey, context: &Context, client: &Client) -> client::Result<Plan> {
        let Some(quota) = self.quotas.get(&key.namespace, &key.name) else {
            return Ok(Plan::default());
        };
        let others = self.other_counts(client, &quota, context.now).await?;
        let has_others = !others.is_empty();
        let inputs = Inputs {
            quota: quota.clone(),
            pods: self.pods.list_namespace(&key.namespace),
            services: self.services.list_namespace(&key.namespace),
            claims: self.claims.list_namespace(&key.namespace),
            others,
        };
        let is_quiet = self.changed.lock().get(key).is_none_or(|at| at.elapsed() >= QUIET);
        let mut plan = plan(&quota, &used(&inputs, context.now), is_quiet);
        plan.requeue_after(if has_others { RECOUNT } else { RESYNC });
        Ok(plan)
    }
}

pub fn register(setup: &mut Setup) {
    let quotas = setup.informer::<ResourceQuota>();
    let pods = setup.informer::<Pod>();
    let services = setup.informer::<Service>();
    let claims = setup.informer::<PersistentVolumeClaim>();
    let queue = setup.queue("resourcequota-controller");
    let changed = Changes::default();
    let (to, last) = (queue.clone(), changed.clone());
    quotas.on_event(move |delta| {
        let key = owners::newest(delta).key();
        match delta {
            Delta::Deleted(_) => last.lock().remove(&key),
            _ => last.lock().insert(key.clone(), Instant::now()),
        };
        if !matches!(delta, Delta::Updated { old, new } if old.spec == new.spec) {
            to.add(key);
        }
    });
    // Admission counts what is added; here what is freed, and what slipped past a stale count.
    let (to, known) = (queue.clone(), quotas.clone());
    pods.on_event(move |delta| {
        let is_unchanged = |old: &Arc<Pod>, new: &Arc<Pod>| {
            pods::is_terminal(old) == pods::is_terminal(new)
                && old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
        };
        if !matches!(delta, Delta::Updated { old, new } if is_unchanged(old, new)) {
            known.list_namespace(owners::newest(delta).namespace()).iter().for_each(|quota| to.add(quota.key()));
        }
    });
    fn watch<K: Kind>(informer: &Informer<K>, quotas: &Informer<ResourceQuota>, queue: &client::WorkQueue<ObjectKey>) {
        let (quotas, queue) = (quotas.clone(), queue.clone());
        informer.on_event(move |delta| {
            quotas.list_namespace(owners::newest(delta).namespace()).iter().for_each(|quota| queue.add(quota.key()));
        });
    }
    watch(&services, &quotas, &queue);
    watch(&claims, &quotas, &queue);
    setup.run(QuotaController { quotas, pods, services, claims, changed, discovered: Mutex::default() }, queue, 5);
}
