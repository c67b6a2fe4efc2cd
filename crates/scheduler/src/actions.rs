//! Carries out actions, each in a task of its own: the loop never waits for the API.

use std::sync::Arc;

use client::{
    Client, Clock, DeleteParams, Error, EventRecorder, EventType, Kind, ObjectKey, PatchKind,
    kinds::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    reference,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    framework::PreBind,
    pod::PodInfo,
    preemption::Candidate,
    report::Report,
    state::{Action, Change, Ended, Failed},
};

#[derive(Clone)]
pub(crate) struct Executor {
    client: Client,
    events: EventRecorder,
    changes: UnboundedSender<Change>,
    clock: Arc<dyn Clock>,
}

impl Executor {
    pub(crate) fn new(
        client: Client,
        events: EventRecorder,
        changes: UnboundedSender<Change>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Executor { client, events, changes, clock }
    }

    pub(crate) fn start(&self, actions: Vec<Action>) {
        for action in actions {
            let executor = self.clone();
            tokio::spawn(async move { executor.run(action).await });
        }
    }

    async fn run(self, action: Action) {
        let (ended, pod, result) = match action {
            Action::Report { pod, report } => return self.report(&pod, &report).await,
            Action::Bind { pod, node } => (Ended::Bind, pod.clone(), self.bind(&pod, &node).await),
            Action::PrepareVolumes { pod, steps } => (Ended::PrepareVolumes, pod, self.prepare(&steps).await),
            Action::Preempt { pod, candidate, displaced } => {
                (Ended::Preempt, pod.clone(), self.preempt(&pod, &candidate, &displaced).await)
            }
        };
        if let Err(failed) = &result {
            tracing::warn!(pod = %pod.pod.key(), error = failed.message, "{ended:?} failed");
        }
        // The loop is gone only when the scheduler ends.
        let _ = self.changes.send(Change::Done { action: ended, uid: pod.uid().to_owned(), result });
    }

    async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), Failed> {
        let body = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid() },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        });
        let pods = self.client.namespaced::<Pod>(pod.namespace());
        let sent = pods.create_sub(pod.name(), "binding", body.to_string().into_bytes()).await;
        sent.map_err(|error| Failed {
            gone: error.is_not_found(),
            ..failed("running Bind plugin \"DefaultBinder\"", &error)
        })?;
        let message = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
        self.events.event(reference(&*pod.pod), EventType::Normal, "Scheduled", message);
        Ok(())
    }

    async fn report(&self, pod: &PodInfo, report: &Report) {
        self.events.event(reference(&*pod.pod), EventType::Warning, "FailedScheduling", report.note());
        let Some(patch) = &report.patch else { return };
        if let Err(error) = self.patch_status(&pod.pod, patch).await
            && !error.is_not_found()
        {
            tracing::warn!(pod = %pod.pod.key(), %error, "cannot write the pod's condition");
        }
    }

    async fn patch_status(&self, pod: &Pod, patch: &Value) -> Result<(), Error> {
        let pods = self.client.namespaced::<Pod>(pod.namespace());
        pods.patch(pod.name(), Some("status"), PatchKind::Strategic, patch.to_string().into_bytes()).await.map(drop)
    }

    /// Asks the victims to go, all at once (upstream `framework/preemption/executor.go`).
    async fn preempt(&self, pod: &PodInfo, candidate: &Candidate, displaced: &[Arc<PodInfo>]) -> Result<(), Failed> {
        for other in displaced {
            let patch = json!({ "metadata": { "uid": other.uid() }, "status": { "nominatedNodeName": null } });
            if let Err(error) = self.patch_status(&other.pod, &patch).await {
                tracing::warn!(pod = %other.pod.key(), %error, "cannot clear the nomination");
            }
        }
        let mut tasks = tokio::task::JoinSet::new();
        for victim in candidate.victims.iter().filter(|victim| !victim.is_terminating()) {
            let (executor, victim) = (self.clone(), victim.clone());
            let (uid, scheduler, node) =
                (pod.uid().to_owned(), pod.scheduler_name().to_owned(), candidate.node.clone());
            tasks.spawn(async move { executor.evict(&victim, &uid, &scheduler, &node).await });
        }
        let results = tasks.join_all().await;
        results.into_iter().collect::<Result<(), Error>>().map_err(|error| failed("preemption", &error))
    }

    async fn evict(&self, victim: &PodInfo, preemptor: &str, scheduler: &str, node: &str) -> Result<(), Error> {
        let now = self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
            "lastTransitionTime": now,
        });
        let patch = json!({ "metadata": { "uid": victim.uid() }, "status": { "conditions": [condition] } });
        let options = DeleteParams { uid: Some(victim.uid().to_owned()), ..DeleteParams::default() };
        let pods = self.client.namespaced::<Pod>(victim.namespace());
        let gone = async {
            self.patch_status(&victim.pod, &patch).await?;
            pods.delete(victim.name(), &options).await
        };
        match gone.await {
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                let message = format!("Preempted by pod {preemptor} on node {node}");
                self.events.event(reference(&*victim.pod), EventType::Normal, "Preempted", message);
                Ok(())
            }
        }
    }

    async fn prepare(&self, steps: &[PreBind]) -> Result<(), Failed> {
        for step in steps {
            let written = match step {
                PreBind::BindVolume { volume, claim } => self.claim_volume(volume, claim).await,
                PreBind::ProvisionVolume { claim, node } => self.select_node(claim, node).await,
            };
            written.map_err(|error| failed("running PreBind plugin \"VolumeBinding\"", &error))?;
        }
        Ok(())
    }

    /// Reserves the volume; the volume controller completes the binding.
    async fn claim_volume(&self, volume: &str, key: &ObjectKey) -> Result<(), Error> {
        let claim = self.client.namespaced::<PersistentVolumeClaim>(&key.namespace).get(&key.name).await?;
        let volumes = self.client.all::<PersistentVolume>();
        let mut volume = volumes.get(volume).await?;
        volume.spec.get_or_insert_default().claim_ref = Some(reference(&claim));
        let annotations = volume.metadata.annotations.get_or_insert_default();
        annotations.insert("pv.kubernetes.io/bound-by-controller".into(), "yes".into());
        volumes.update(&volume).await.map(drop)
    }

    /// Tells the provisioner where the volume is wanted.
    async fn select_node(&self, claim: &ObjectKey, node: &str) -> Result<(), Error> {
        let claims = self.client.namespaced::<PersistentVolumeClaim>(&claim.namespace);
        let patch = json!({ "metadata": { "annotations": { "volume.kubernetes.io/selected-node": node } } });
        claims.patch(&claim.name, None, PatchKind::Merge, patch.to_string().into_bytes()).await.map(drop)
    }
}

fn failed(what: &str, error: &Error) -> Failed {
    Failed { gone: false, message: format!("{what}: {error}") }
}
