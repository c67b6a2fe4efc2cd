//! What the runtime says of a pod without being asked for a step: exits, and regular listings.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_cri::v1::ContainerState;

use super::{PodWorker, Signal, act::Done, sandbox_record};
use crate::plan::{SandboxRecord, State};

impl PodWorker {
    /// Asks the runtime about a container or sandbox that is said to have changed.
    pub(super) fn inspect(&mut self, id: &str) {
        if let Some(sandbox) = self.observed.sandboxes.iter_mut().find(|sandbox| sandbox.id == id) {
            // Its process is what keeps its namespaces: without it the sandbox is dead.
            sandbox.ready = self.observed.doing.stopping.contains(id) && sandbox.ready;
            return;
        }
        // A kill looks at the container itself when it is done.
        if self.observed.doing.killing.contains_key(id) {
            return;
        }
        let (node, id, sender) = (self.node.clone(), id.to_owned(), self.sender.clone());
        tokio::spawn(async move {
            // The news of an exit may overtake the runtime's own bookkeeping by some milliseconds, and that of a start too.
            let is_on_the_way = |state: i32| {
                [ContainerState::ContainerCreated, ContainerState::ContainerRunning]
                    .iter()
                    .any(|other| *other as i32 == state)
            };
            let mut pause = Duration::from_millis(4);
            loop {
                let status = node.runtime.container_status(&id).await;
                let settled = !matches!(&status, Ok(status) if is_on_the_way(status.state));
                if settled || pause > Duration::from_secs(2) {
                    let _ = sender.send(Signal::Done(Box::new(Done::Status { id, status })));
                    return;
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        });
    }

    /// What a listing says that is not known yet is looked at; what it lacks is gone.
    pub(super) fn compare(&mut self, sandboxes: &[(String, bool)], containers: &[(String, i32)], since: Timestamp) {
        // What was made while the listing was under way may or may not be in it.
        let settled = |at: Timestamp| since.duration_since(at) > SignedDuration::from_secs(2);
        for sandbox in &mut self.observed.sandboxes {
            match sandboxes.iter().find(|(id, _)| *id == sandbox.id) {
                Some((_, ready)) => sandbox.ready &= ready,
                None if settled(sandbox.created_at) => sandbox.ready = false,
                None => {}
            }
        }
        self.observed.containers.retain_mut(|record| {
            let listed = containers.iter().any(|(id, _)| *id == record.id);
            if !listed && settled(record.created_at) && record.is_running() {
                record.state = State::Unknown;
            }
            true
        });
        let running = ContainerState::ContainerRunning as i32;
        let changed: Vec<String> = containers
            .iter()
            .filter(|(id, state)| {
                let known = self.observed.containers.iter().find(|record| record.id == *id);
                known.is_some_and(|record| record.is_running() != (*state == running))
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in changed {
            self.inspect(&id);
        }
        self.look_for_unknown(sandboxes, containers);
    }

    /// What a call made although it never answered (the kubelet gave up on it, or was killed in between) would keep its
    /// name taken for ever: it is taken over, and goes as everything else does.
    fn look_for_unknown(&mut self, sandboxes: &[(String, bool)], containers: &[(String, i32)]) {
        let doing = &self.observed.doing;
        if !doing.sandbox {
            let known = |id: &String| self.observed.sandboxes.iter().any(|sandbox| sandbox.id == *id);
            for (id, _) in sandboxes.iter().filter(|(id, _)| !known(id)) {
                let (node, id, sender) = (self.node.clone(), id.clone(), self.sender.clone());
                tokio::spawn(async move {
                    if let Ok(status) = node.runtime.pod_sandbox_status(&id).await {
                        let _ = sender.send(Signal::Done(Box::new(Done::Found(sandbox_record(&status)))));
                    }
                });
            }
        }
        if !doing.starting {
            let known = |id: &String| self.observed.containers.iter().any(|record| record.id == *id);
            let unknown = containers.iter().filter(|(id, _)| !known(id)).map(|(id, _)| id.clone());
            for id in unknown.collect::<Vec<_>>() {
                self.inspect(&id);
            }
        }
    }

    pub(super) fn adopt(&mut self, record: SandboxRecord) {
        let known = self.observed.sandboxes.iter().any(|sandbox| sandbox.id == record.id);
        if known || self.observed.doing.sandbox || self.observed.finished {
            return;
        }
        tracing::info!(id = record.id, attempt = record.attempt, "taking over a sandbox that no answer told of");
        self.node.register(&record.id, &self.sender);
        self.observed.sandboxes.push(record);
        self.observed.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.attempt, sandbox.created_at)));
    }
}
