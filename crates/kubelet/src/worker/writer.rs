//! Writes a pod's status in the background: the newest wins, failures are tried again, one write at a time.

use std::{sync::Arc, time::Duration};

use client::kinds::core::v1::{Pod, PodStatus};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::PodApi;

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Update {
    number: u64,
    pod: Arc<Pod>,
    status: PodStatus,
}

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct StatusWriter {
    newest: Arc<watch::Sender<Option<Update>>>,
    written: watch::Receiver<u64>,
}

impl StatusWriter {
    pub fn spawn(api: Arc<dyn PodApi>, cancel: CancellationToken) -> StatusWriter {
        let (newest, updates) = watch::channel(None);
        let (done, written) = watch::channel(0);
        tokio::spawn(async move { cancel.run_until_cancelled(write(api, updates, done)).await });
        StatusWriter { newest: Arc::new(newest), written }
    }

    pub fn send(&self, pod: Arc<Pod>, status: PodStatus) {
        self.newest.send_modify(|newest| {
            let number = newest.as_ref().map_or(1, |newest| newest.number + 1);
            *newest = Some(Update { number, pod, status });
        });
    }

    /// Returns when everything sent so far is written (or overtaken).
    pub async fn flush(&self) {
        let number = self.newest.borrow().as_ref().map_or(0, |newest| newest.number);
        // The writer only goes away with the kubelet.
        let _ = self.written.clone().wait_for(|written| *written >= number).await;
    }
}

async fn write(api: Arc<dyn PodApi>, mut updates: watch::Receiver<Option<Update>>, done: watch::Sender<u64>) {
    let mut last: Option<(String, PodStatus)> = None;
    let mut pause = RETRY_FIRST;
    while updates.changed().await.is_ok() {
        loop {
            let Some(update) = updates.borrow_and_update().clone() else { break };
            let uid = update.pod.metadata.uid.clone().unwrap_or_default();
            let known = last.as_ref().filter(|(pod, _)| *pod == uid).map(|(_, status)| status);
            match api.patch_status(&update.pod, known.or(update.pod.status.as_ref()), &update.status).await {
                Ok(()) => last = Some((uid, update.status)),
                // The object is gone, or another has its name: nothing is left to report on.
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => {
                    tracing::warn!(pod = update.pod.metadata.name, %error, "cannot write pod status");
                    // A newer status does not wait for the older one's next try.
                    let _ = tokio::time::timeout(pause, updates.changed()).await;
                    pause = (pause * 2).min(RETRY_MAX);
                    continue;
                }
            }
            pause = RETRY_FIRST;
            done.send_replace(update.number);
            break;
        }
    }
}
