//! `argosy bench pods`: one pod at a time, from its creation to Ready, and from its deletion to its end.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use client::{
    Api, Client, DeleteParams, Kind, ListParams, WatchEvent,
    kinds::core::v1::{Pod, ServiceAccount},
};
use cluster::images::PAUSE_IMAGE;
use futures_util::StreamExt;
use serde_json::json;

use super::{Target, Times, report};

/// What no pod takes that comes up at all.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Args, Clone, Debug)]
pub struct Flags {
    #[command(flatten)]
    target: Target,
    /// Pods to create and delete
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    #[arg(long, default_value = "default")]
    namespace: String,
    /// An image that the node has and that runs without arguments
    #[arg(long, default_value = PAUSE_IMAGE)]
    image: String,
    /// Seconds of grace when a pod is deleted
    #[arg(long, default_value_t = 1)]
    grace: u32,
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let client = flags.target.client()?;
    let accounts: Api<ServiceAccount> = client.namespaced(&flags.namespace);
    accounts.get("default").await.with_context(|| format!("namespace {} cannot run pods", flags.namespace))?;
    let (mut ready, mut gone) = (Times::default(), Times::default());
    for number in 0..flags.runs {
        let name = format!("argosy-bench-{}-{number}", std::process::id());
        let timed = tokio::time::timeout(PATIENCE, one(&client, &flags, &name)).await;
        let (to_ready, to_gone) = timed.map_err(|_| anyhow!("pod {name} is neither Ready nor gone after {PATIENCE:?}"))??;
        ready.add(to_ready);
        gone.add(to_gone);
    }
    report(&[("create to Ready", &ready), ("delete to gone", &gone)], flags.target.json);
    Ok(())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn one(client: &Client, flags: &Flags, name: &str) -> anyhow::Result<(Duration, Duration)> {
    let pods: Api<Pod> = client.namespaced(&flags.namespace);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "pod", "image": flags.image}], "terminationGracePeriodSeconds": flags.grace},
    });
    let select = ListParams::fields(format!("metadata.name={name}"));
    let version = pods.list(&select).await?.resource_version;
    let mut events = pods.watch(&select, &version, 600).await?.boxed();
    let path = format!("/api/v1/namespaces/{}/pods", flags.namespace);
    let begin = Instant::now();
    client.raw(http::Method::POST, &path, Some("application/json"), Bytes::from(pod.to_string())).await?;
    let mut created = None;
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Modified(pod) if created.is_none() && is_ready(&pod) => {
                created = Some((begin.elapsed(), Instant::now()));
                pods.delete(name, &DeleteParams::default()).await?;
            }
            WatchEvent::Deleted(pod) => match created {
                Some((to_ready, deleted)) => return Ok((to_ready, deleted.elapsed())),
                None => bail!("pod {} was deleted by somebody else", pod.name()),
            },
            _ => {}
        }
    }
    bail!("the watch ended before the pod did")
}
