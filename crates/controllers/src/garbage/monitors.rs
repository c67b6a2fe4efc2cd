//! One metadata watch per resource, kept in step with discovery (upstream graph_builder.go `syncMonitors`).

use std::{collections::HashMap, sync::Arc, time::Duration};

use client::{Client, ObjectKey, WorkQueue};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::graph::Graph;
use crate::{
    discovery::{Discovered, Resource, discover},
    metadata::{Event, MetadataClient},
    plan::ResourceId,
};

/// What a watch lasts at least: as long as a client of upstream takes for too short.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);

/// What the monitors and the collector share.
pub struct Shared {
    pub graph: Mutex<Graph>,
    pub discovered: Mutex<Arc<Discovered>>,
    pub queue: WorkQueue<ObjectKey>,
    pub metadata: MetadataClient,
    /// Discovery must be asked again.
    pub changed: Notify,
    pub synced: watch::Sender<bool>,
}

impl Shared {
    pub fn look(&self, uids: Vec<String>) {
        for uid in uids {
            self.queue.add(ObjectKey::new("", uid));
        }
    }
}

/// Events are plenty and own nothing (upstream `DefaultIgnoredResources`).
fn is_ignored(resource: &ResourceId) -> bool {
    resource.resource == "events" && (resource.group.is_empty() || resource.group == "events.k8s.io")
}

/// Changes to these change what discovery says.
fn defines_resources(resource: &ResourceId) -> bool {
    matches!(&*resource.resource, "customresourcedefinitions" | "apiservices")
}

/// Starts and ends monitors as resources come and go, until `cancel`.
pub async fn run(shared: Arc<Shared>, client: Client, cancel: CancellationToken) {
    keep_in_step(&shared, &client, &cancel).await;
    // Workers that still wait for the first lists must end too; nothing is taken for gone without asking the API.
    shared.synced.send_replace(true);
}

async fn keep_in_step(shared: &Arc<Shared>, client: &Client, cancel: &CancellationToken) {
    let mut monitors: HashMap<ResourceId, CancellationToken> = HashMap::new();
    loop {
        match discover(client).await {
            Ok(discovered) => {
                sync(shared, &mut monitors, &discovered, cancel).await;
                *shared.discovered.lock() = Arc::new(discovered);
                if !*shared.synced.borrow() {
                    let look = shared.graph.lock().set_synced();
                    shared.look(look);
                    shared.synced.send_replace(true);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the garbage collector cannot discover resources");
                shared.changed.notify_one();
                pause(cancel, Duration::from_secs(1)).await;
            }
        }
        tokio::select! {
            () = shared.changed.notified() => pause(cancel, Duration::from_millis(200)).await,
            () = cancel.cancelled() => return,
        }
        if cancel.is_cancelled() {
            return;
        }
    }
}

async fn pause(cancel: &CancellationToken, time: Duration) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = cancel.cancelled() => {}
    }
}

async fn sync(
    shared: &Arc<Shared>,
    monitors: &mut HashMap<ResourceId, CancellationToken>,
    discovered: &Discovered,
    cancel: &CancellationToken,
) {
    let is_monitored =
        |resource: &&Resource| resource.has_verbs(&["list", "watch", "delete"]) && !is_ignored(&resource.id);
    let wanted: Vec<&Resource> = discovered.resources.iter().filter(is_monitored).collect();
    monitors.retain(|resource, monitor| {
        // A group that did not answer keeps its monitors: absent is not the same as gone.
        let failed = discovered.failed.contains(&format!("{}/{}", resource.group, resource.version));
        let keep = failed || wanted.iter().any(|wanted| wanted.id == *resource);
        if !keep {
            monitor.cancel();
            forget(shared, resource);
        }
        keep
    });
    let mut first_lists = Vec::new();
    for resource in wanted {
        if !monitors.contains_key(&resource.id) {
            let monitor = cancel.child_token();
            monitors.insert(resource.id.clone(), monitor.clone());
            let (listed, first_list) = tokio::sync::oneshot::channel();
            first_lists.push(first_list);
            tokio::spawn(monitor_resource(shared.clone(), Arc::new(resource.id.clone()), listed, monitor));
        }
    }
    // A resource that cannot be listed must not hold up all others for good.
    for first_list in first_lists {
        let _ = tokio::time::timeout(Duration::from_secs(10), first_list).await;
    }
}

