//! One task per pod: it keeps what was observed, asks the planner, carries plans out and reports status. Nothing it does
//! waits for another pod, and nothing a step does keeps it from hearing of the next event: every step is a task of its own
//! that reports back.

mod act;
mod files;
mod kill;
mod listing;
mod node;
mod observe;
mod probing;
mod resize;
mod start;
mod writer;

use std::{sync::Arc, time::Duration};

use client::{
    EventType,
    kinds::core::v1::{Pod, PodStatus},
};
use jiff::Timestamp;
use k8s_cri::v1::ContainerStatus;
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use volumes::PodMounts;

pub use node::{Node, PodApi, Recorder};
pub use observe::{container_record, sandbox_record};

use crate::{
    allocation::Pending,
    plan::{ContainerRecord, PodObserved, PodPlan, SandboxRecord, Verdict, ending, plan_pod, spec},
    probes::{ProbeKind, ProbeNews},
    status::{self, Context},
};
use act::Done;
use probing::Probes;
use writer::StatusWriter;

/// What a worker is told from outside.
#[derive(Debug)]
pub enum Signal {
    /// A newer version of the pod's object.
    Desired(Arc<Pod>),
    /// The mirror of a static pod, as the API server has it; `None` once it is gone.
    Mirror(Option<Arc<Pod>>),
    /// The object is gone from its source.
    Removed,
    /// The main process of this container or sandbox ended.
    Exited {
        id: String,
    },
    /// Everything the runtime has of this pod, listed from `since` on.
    Listed {
        sandboxes: Vec<(String, bool)>,
        containers: Vec<(String, i32)>,
        since: Timestamp,
    },
    Verdict(Verdict),
    /// The spec asks for resources that cannot be had now; `None`: no more.
    ResizePending(Option<Pending>),
    /// Objects that volumes show have changed, or tokens may be due.
    RefreshVolumes,
    Done(Box<Done>),
    Probe {
        id: String,
        container: String,
        kind: ProbeKind,
        news: ProbeNews,
    },
}

/// What others may see of a worker's pod.
#[derive(Clone, Debug)]
pub struct PodView {
    /// With the newest status.
    pub pod: Arc<Pod>,
    pub containers: Vec<ContainerRecord>,
    pub sandbox: Option<SandboxRecord>,
    /// Nothing of it runs and nothing will.
    pub over: bool,
}

/// A pod's worker, from outside.
#[derive(Clone)]
pub struct Handle {
    pub uid: String,
    signals: mpsc::UnboundedSender<Signal>,
    view: Arc<RwLock<PodView>>,
}

impl Handle {
    /// Never waits; to a worker that has ended it does nothing.
    pub fn tell(&self, signal: Signal) {
        let _ = self.signals.send(signal);
    }

    pub fn view(&self) -> PodView {
        self.view.read().clone()
    }
}

pub struct PodWorker {
    node: Arc<Node>,
    pod: Arc<Pod>,
    mirror: Option<Arc<Pod>>,
    observed: PodObserved,
    mounts: Arc<PodMounts>,
    signals: mpsc::UnboundedReceiver<Signal>,
    sender: mpsc::UnboundedSender<Signal>,
    view: Arc<RwLock<PodView>>,
    last: Option<PodStatus>,
    writer: StatusWriter,
    probes: Probes,
    /// Something that volumes show changed while they were being set up.
    stale: bool,
    /// Ends pulls of a pod that is to end.
    starts: CancellationToken,
}

impl PodWorker {
    /// Starts the worker of `pod`; it ends once nothing of the pod is left, or with `cancel`, leaving everything as it is.
    /// `observed` holds the records that the runtime already has, and a verdict where the node turned the pod away.
    pub fn spawn(
        node: Arc<Node>,
        pod: Arc<Pod>,
        mut observed: PodObserved,
        cancel: CancellationToken,
    ) -> (Handle, tokio::task::JoinHandle<()>) {
        let (sender, signals) = mpsc::unbounded_channel();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        observed.started_at.get_or_insert(node.clock.now());
        let view = PodView { pod: pod.clone(), containers: Vec::new(), sandbox: None, over: false };
        let view = Arc::new(RwLock::new(view));
        let handle = Handle { uid, signals: sender.clone(), view: view.clone() };
        let worker = PodWorker {
            writer: StatusWriter::spawn(node.api.clone(), cancel.clone()),
            probes: Probes::default(),
            stale: false,
            starts: cancel.child_token(),
            mirror: None,
            mounts: Arc::default(),
            last: None,
            node,
            pod,
            observed,
            signals,
            sender,
            view,
        };
        (handle, tokio::spawn(worker.run(cancel)))
    }

    async fn run(mut self, cancel: CancellationToken) {
        for id in self.ids() {
            self.node.register(&id, &self.sender);
        }
        self.recall_resources();
        loop {
            let wake = self.advance();
            if self.is_over() {
                break;
            }
            let pause = wake.map_or(Duration::MAX, |at| {
                Duration::try_from(at.duration_since(self.node.clock.now())).unwrap_or_default()
            });
            tokio::select! {
                () = cancel.cancelled() => break,
                signal = self.signals.recv() => match signal {
                    Some(signal) => self.hear(signal),
                    None => break,
                },
                // A timer may fire a hair early; the millisecond keeps that from spinning.
                () = tokio::time::sleep(pause.saturating_add(Duration::from_millis(1))) => {}
            }
            while let Ok(signal) = self.signals.try_recv() {
                self.hear(signal);
            }
        }
        for id in self.ids() {
            self.node.unregister(&id);
        }
        self.view.write().over = true;
        if !cancel.is_cancelled() {
            kill::remove_files(&self.node, &self.pod).await;
        }
    }

