//! Keeps one task per probe of every running container instance, and takes their news.

use std::{collections::BTreeMap, time::Duration};

use client::EventType;
use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::{PodWorker, Signal};
use crate::{
    plan::{State, spec},
    probes::{self, ProbeKind, ProbeNews, Target},
};

#[derive(Default)]
pub(super) struct Probes {
    tasks: BTreeMap<(String, ProbeKind), JoinHandle<()>>,
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.tasks.values().for_each(JoinHandle::abort);
    }
}

impl PodWorker {
    /// Starts probes that are due and ends those whose container is gone. A pod that ends is only asked whether it is ready.
    pub(super) fn tend_probes(&mut self, ends: bool, now: Timestamp) {
        let running: Vec<_> = self.observed.running().cloned().collect();
        self.probes.tasks.retain(|(id, kind), task| {
            let wanted = running.iter().any(|record| record.id == *id) && (!ends || *kind == ProbeKind::Readiness);
            if !wanted {
                task.abort();
            }
            wanted
        });
        self.observed.probes.retain(|id, _| running.iter().any(|record| record.id == *id));
        if ends {
            return;
        }
        for record in running {
            let Some((_, container)) = spec::find(&self.pod, &record.name) else { continue };
            let State::Running { started_at } = record.state else { continue };
            let started = self.observed.is_started(&record, container.startup_probe.is_some());
            for kind in ProbeKind::ALL {
                let Some(probe) = kind.of(&container) else { continue };
                let due = (kind == ProbeKind::Startup) != started && !self.observed.post_start.contains(&record.id);
                let key = (record.id.clone(), kind);
                if !due || self.probes.tasks.contains_key(&key) {
                    continue;
                }
                let target = Target {
                    id: record.id.clone(),
                    container: container.clone().into_owned(),
                    address: self.address(),
                };
                let age = Duration::try_from(now.duration_since(started_at)).unwrap_or_default();
                let sender = self.sender.clone();
                let (id, name) = (record.id.clone(), record.name.clone());
                let news = move |news: ProbeNews| {
                    let _ = sender.send(Signal::Probe { id: id.clone(), container: name.clone(), kind, news });
                };
                let task = probes::run(self.node.runtime.clone(), kind, probe.clone(), target, age, news);
                self.probes.tasks.insert(key, tokio::spawn(task));
            }
        }
    }

    /// Where the pod answers.
    pub(super) fn address(&self) -> String {
        let facts = self.node.facts();
        let own = self.observed.sandbox().and_then(|sandbox| sandbox.ips.first());
        let address = if spec::host_network(&self.pod) { facts.host_ips.first() } else { own };
        address.cloned().unwrap_or_default()
    }

    pub(super) fn probed(&mut self, id: &str, container: &str, kind: ProbeKind, news: ProbeNews) {
        match news {
            ProbeNews::Failed(message) => {
                let message = format!("{} probe failed: {message}", kind.title());
                self.event(EventType::Warning, Some(container), "Unhealthy", message);
            }
            ProbeNews::Verdict(good) => {
                let probed = self.observed.probes.entry(id.to_owned()).or_default();
                match kind {
                    ProbeKind::Startup => probed.startup = Some(good),
                    ProbeKind::Liveness => probed.liveness = Some(good),
                    ProbeKind::Readiness => probed.readiness = Some(good),
                }
            }
        }
    }
}
