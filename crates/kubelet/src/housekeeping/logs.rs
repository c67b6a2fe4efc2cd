//! Looks at the logs of all running containers and rotates those that have grown too large (upstream
//! `pkg/kubelet/logs/container_log_manager.go: rotateLogs`), and removes those of containers that are gone.

use std::{path::Path, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};

use crate::{
    manager::PodTable,
    server::logs::rotate::{RotationPolicy, rotate},
    worker::Node,
};

/// Upstream's containerLogMonitorInterval.
const EVERY: Duration = Duration::from_secs(10);
/// Logs that are compressed at the same time: a node full of chatty containers must not spend its cores on that.
const AT_ONCE: usize = 2;

/// Runs until it is dropped.
pub async fn run(node: Arc<Node>, table: PodTable, policy: RotationPolicy) {
    loop {
        tokio::time::sleep(EVERY).await;
        stream::iter(running(&table))
            .for_each_concurrent(AT_ONCE, |(id, path)| {
                let node = &node;
                async move {
                    let now = node.clock.now();
                    if let Err(error) = rotate(&*node.runtime, &id, Path::new(&path), &policy, now).await {
                        tracing::warn!(container = id, %error, "cannot rotate a container's log");
                    }
                }
            })
            .await;
    }
}

/// Ids and log paths of running containers.
fn running(table: &PodTable) -> Vec<(String, String)> {
    let views = table.views();
    let records = views.iter().flat_map(|view| &view.containers);
    let running = records.filter(|record| record.is_running() && !record.log_path.is_empty());
    running.map(|record| (record.id.clone(), record.log_path.clone())).collect()
}

/// Removes a container's log with its rotated parts (`container_log_manager.go: Clean`).
pub async fn remove(log: &Path) {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name().and_then(|name| name.to_str())) else { return };
    let Ok(mut entries) = tokio::fs::read_dir(dir).await else { return };
    let prefix = format!("{name}.");
    while let Ok(Some(entry)) = entries.next_entry().await {
        let is_part = entry.file_name().to_str().is_some_and(|other| other == name || other.starts_with(&prefix));
        if is_part && let Err(error) = tokio::fs::remove_file(entry.path()).await {
            tracing::warn!(path = %entry.path().display(), %error, "cannot remove a container's log");
        }
    }
}