    fn ids(&self) -> Vec<String> {
        let sandboxes = self.observed.sandboxes.iter().map(|sandbox| sandbox.id.clone());
        sandboxes.chain(self.observed.containers.iter().map(|record| record.id.clone())).collect()
    }

    /// Plans, acts, reports. Gives back when to do so again if nothing happens.
    fn advance(&mut self) -> Option<Timestamp> {
        let now = self.node.clock.now();
        let ends = ending(&self.pod, &self.observed, now);
        if ends.is_some() {
            self.starts.cancel();
        }
        let plan = plan_pod(&self.pod, &self.observed, now);
        if plan.ends {
            self.observed.ending_since.get_or_insert(now);
        }
        self.tend_probes(plan.ends, now);
        self.publish(&plan, now);
        let wake = self.deadline(&plan);
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        for step in &plan.steps {
            tracing::debug!(uid, %step, "step");
        }
        self.dispatch(plan);
        wake
    }

    /// The planner's wake-up, or the moment activeDeadlineSeconds runs out.
    fn deadline(&self, plan: &PodPlan) -> Option<Timestamp> {
        let seconds = self.pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
        let start = self.last.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
        let deadline = start
            .zip(seconds)
            .and_then(|(start, seconds)| start.checked_add(jiff::SignedDuration::from_secs(seconds)).ok());
        plan.wake_at.into_iter().chain(deadline.filter(|_| !plan.ends)).min()
    }

    fn is_over(&self) -> bool {
        self.observed.finished && self.observed.doing.is_idle() && self.observed.sandboxes.is_empty()
    }

    fn publish(&mut self, plan: &PodPlan, now: Timestamp) {
        let facts = self.node.facts();
        let context =
            Context { host_ips: &facts.host_ips, runtime: &self.node.runtime_name, last: self.last.as_ref(), now };
        let status = status::generate(&self.pod, &self.observed, plan, &context);
        let changed = self.last.as_ref() != Some(&status);
        let mut view = self.view.write();
        if changed || view.containers != self.observed.containers {
            let mut pod = Pod::clone(&self.pod);
            pod.status = Some(status.clone());
            view.pod = Arc::new(pod);
            view.containers = self.observed.containers.clone();
        }
        view.sandbox = self.observed.sandbox().cloned();
        drop(view);
        if !changed {
            return;
        }
        self.last = Some(status.clone());
        self.report(status);
    }

    /// Sends a status to the API: of the pod itself, or of a static pod's mirror.
    fn report(&self, status: PodStatus) {
        let target = if spec::is_static(&self.pod) { self.mirror.as_ref() } else { Some(&self.pod) };
        if let Some(target) = target.filter(|_| !self.observed.removed) {
            self.writer.send(target.clone(), status);
        }
    }

    fn desired(&mut self, pod: Arc<Pod>) {
        let shown = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
        let changed = shown(&pod) != shown(&self.pod);
        self.pod = pod;
        // The downward API shows them.
        if changed {
            self.refresh_volumes();
        }
    }

    fn hear(&mut self, signal: Signal) {
        match signal {
            Signal::Desired(pod) => self.desired(pod),
            Signal::Mirror(mirror) => {
                let new = mirror.as_ref().map(|pod| pod.metadata.uid.clone());
                let known = self.mirror.as_ref().map(|pod| pod.metadata.uid.clone());
                self.mirror = mirror;
                if let Some(status) = self.last.clone().filter(|_| new != known) {
                    self.report(status);
                }
            }
            Signal::Removed => self.observed.removed = true,
            Signal::Exited { id } => self.inspect(&id),
            Signal::Listed { sandboxes, containers, since } => self.compare(&sandboxes, &containers, since),
            Signal::Verdict(verdict) => {
                self.observed.verdict.get_or_insert(verdict);
            }
            Signal::ResizePending(pending) => self.observed.resize_pending = pending,
            Signal::RefreshVolumes => self.refresh_volumes(),
            Signal::Done(done) => self.record(*done),
            Signal::Probe { id, container, kind, news } => self.probed(&id, &container, kind, news),
        }
    }

    /// Takes over what the runtime says of a container.
    pub(crate) fn take_status(&mut self, status: &ContainerStatus) {
        let record = container_record(status, None);
        self.take_record(record);
    }

    fn take_record(&mut self, mut record: ContainerRecord) {
        match self.observed.containers.iter_mut().find(|known| known.id == record.id) {
            Some(known) => {
                // A status without its sandbox (CRI's has none) keeps the one that is known.
                record.sandbox = std::mem::take(&mut known.sandbox);
                *known = record;
            }
            None => {
                self.node.register(&record.id, &self.sender);
                self.observed.containers.push(record);
            }
        }
    }

    fn event(&self, kind: EventType, container: Option<&str>, reason: &str, message: String) {
        self.node.event(&self.pod, container, kind, reason, message);
    }
}
