//! The scheduler between two events: what it has seen, what waits, what is under way. [`State::apply`] takes a change in,
//! [`State::schedule_next`] makes one decision; both give back what is to be written, and write nothing themselves.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use client::{
    Kind,
    kinds::{
        apps::v1::{ReplicaSet, StatefulSet},
        core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service},
        policy::v1::PodDisruptionBudget,
        storage::v1::{CSINode, StorageClass},
    },
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    cache::Cache,
    event::ClusterEvent,
    framework::PreBind,
    objects::Table,
    plan::{Outcome, Profile, Search, TieBreak, schedule_one},
    pod::PodInfo,
    preemption::{Candidate, PostFilter},
    queue::{Delays, SchedulingQueue, Setback},
    report::{Report, failure_patch},
    snapshot::Snapshot,
    volumes,
};

/// How long a pod waits for its volumes to be bound (upstream `bindTimeoutSeconds`).
const VOLUME_TIMEOUT: SignedDuration = SignedDuration::from_secs(600);

/// One object's change: before and after. `None` before is new, `None` after is gone.
#[derive(Clone, Debug)]
pub struct Update<K> {
    pub old: Option<Arc<K>>,
    pub new: Option<Arc<K>>,
}

/// What happened outside.
#[derive(Clone, Debug)]
pub enum Change {
    Pod(Update<Pod>),
    Node(Update<Node>),
    Namespace(Update<Namespace>),
    Service(Update<Service>),
    ReplicationController(Update<ReplicationController>),
    ReplicaSet(Update<ReplicaSet>),
    StatefulSet(Update<StatefulSet>),
    Budget(Update<PodDisruptionBudget>),
    Claim(Update<PersistentVolumeClaim>),
    Volume(Update<PersistentVolume>),
    Class(Update<StorageClass>),
    CsiNode(Update<CSINode>),
    /// An action has ended.
    Done {
        action: Ended,
        uid: String,
        result: Result<(), Failed>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    PrepareVolumes,
    Bind,
    Preempt,
}

/// Why an action failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The pod is not there any more.
    pub gone: bool,
    pub message: String,
}

/// What is to be done. Each but [`Action::Report`] ends in a [`Change::Done`].
#[derive(Clone, Debug)]
pub enum Action {
    PrepareVolumes { pod: Arc<PodInfo>, steps: Vec<PreBind> },
    Bind { pod: Arc<PodInfo>, node: String },
    Preempt { pod: Arc<PodInfo>, candidate: Candidate, displaced: Vec<Arc<PodInfo>> },
    Report { pod: Arc<PodInfo>, report: Report },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = |steps: &[PreBind]| steps.iter().map(PreBind::to_string).collect::<Vec<_>>().join(", ");
        let names =
            |pods: &[Arc<PodInfo>]| pods.iter().map(|pod| pod.pod.key().to_string()).collect::<Vec<_>>().join(", ");
        match self {
            Action::PrepareVolumes { pod, steps: list } => write!(f, "prepare {}: {}", pod.pod.key(), steps(list)),
            Action::Bind { pod, node } => write!(f, "bind {} to {node}", pod.pod.key()),
            Action::Preempt { pod, candidate, .. } => {
                write!(f, "preempt on {} for {}: {}", candidate.node, pod.pod.key(), names(&candidate.victims))
            }
            Action::Report { pod, report } => write!(f, "report {}: {report}", pod.pod.key()),
        }
    }
}

pub struct State {
    pub(crate) profiles: Vec<Profile>,
    pub(crate) cache: Cache,
    pub queue: SchedulingQueue,
    pub(crate) snapshot: Snapshot,
    search: Search,
    tie: Box<dyn TieBreak + Send>,
    /// Nodes of the pods that were placed and are not bound yet.
    binding: HashMap<String, Binding>,
    /// Pods that room is being made for. They are held back until all their victims were asked to go; `true` where an
    /// event would have had them tried again meanwhile.
    preempting: HashMap<String, bool>,
}

struct Binding {
    node: String,
    /// Until when the pod's volumes have to be bound; `None` where it is not waiting for them.
    volumes_until: Option<Timestamp>,
}

