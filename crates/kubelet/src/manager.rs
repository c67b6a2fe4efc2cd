//! The pods of this node: one worker each, however they came here; and what requests to the kubelet see of them.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
};

use async_trait::async_trait;
use client::kinds::core::v1::{Node as NodeObject, Pod};
use jiff::Timestamp;
use k8s_cri::v1::{AttachRequest, ExecRequest};
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    access::{AccessError, ContainerHandle, PodAccess, Streams},
    admission,
    allocation::{Allocations, Pending},
    cgroups::math::burstable_shares,
    plan::{PodObserved, spec},
    recover,
    references::{Reference, References},
    sysctl,
    worker::{Handle, Node, PodView, PodWorker, Signal},
};

/// What happens to the set of pods.
#[derive(Debug)]
pub enum Change {
    /// A pod of the API server, new or changed.
    Api(Arc<Pod>),
    /// Its object is gone.
    ApiGone(Arc<Pod>),
    /// The API server's pods are all known now: what the runtime has beside them is left over.
    ApiSynced,
    /// All static pods.
    Static(Vec<Pod>),
    /// The node object changed: labels and allocatable resources decide on admission.
    Node(Arc<NodeObject>),
    /// A worker has nothing left to do.
    Over(String),
    RefreshVolumes,
    /// An object that pods mount may have changed.
    Referenced(Reference),
    /// Pods that the runtime has and nobody here knows.
    Orphans(HashMap<String, (Pod, PodObserved)>),
    Listed {
        listing: HashMap<String, Listing>,
        since: Timestamp,
    },
}

/// What the runtime has of one pod.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub sandboxes: Vec<(String, bool)>,
    pub containers: Vec<(String, i32)>,
}

/// Workers by pod UID.
#[derive(Clone, Default)]
pub struct PodTable {
    handles: Arc<RwLock<HashMap<String, Handle>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Api,
    Manifests,
}

pub struct PodManager {
    node: Arc<Node>,
    table: PodTable,
    /// Found in the runtime at the start, not claimed yet.
    found: HashMap<String, (Pod, PodObserved)>,
    node_object: Option<Arc<NodeObject>>,
    statics: BTreeSet<String>,
    /// Mirror pods by namespace and name.
    mirrors: HashMap<(String, String), Arc<Pod>>,
    creating: BTreeSet<String>,
    /// Sources that have not told all their pods yet: until then what the runtime has beside them may still be wanted.
    unsynced: BTreeSet<Source>,
    /// Had no worker at the last listing.
    strangers: BTreeSet<String>,
    references: References,
    allocations: Allocations,
    client: client::Client,
    changes: mpsc::UnboundedSender<Change>,
    cancel: CancellationToken,
}

fn name_of(pod: &Pod) -> (String, String) {
    (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default())
}