fn forget(shared: &Shared, resource: &ResourceId) {
    let mut graph = shared.graph.lock();
    let look: Vec<String> = graph.uids_of(resource).into_iter().flat_map(|uid| graph.remove(&uid)).collect();
    drop(graph);
    shared.look(look);
}

async fn monitor_resource(
    shared: Arc<Shared>,
    resource: Arc<ResourceId>,
    listed: tokio::sync::oneshot::Sender<()>,
    cancel: CancellationToken,
) {
    let mut listed = Some(listed);
    let mut delay = Duration::from_millis(100);
    while !cancel.is_cancelled() {
        let round = follow(&shared, &resource, &mut listed, &mut delay);
        let outcome = tokio::select! {
            outcome = round => outcome,
            () = cancel.cancelled() => return,
        };
        if let Err(error) = outcome {
            tracing::info!(resource = %resource.resource, %error, "metadata watch ended");
            if error.is_not_found() {
                shared.changed.notify_one();
            }
            pause(&cancel, delay).await;
            delay = (delay * 2).min(Duration::from_secs(30));
        }
    }
}

/// Lists, then watches until the resourceVersion is too old or an error.
async fn follow(
    shared: &Shared,
    resource: &Arc<ResourceId>,
    listed: &mut Option<tokio::sync::oneshot::Sender<()>>,
    delay: &mut Duration,
) -> client::Result<()> {
    let mut revision = list(shared, resource).await?;
    *delay = Duration::from_millis(100);
    if let Some(listed) = listed.take() {
        // Nobody waits any more where this took too long.
        let _ = listed.send(());
    }
    loop {
        let started = tokio::time::Instant::now();
        let mut events = match shared.metadata.watch(resource, &revision).await {
            Err(error) if error.is_expired() => return Ok(()),
            events => events?,
        };
        while let Some(event) = events.next().await {
            let look = match event {
                Ok(Event::Bookmark(at)) => {
                    revision = at;
                    continue;
                }
                Ok(Event::Changed(meta)) => {
                    revision.clone_from(&meta.resource_version);
                    shared.graph.lock().observe(resource, meta)
                }
                Ok(Event::Deleted(meta)) => {
                    revision.clone_from(&meta.resource_version);
                    shared.graph.lock().remove(&meta.uid)
                }
                Err(error) if error.is_expired() => return Ok(()),
                Err(error) => return Err(error),
            };
            if defines_resources(resource) {
                shared.changed.notify_one();
            }
            shared.look(look);
        }
        // A server that ends watches as soon as they begin (one that is shutting down) is not asked without pause.
        tokio::time::sleep(SHORTEST_WATCH.saturating_sub(started.elapsed())).await;
    }
}

async fn list(shared: &Shared, resource: &Arc<ResourceId>) -> client::Result<String> {
    let mut gone = shared.graph.lock().uids_of(resource);
    let (mut token, mut revision) = (String::new(), String::new());
    loop {
        let page = shared.metadata.list(resource, "", &token).await?;
        let mut look = Vec::new();
        for object in page.items {
            gone.remove(&object.metadata.uid);
            look.extend(shared.graph.lock().observe(resource, object.metadata));
        }
        shared.look(look);
        if revision.is_empty() {
            revision = page.metadata.resource_version;
        }
        token = page.metadata.continue_token;
        if token.is_empty() {
            break;
        }
    }
    let look = gone.iter().flat_map(|uid| shared.graph.lock().remove(uid)).collect();
    shared.look(look);
    Ok(revision)
}