impl State {
    pub fn new(
        profiles: Vec<Profile>,
        delays: Delays,
        assumed_ttl: Option<Duration>,
        tie: Box<dyn TieBreak + Send>,
    ) -> State {
        State {
            profiles,
            cache: Cache::new(assumed_ttl),
            queue: SchedulingQueue::new(delays),
            snapshot: Snapshot::default(),
            search: Search::default(),
            tie,
            binding: HashMap::new(),
            preempting: HashMap::new(),
        }
    }

    /// Takes a change in.
    pub fn apply(&mut self, change: Change, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        let objects = &mut self.snapshot.objects;
        match change {
            Change::Pod(update) => self.pod(update, now),
            Change::Node(update) => self.node(update, now),
            Change::Namespace(update) => store(&mut objects.namespaces, &update),
            Change::Service(update) => store(&mut objects.services, &update),
            Change::ReplicationController(update) => store(&mut objects.replication_controllers, &update),
            Change::ReplicaSet(update) => store(&mut objects.replica_sets, &update),
            Change::StatefulSet(update) => store(&mut objects.stateful_sets, &update),
            Change::Budget(update) => store(&mut objects.budgets, &update),
            Change::Claim(update) => {
                store(&mut objects.claims, &update);
                if let Some(claim) = update.new.or(update.old) {
                    let event =
                        ClusterEvent::ClaimChanged { namespace: claim.namespace().into(), name: claim.name().into() };
                    self.happened(&event, now);
                    actions = self.bind_with_volumes();
                }
            }
            Change::Volume(update) => {
                store(&mut objects.volumes, &update);
                self.happened(&ClusterEvent::VolumeChanged, now);
            }
            Change::Class(update) => {
                store(&mut objects.classes, &update);
                self.happened(&ClusterEvent::StorageClassChanged, now);
            }
            Change::CsiNode(update) => {
                store(&mut objects.csi_nodes, &update);
                self.happened(&ClusterEvent::CsiNodeChanged, now);
            }
            Change::Done { action, uid, result } => actions = self.done(action, &uid, result, now),
        }
        actions
    }

    /// Decides on the next pod that is ready; `None` where none is.
    pub fn schedule_next(&mut self, now: Timestamp) -> Option<Vec<Action>> {
        let pod = self.queue.pop(now)?;
        if pod.is_terminating() || self.cache.is_assumed(pod.uid()) {
            self.queue.remove(pod.uid());
            return Some(Vec::new());
        }
        self.cache.update(&mut self.snapshot);
        let Some(profile) = self.profiles.iter().find(|profile| profile.scheduler_name == pod.scheduler_name()) else {
            self.queue.remove(pod.uid());
            return Some(Vec::new());
        };
        let State { snapshot, queue, search, tie, .. } = self;
        let outcome = schedule_one(profile, &pod, snapshot, &queue.nominations, search, &mut **tie);
        Some(match outcome {
            Outcome::Placed(placement) => {
                tracing::debug!(pod = %pod.pod.key(), node = placement.node.name(), "placed");
                let (node, steps) = (placement.node.name().to_owned(), placement.pre_bind);
                vec![self.placed(pod.clone(), node, steps)]
            }
            Outcome::Unschedulable(failure) => {
                let (rejectors, message) = (failure.rejectors(), failure.to_string());
                let post_filter = failure.post_filter;
                self.unschedulable(&pod, rejectors, message, post_filter, now)
            }
        })
    }