fn uid_of(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

impl PodManager {
    pub fn new(
        node: Arc<Node>,
        client: client::Client,
        found: HashMap<String, (Pod, PodObserved)>,
        sources: impl IntoIterator<Item = Source>,
        changes: mpsc::UnboundedSender<Change>,
        cancel: CancellationToken,
    ) -> PodManager {
        PodManager {
            node,
            table: PodTable::default(),
            found,
            node_object: None,
            statics: BTreeSet::new(),
            mirrors: HashMap::new(),
            creating: BTreeSet::new(),
            unsynced: sources.into_iter().collect(),
            strangers: BTreeSet::new(),
            allocations: Allocations::default(),
            references: References::new(client.clone(), changes.clone(), cancel.clone()),
            client,
            changes,
            cancel,
        }
    }

    pub fn table(&self) -> PodTable {
        self.table.clone()
    }

    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Api(pod) if spec::is_mirror(&pod) => self.mirror(pod),
            Change::Api(pod) => self.desire(pod),
            Change::ApiGone(pod) if spec::is_mirror(&pod) => self.mirror_gone(&pod),
            Change::ApiGone(pod) => self.tell(&uid_of(&pod), Signal::Removed),
            Change::ApiSynced => self.synced(Source::Api),
            Change::Static(pods) => self.statics(pods),
            Change::Node(node) => {
                self.node_object = Some(node);
                self.tend_mirrors();
            }
            Change::Over(uid) => {
                self.table.handles.write().remove(&uid);
                self.node.images.forget_pod(&uid);
                self.references.remove(&uid);
                self.allocations.forget(&uid);
                self.retry_resizes();
                self.weigh_burstable();
            }
            Change::RefreshVolumes => {
                for handle in self.table.handles.read().values() {
                    handle.tell(Signal::RefreshVolumes);
                }
            }
            Change::Referenced(reference) => {
                for uid in self.references.pods(&reference) {
                    self.table.tell(uid, Signal::RefreshVolumes);
                }
            }
            Change::Orphans(orphans) => self.end_orphans(orphans),
            Change::Listed { listing, since } => self.listed(listing, since),
        }
    }

    fn tell(&self, uid: &str, signal: Signal) {
        self.table.tell(uid, signal);
    }

    fn listed(&mut self, mut listing: HashMap<String, Listing>, since: Timestamp) {
        for (uid, handle) in self.table.handles.read().iter() {
            let Listing { sandboxes, containers } = listing.remove(uid).unwrap_or_default();
            handle.tell(Signal::Listed { sandboxes, containers, since });
        }
        self.retry_resizes();
        if !self.unsynced.is_empty() {
            return;
        }
        // One that had no worker at two listings in a row is nobody's; at one it may just be coming or going.
        let strangers: BTreeSet<String> = listing.into_keys().collect();
        let orphans: BTreeSet<String> = strangers.intersection(&self.strangers).cloned().collect();
        self.strangers = strangers;
        if orphans.is_empty() {
            return;
        }
        let (runtime, changes) = (self.node.runtime.clone(), self.changes.clone());
        tokio::spawn(async move {
            match recover::find(&*runtime).await {
                Ok(mut found) => {
                    found.retain(|uid, _| orphans.contains(uid));
                    let _ = changes.send(Change::Orphans(found));
                }
                Err(error) => tracing::warn!(%error, "cannot look at what the runtime runs"),
            }
        });
    }

    /// Pods that run here although no source knows them end as if they had just been removed.
    fn end_orphans(&mut self, orphans: HashMap<String, (Pod, PodObserved)>) {
        let known = self.table.uids();
        for (uid, (pod, mut observed)) in orphans.into_iter().filter(|(uid, _)| !known.contains(uid)) {
            tracing::info!(uid, pod = pod.metadata.name, "ending a pod that nobody wants here");
            observed.removed = true;
            self.spawn(Arc::new(pod), observed);
        }
    }

    /// A pod that should be here: an update of one that is, one that the runtime already runs, or a new one.
    fn desire(&mut self, pod: Arc<Pod>) {
        let uid = uid_of(&pod);
        let known = self.table.handles.read().get(&uid).cloned();
        if let Some(handle) = known {
            let (pod, pending) = self.allocate(pod);
            handle.tell(Signal::Desired(pod));
            return handle.tell(Signal::ResizePending(pending));
        }
        let pod = self.allocations.begin(pod);
        let adopted = self.found.remove(&uid).map(|(_, observed)| observed);
        let observed = adopted.unwrap_or_else(|| self.admit(&pod));
        self.spawn(pod, observed);
    }

    /// The pod as it may run now: with the resources its spec asks for, or those it was given before.
    fn allocate(&mut self, pod: Arc<Pod>) -> (Arc<Pod>, Option<Pending>) {
        let Some(node) = self.node_object.clone() else { return (pod, None) };
        let uid = uid_of(&pod);
        let alive = self.alive();
        let others: Vec<&Pod> = alive.iter().filter(|other| uid_of(other) != uid).map(|other| &**other).collect();
        let outcome = self.allocations.decide(pod, &others, &node);
        if let Some(event) = outcome.event {
            let (kind, reason, message) = event;
            self.node.event(&outcome.pod, None, kind, reason, message);
        }
        (outcome.pod, outcome.pending)
    }

    /// Something became free, perhaps.
    fn retry_resizes(&mut self) {
        for pod in self.allocations.waiting() {
            let uid = uid_of(&pod);
            let (pod, pending) = self.allocate(pod);
            self.tell(&uid, Signal::Desired(pod));
            self.tell(&uid, Signal::ResizePending(pending));
        }
    }

    /// Pods that have not ended.
    fn alive(&self) -> Vec<Arc<Pod>> {
        let views = self.table.views().into_iter().filter(|view| !view.over).map(|view| view.pod);
        let ended = |pod: &Arc<Pod>| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        views.filter(|pod| !ended(pod)).collect()
    }

    fn admit(&self, pod: &Pod) -> PodObserved {
        let mut observed = PodObserved::default();
        let ended = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let ends = pod.metadata.deletion_timestamp.is_some() || matches!(ended, Some("Succeeded" | "Failed"));
        if let Some(node) = self.node_object.as_ref().filter(|_| !ends) {
            let alive = self.alive();
            let others: Vec<&Pod> = alive.iter().map(|pod| &**pod).collect();
            let pressed = admission::admit_under(pod, &self.node.pressure.conditions());
            let forbidden = || sysctl::refused(pod, &self.node.facts().allowed_unsafe_sysctls);
            observed.verdict = pressed.or_else(forbidden).or_else(|| admission::admit(pod, &others, node));
        }
        if let Some(verdict) = &observed.verdict {
            self.node.event(pod, None, client::EventType::Warning, &verdict.reason, verdict.message.clone());
        }
        observed
    }

    fn spawn(&mut self, pod: Arc<Pod>, observed: PodObserved) {
        let uid = uid_of(&pod);
        self.references.add(&pod);
        let (handle, task) = PodWorker::spawn(self.node.clone(), pod, observed, self.cancel.clone());
        self.table.handles.write().insert(uid.clone(), handle);
        self.weigh_burstable();
        let (changes, cancel) = (self.changes.clone(), self.cancel.clone());
        tokio::spawn(async move {
            if let Err(error) = task.await {
                tracing::error!(uid, %error, "a pod's worker panicked");
            }
            if !cancel.is_cancelled() {
                let _ = changes.send(Change::Over(uid));
            }
        });
    }

    /// Once all sources have told their pods, the others end, and what was left on disk by still others goes.
    fn synced(&mut self, source: Source) {
        if !self.unsynced.remove(&source) || !self.unsynced.is_empty() {
            return;
        }
        let orphans = std::mem::take(&mut self.found);
        self.end_orphans(orphans);
        let clean = recover::clean(self.node.clone(), self.table.uids());
        tokio::spawn(self.cancel.clone().run_until_cancelled_owned(clean));
    }

    /// The Burstable class weighs as much as its pods ask for.
    fn weigh_burstable(&self) {
        let Some(cgroups) = self.node.cgroups.clone() else { return };
        let pods: Vec<Arc<Pod>> = self.table.handles.read().values().map(|handle| handle.view().pod).collect();
        let shares = burstable_shares(pods.iter().map(|pod| &**pod));
        tokio::spawn(async move {
            if let Err(error) = cgroups.update_qos(shares).await {
                tracing::warn!(%error, "cannot weigh the Burstable class");
            }
        });
    }

    fn statics(&mut self, pods: Vec<Pod>) {
        let now: BTreeSet<String> = pods.iter().map(uid_of).collect();
        for gone in self.statics.difference(&now) {
            self.tell(gone, Signal::Removed);
        }
        for pod in pods {
            let uid = uid_of(&pod);
            if !self.statics.contains(&uid) {
                let mirror = self.mirrors.get(&name_of(&pod)).cloned();
                self.desire(Arc::new(pod));
                self.tell(&uid, Signal::Mirror(mirror));
            }
        }
        self.statics = now;
        self.tend_mirrors();
        self.synced(Source::Manifests);
    }

    fn mirror(&mut self, pod: Arc<Pod>) {
        let uid = pod.metadata.annotations.as_ref().and_then(|all| all.get(crate::sources::MIRROR)).cloned();
        self.mirrors.insert(name_of(&pod), pod.clone());
        self.tell(&uid.unwrap_or_default(), Signal::Mirror(Some(pod)));
        self.tend_mirrors();
    }

    fn mirror_gone(&mut self, pod: &Pod) {
        let known = self.mirrors.get(&name_of(pod)).is_some_and(|known| known.metadata.uid == pod.metadata.uid);
        if known {
            self.mirrors.remove(&name_of(pod));
        }
        let uid = pod.metadata.annotations.as_ref().and_then(|all| all.get(crate::sources::MIRROR)).cloned();
        let uid = uid.unwrap_or_default();
        self.creating.remove(&uid);
        self.tell(&uid, Signal::Mirror(None));
        self.tend_mirrors();
    }

    /// Every static pod gets its mirror; a mirror of nothing, or of an earlier version, goes.
    fn tend_mirrors(&mut self) {
        let Some(node) = self.node_object.clone() else { return };
        let views: Vec<Arc<Pod>> = self.table.handles.read().values().map(|handle| handle.view().pod).collect();
        let statics: Vec<Arc<Pod>> = views.into_iter().filter(|pod| self.statics.contains(&uid_of(pod))).collect();
        for mirror in self.mirrors.values() {
            if statics.iter().any(|pod| crate::sources::is_mirror_of(mirror, pod)) {
                continue;
            }
            let (api, mirror) = (self.node.api.clone(), mirror.clone());
            tokio::spawn(async move {
                if let Err(error) = api.delete(&mirror).await {
                    tracing::warn!(pod = mirror.metadata.name, %error, "cannot delete mirror pod");
                }
            });
        }
        for pod in statics {
            let uid = uid_of(&pod);
            if self.mirrors.contains_key(&name_of(&pod)) || !self.creating.insert(uid) {
                continue;
            }
            let mirror = crate::sources::mirror(&pod, &node);
            let api = self.client.namespaced::<Pod>(&name_of(&pod).0);
            tokio::spawn(async move {
                while let Err(error) = api.create(&mirror).await {
                    if error.is_already_exists() || error.reason().is_some() {
                        tracing::warn!(pod = mirror.metadata.name, %error, "cannot create mirror pod");
                        return;
                    }
                    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
                }
            });
        }
    }
}

