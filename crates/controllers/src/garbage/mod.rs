//! Garbage collection by owner references (upstream pkg/controller/garbagecollector): objects whose owners are all gone
//! are deleted, foreground deletion waits for blocking dependents, orphaning lets dependents go.

mod decide;
pub mod graph;
mod monitors;

use std::sync::Arc;

use async_trait::async_trait;
use client::{Client, ObjectKey};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use self::{
    decide::{Dependent, Item, OwnerState, Work, decide},
    graph::{Graph, Node},
    monitors::Shared,
};
use crate::{
    manager::Setup,
    metadata::{Meta, MetadataClient},
    plan::Plan,
    runtime::{Context, LiveController},
};

struct GarbageCollector(Arc<Shared>);

/// A reference to a kind the API does not serve (yet); looked at again, as discovery may be behind.
fn unknown_kind(reference: &str) -> client::Error {
    client::Error::Decode { what: "owner reference".into(), message: format!("no resource for {reference}") }
}

impl GarbageCollector {
    async fn observe(&self, uid: &str) -> client::Result<Option<Item>> {
        let Some(node) = self.0.graph.lock().node(uid).cloned() else {
            return Ok(None);
        };
        if node.is_deleting && !node.awaits_dependents && !node.orphans_dependents {
            return Ok(None);
        }
        let latest = self.0.metadata.find(&node.resource, &node.namespace, &node.name).await?;
        let Some(latest) = latest.filter(|latest| latest.uid == uid) else {
            let look = self.0.graph.lock().remove(uid);
            self.0.look(look);
            return Ok(None);
        };
        let work = if node.orphans_dependents {
            Work::Orphan(self.latest_dependents(uid).await?)
        } else if node.awaits_dependents {
            Work::AwaitDependents(self.dependents(uid))
        } else {
            let mut owners = Vec::new();
            for owner in &latest.owner_references {
                owners.push((owner.clone(), self.owner_state(owner, &node).await?));
            }
            Work::Collect { owners, dependents: self.dependents(uid) }
        };
        Ok(Some(Item { resource: node.resource.clone(), latest, work }))
    }

    fn dependents(&self, uid: &str) -> Vec<Dependent> {
        let graph = self.0.graph.lock();
        let dependents = graph.dependents(uid);
        dependents
            .map(|(dependent, node)| Dependent {
                uid: dependent.clone(),
                blocks: node.owners.iter().any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true)),
                awaits_dependents: node.awaits_dependents,
            })
            .collect()
    }

    /// The dependents as they are now, as their references are about to be rewritten.
    async fn latest_dependents(&self, uid: &str) -> client::Result<Vec<(Arc<crate::plan::ResourceId>, Meta)>> {
        let nodes: Vec<Node> = self.0.graph.lock().dependents(uid).map(|(_, node)| node.clone()).collect();
        let mut latest = Vec::new();
        for node in nodes {
            if let Some(meta) = self.0.metadata.find(&node.resource, &node.namespace, &node.name).await? {
                latest.push((node.resource, meta));
            }
        }
        Ok(latest)
    }

    async fn owner_state(
        &self,
        owner: &client::apimachinery::pkg::apis::meta::v1::OwnerReference,
        item: &Node,
    ) -> client::Result<OwnerState> {
        let known = self.0.graph.lock().node(&owner.uid).cloned();
        let is_at = |node: &Node| {
            node.name == owner.name
                && node.resource.kind == owner.kind
                && (!node.resource.namespaced || node.namespace == item.namespace)
        };
        if let Some(node) = known.filter(is_at) {
            return Ok(if node.awaits_dependents { OwnerState::AwaitsDependents } else { OwnerState::Solid });
        }
        let discovered = self.0.discovered.lock().clone();
        let Some(resource) = discovered.by_kind(&owner.api_version, &owner.kind) else {
            return Err(unknown_kind(&format!("{} {}", owner.api_version, owner.kind)));
        };
        if resource.id.namespaced && item.namespace.is_empty() {
            return Ok(OwnerState::Invalid);
        }
        let found = self.0.metadata.find(&resource.id, &item.namespace, &owner.name).await?;
        Ok(match found.filter(|found| found.uid == owner.uid) {
            None => OwnerState::Gone,
            // Not in the graph yet: its deletion would go unnoticed, so this object comes back.
            Some(_) => OwnerState::Unseen,
        })
    }
}

#[async_trait]
impl LiveController for GarbageCollector {
    fn name(&self) -> &'static str {
        "garbage-collector-controller"
    }

    async fn plan(&self, key: &ObjectKey, _: &Context, _: &Client) -> client::Result<Plan> {
        // Until everything has been listed, an owner that is missing may just not have come yet.
        if !*self.0.synced.borrow() {
            let _ = self.0.synced.subscribe().wait_for(|synced| *synced).await;
        }
        let Some(item) = self.observe(&key.name).await? else {
            return Ok(Plan::default());
        };
        let (plan, look) = decide(&item);
        self.0.look(look);
        Ok(plan)
    }
}

pub fn register(setup: &mut Setup) {
    let queue = setup.queue("garbage-collector-controller");
    let shared = Arc::new(Shared {
        graph: Mutex::new(Graph::default()),
        discovered: Mutex::default(),
        queue: queue.clone(),
        metadata: MetadataClient::new(setup.client.transport().clone()),
        changed: Notify::new(),
        synced: watch::Sender::new(false),
    });
    let client = setup.client.clone();
    let monitored = shared.clone();
    setup.background(move |cancel| monitors::run(monitored, client, cancel));
    setup.run(GarbageCollector(shared), queue, 20);
}