    /// When [`Self::schedule_next`] or [`Self::tick`] may have something to do, if nothing changes.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let volumes = self.binding.values().filter_map(|binding| binding.volumes_until);
        self.queue.next_wakeup().into_iter().chain(self.cache.next_expiry()).chain(volumes).min()
    }

    /// What time alone brings about.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Action> {
        for pod in self.cache.expire(now) {
            tracing::warn!(pod = %pod.pod.key(), "the pod was bound but not seen on its node in time");
            self.happened(&ClusterEvent::PodDeleted(pod), now);
        }
        let late = |binding: &Binding| binding.volumes_until.is_some_and(|until| until <= now);
        let late: Vec<String> =
            self.binding.iter().filter(|(_, binding)| late(binding)).map(|(uid, _)| uid.clone()).collect();
        let message = "running PreBind plugin \"VolumeBinding\": binding volumes: context deadline exceeded";
        late.iter().flat_map(|uid| self.not_bound(uid, Failed { gone: false, message: message.into() }, now)).collect()
    }

    fn placed(&mut self, pod: Arc<PodInfo>, node: String, steps: Vec<PreBind>) -> Action {
        self.cache.assume(pod.clone(), &node);
        self.queue.nominations.remove(pod.uid());
        self.binding.insert(pod.uid().to_owned(), Binding { node: node.clone(), volumes_until: None });
        if steps.is_empty() {
            return Action::Bind { pod, node };
        }
        volumes::assume(&steps, &mut self.snapshot.objects);
        Action::PrepareVolumes { pod, steps }
    }

    fn unschedulable(
        &mut self,
        pod: &Arc<PodInfo>,
        rejectors: BTreeSet<&'static str>,
        message: String,
        post_filter: PostFilter,
        now: Timestamp,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        let nomination = match post_filter {
            PostFilter::Preempt(candidate) => {
                let node = candidate.node.clone();
                let lower = |other: &&Arc<PodInfo>| other.priority() < pod.priority();
                let displaced: Vec<_> = self.queue.nominations.on(&node).iter().filter(lower).cloned().collect();
                for other in &displaced {
                    self.queue.nominations.remove(other.uid());
                    self.queue.retry(other.uid(), now);
                }
                self.preempting.insert(pod.uid().to_owned(), false);
                actions.push(Action::Preempt { pod: pod.clone(), candidate, displaced });
                Some(node)
            }
            PostFilter::Hopeless(_) => Some(String::new()),
            PostFilter::NotRun | PostFilter::Ineligible(_) => None,
        };
        match nomination.as_deref() {
            Some("") => self.queue.nominations.remove(pod.uid()),
            Some(node) => self.queue.nominations.add(pod.clone(), node),
            None => {}
        }
        self.queue.set_back(pod.uid(), Setback::Rejected(rejectors), now);
        let patch = failure_patch(&pod.pod, "Unschedulable", &message, nomination.as_deref(), now);
        actions.push(Action::Report { pod: pod.clone(), report: Report { patch, message } });
        actions
    }

    fn done(&mut self, action: Ended, uid: &str, result: Result<(), Failed>, now: Timestamp) -> Vec<Action> {
        match (action, result) {
            (Ended::Preempt, result) => {
                let missed = self.preempting.remove(uid).unwrap_or(false);
                if missed || result.is_err() {
                    self.queue.retry(uid, now);
                }
                Vec::new()
            }
            (Ended::PrepareVolumes, Ok(())) => {
                if let Some(binding) = self.binding.get_mut(uid) {
                    binding.volumes_until = now.checked_add(VOLUME_TIMEOUT).ok();
                }
                self.bind_with_volumes()
            }
            (Ended::Bind, Ok(())) => {
                self.binding.remove(uid);
                self.cache.finish_binding(uid, now);
                self.queue.remove(uid);
                Vec::new()
            }
            (Ended::PrepareVolumes | Ended::Bind, Err(failed)) => self.not_bound(uid, failed, now),
        }
    }

    /// Gives the pod's place free again and has it retried.
    fn not_bound(&mut self, uid: &str, failed: Failed, now: Timestamp) -> Vec<Action> {
        self.binding.remove(uid);
        let Some(pod) = self.cache.forget(uid) else { return Vec::new() };
        self.happened(&ClusterEvent::PodDeleted(pod.clone()), now);
        if failed.gone {
            self.queue.remove(uid);
            return Vec::new();
        }
        let pod = self.queue.get(uid).cloned().unwrap_or(pod);
        self.queue.set_back(uid, Setback::Error, now);
        let patch = failure_patch(&pod.pod, "SchedulerError", &failed.message, None, now);
        vec![Action::Report { pod, report: Report { patch, message: failed.message } }]
    }

    /// Binds the pods whose volumes are bound by now.
    fn bind_with_volumes(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (uid, binding) in &mut self.binding {
            let Some(pod) = self.cache.pod(uid).filter(|_| binding.volumes_until.is_some()) else { continue };
            if volumes::all_bound(pod, &self.snapshot.objects) {
                binding.volumes_until = None;
                actions.push(Action::Bind { pod: pod.clone(), node: binding.node.clone() });
            }
        }
        actions
    }

    fn node(&mut self, update: Update<Node>, now: Timestamp) {
        let event = match (update.old, update.new) {
            (None, Some(new)) => ClusterEvent::NodeAdded(new),
            (Some(old), Some(new)) => ClusterEvent::NodeUpdated { old, new },
            (Some(old), None) => ClusterEvent::NodeDeleted(old),
            (None, None) => return,
        };
        match &event {
            ClusterEvent::NodeAdded(new) | ClusterEvent::NodeUpdated { new, .. } => self.cache.set_node(new.clone()),
            ClusterEvent::NodeDeleted(old) => self.cache.remove_node(old.name()),
            _ => {}
        }
        self.happened(&event, now);
    }

    fn pod(&mut self, update: Update<Pod>, now: Timestamp) {
        let new = update.new.map(|pod| Arc::new(PodInfo::new(pod))).filter(|pod| !pod.is_terminal());
        match new {
            None => {
                let Some(old) = update.old else { return };
                self.pod_gone(old.uid(), now);
            }
            Some(pod) if !pod.node_name().is_empty() => self.pod_on_node(pod, now),
            Some(pod) if self.profiles.iter().any(|profile| profile.scheduler_name == pod.scheduler_name()) => {
                self.pod_pending(pod, now);
            }
            // Another scheduler's.
            Some(_) => {}
        }
    }

    fn pod_gone(&mut self, uid: &str, now: Timestamp) {
        self.binding.remove(uid);
        self.preempting.remove(uid);
        let nominated = self.queue.nominations.node_of(uid).is_some();
        let waiting = self.queue.remove(uid);
        if let Some(pod) = self.cache.remove_pod(uid).or(waiting.filter(|_| nominated)) {
            self.happened(&ClusterEvent::PodDeleted(pod), now);
        }
    }

    fn pod_on_node(&mut self, pod: Arc<PodInfo>, now: Timestamp) {
        self.queue.remove(pod.uid());
        let seen = self.cache.pod(pod.uid()).filter(|_| !self.cache.is_assumed(pod.uid())).cloned();
        self.cache.set_pod(pod.clone());
        let event = match seen {
            Some(old) => ClusterEvent::PodUpdated { old, new: pod },
            None => ClusterEvent::PodAdded(pod),
        };
        self.happened(&event, now);
    }

    fn pod_pending(&mut self, pod: Arc<PodInfo>, now: Timestamp) {
        let known = self.queue.get(pod.uid()).cloned();
        let Some(old) = known else {
            if !self.cache.is_assumed(pod.uid()) {
                self.queue.add(pod, now);
            }
            return;
        };
        self.queue.update(pod.clone(), now);
        let uid = pod.uid().to_owned();
        let event = ClusterEvent::PendingPodUpdated { old, new: pod };
        let State { queue, profiles, snapshot, .. } = self;
        queue.requeue(now, |pod, rejectors| pod.uid() == uid && helps(profiles, snapshot, &event, pod, rejectors));
    }

    /// Has the pods tried again that the event may help.
    fn happened(&mut self, event: &ClusterEvent, now: Timestamp) {
        if !event.is_relevant() {
            return;
        }
        let State { queue, profiles, snapshot, preempting, .. } = self;
        if !preempting.is_empty() {
            for (uid, missed) in preempting.iter_mut().filter(|(_, missed)| !**missed) {
                *missed = queue
                    .rejected(uid)
                    .is_some_and(|(pod, rejectors)| helps(profiles, snapshot, event, pod, rejectors));
            }
        }
        queue.requeue(now, |pod, rejectors| {
            !preempting.contains_key(pod.uid()) && helps(profiles, snapshot, event, pod, rejectors)
        });
    }
}

fn helps(
    profiles: &[Profile],
    snapshot: &Snapshot,
    event: &ClusterEvent,
    pod: &PodInfo,
    rejectors: &BTreeSet<&str>,
) -> bool {
    let profile = profiles.iter().find(|profile| profile.scheduler_name == pod.scheduler_name());
    profile.is_some_and(|profile| {
        let mut plugins = profile.plugins.iter().map(|weighted| &weighted.plugin);
        plugins.any(|plugin| rejectors.contains(plugin.name()) && plugin.may_help(event, pod, snapshot))
    })
}

fn store<K: Kind>(table: &mut Table<K>, update: &Update<K>) {
    match (&update.new, &update.old) {
        (Some(new), _) => table.insert(new.clone()),
        (None, Some(old)) => table.remove(old),
        (None, None) => {}
    }
}