impl PodTable {
    /// False where no such pod is here.
    pub fn tell(&self, uid: &str, signal: Signal) -> bool {
        let handle = self.handles.read().get(uid).cloned();
        handle.inspect(|handle| handle.tell(signal)).is_some()
    }

    pub fn views(&self) -> Vec<PodView> {
        self.handles.read().values().map(Handle::view).collect()
    }

    pub fn uids(&self) -> BTreeSet<String> {
        self.handles.read().keys().cloned().collect()
    }
}

/// [`PodAccess`] over the workers.
pub struct Access {
    pub table: PodTable,
    pub node: Arc<Node>,
}

impl Access {
    fn missing(pod: &Pod, container: &str) -> AccessError {
        let (namespace, name) = name_of(pod);
        AccessError::ContainerNotFound { namespace, name, container: container.to_owned() }
    }
}

#[async_trait]
impl PodAccess for Access {
    fn pods(&self) -> Vec<Arc<Pod>> {
        self.table.handles.read().values().map(|handle| handle.view().pod).collect()
    }

    fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Result<Arc<Pod>, AccessError> {
        let pods = self.pods();
        let named = pods.into_iter().filter(|pod| {
            let (pod_namespace, pod_name) = name_of(pod);
            let mirror = self.table.handles.read().get(&uid_of(pod)).is_some_and(|_| spec::is_static(pod));
            pod_namespace == namespace && pod_name == name && uid.is_none_or(|uid| uid == uid_of(pod) || mirror)
        });
        // Of two with one name the one that is not ending is meant.
        named
            .max_by_key(|pod| (pod.metadata.deletion_timestamp.is_none(), pod.metadata.creation_timestamp.clone()))
            .ok_or_else(|| AccessError::PodNotFound { namespace: namespace.into(), name: name.into() })
    }

    fn container(&self, pod: &Pod, container: &str, previous: bool) -> Result<ContainerHandle, AccessError> {
        let handle = self.table.handles.read().get(&uid_of(pod)).cloned();
        let view = handle.map(|handle| handle.view()).ok_or_else(|| Access::missing(pod, container))?;
        let observed = PodObserved { containers: view.containers, ..PodObserved::default() };
        let latest = observed.latest(container).ok_or_else(|| Access::missing(pod, container))?;
        let record = match previous {
            false => latest,
            true => observed.previous(container).ok_or_else(|| AccessError::NoPreviousContainer {
                pod: pod.metadata.name.clone().unwrap_or_default(),
                container: container.to_owned(),
            })?,
        };
        Ok(ContainerHandle {
            id: record.id.clone(),
            log_path: PathBuf::from(&record.log_path),
            running: record.is_running(),
            attempt: record.attempt,
        })
    }

    async fn exec(&self, container: &str, command: Vec<String>, streams: Streams) -> Result<String, AccessError> {
        let Streams { stdin, stdout, stderr, tty } = streams;
        let request = ExecRequest { container_id: container.to_owned(), cmd: command, tty, stdin, stdout, stderr };
        Ok(self.node.runtime.exec(request).await?)
    }

    async fn attach(&self, container: &str, streams: Streams) -> Result<String, AccessError> {
        let Streams { stdin, stdout, stderr, tty } = streams;
        let request = AttachRequest { container_id: container.to_owned(), stdin, tty, stdout, stderr };
        Ok(self.node.runtime.attach(request).await?)
    }

    async fn port_forward(&self, pod: &Pod, ports: Vec<i32>) -> Result<String, AccessError> {
        let handle = self.table.handles.read().get(&uid_of(pod)).cloned();
        let sandbox = handle.and_then(|handle| handle.view().sandbox).filter(|sandbox| sandbox.ready);
        let (namespace, name) = name_of(pod);
        let sandbox = sandbox.ok_or(AccessError::PodNotFound { namespace, name })?;
        Ok(self.node.runtime.port_forward(&sandbox.id, ports).await?)
    }

    async fn run(&self, container: &str, command: Vec<String>) -> Result<(i32, Vec<u8>), AccessError> {
        let answer = self.node.runtime.exec_sync(container, &command, std::time::Duration::ZERO).await?;
        let mut output = answer.stdout;
        output.extend_from_slice(&answer.stderr);
        Ok((answer.exit_code, output))
    }
}
