//! Watches the ConfigMaps and Secrets that pods of this node mount, one by one as upstream does
//! (`pkg/kubelet/util/manager/watch_based_manager.go`), so that volumes follow a change at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use client::{
    Client, Kind, ListParams, WatchEvent,
    kinds::core::v1::{ConfigMap, Pod, Secret},
};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::manager::Change;

/// Not while the pod starts, which reads the objects anyway; what changed until then is seen by the first list.
const BEGIN_AFTER: Duration = Duration::from_secs(1);
const RETRY_AFTER: Duration = Duration::from_secs(5);
const WATCH_SECONDS: u32 = 600;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    ConfigMap,
    Secret,
}

/// One object that volumes show.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    pub kind: ObjectKind,
    pub namespace: String,
    pub name: String,
}

/// What a pod's volumes are made of. Pure.
pub fn of(pod: &Pod) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    let mut add = |kind, name: &str| {
        let namespace = pod.namespace().to_owned();
        found.insert(Reference { kind, namespace, name: name.to_owned() });
    };
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        if let Some(map) = &volume.config_map {
            add(ObjectKind::ConfigMap, &map.name);
        }
        if let Some(name) = volume.secret.as_ref().and_then(|secret| secret.secret_name.as_deref()) {
            add(ObjectKind::Secret, name);
        }
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            if let Some(map) = &source.config_map {
                add(ObjectKind::ConfigMap, &map.name);
            }
            if let Some(secret) = &source.secret {
                add(ObjectKind::Secret, &secret.name);
            }
        }
    }
    found
}

/// The watches there are, each with the pods that want it. The manager keeps it.
pub struct References {
    client: Client,
    changes: mpsc::UnboundedSender<Change>,
    cancel: CancellationToken,
    watched: BTreeMap<Reference, (CancellationToken, BTreeSet<String>)>,
}

impl References {
    pub fn new(client: Client, changes: mpsc::UnboundedSender<Change>, cancel: CancellationToken) -> References {
        References { client, changes, cancel, watched: BTreeMap::new() }
    }

    pub fn add(&mut self, pod: &Pod) {
        for reference in of(pod) {
            let (_, pods) = self.watched.entry(reference.clone()).or_insert_with(|| {
                let cancel = self.cancel.child_token();
                let watch = run(self.client.clone(), reference, self.changes.clone());
                tokio::spawn(cancel.clone().run_until_cancelled_owned(watch));
                (cancel, BTreeSet::new())
            });
            pods.insert(pod.uid().to_owned());
        }
    }

    pub fn remove(&mut self, uid: &str) {
        self.watched.retain(|_, (cancel, pods)| {
            pods.remove(uid);
            if pods.is_empty() {
                cancel.cancel();
            }
            !pods.is_empty()
        });
    }

    /// The pods that show this object.
    pub fn pods(&self, reference: &Reference) -> impl Iterator<Item = &String> {
        self.watched.get(reference).into_iter().flat_map(|(_, pods)| pods)
    }
}

async fn run(client: Client, reference: Reference, changes: mpsc::UnboundedSender<Change>) {
    tokio::time::sleep(BEGIN_AFTER).await;
    match reference.kind {
        ObjectKind::ConfigMap => follow::<ConfigMap>(&client, &reference, &changes).await,
        ObjectKind::Secret => follow::<Secret>(&client, &reference, &changes).await,
    }
}

/// Watches for ever. A new beginning counts as a change: what happened before it was not seen.
async fn follow<K: Kind>(client: &Client, reference: &Reference, changes: &mpsc::UnboundedSender<Change>) {
    let api = client.namespaced::<K>(&reference.namespace);
    // The node authorizer allows a watch that is narrowed to one name.
    let params = ListParams::fields(format!("metadata.name={}", reference.name));
    let changed = || {
        let _ = changes.send(Change::Referenced(reference.clone()));
    };
    loop {
        changed();
        // From whatever state the server has at hand: an object that is there comes first.
        let mut version = "0".to_owned();
        while let Ok(newer) = watch(&api, &params, &version, &changed).await {
            version = newer;
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Gives back how far it came; an error where the watch cannot go on from there.
async fn watch<K: Kind>(
    api: &client::Api<K>,
    params: &ListParams,
    version: &str,
    changed: &impl Fn(),
) -> Result<String, ()> {
    let mut version = version.to_owned();
    let failed = |error: client::Error| tracing::debug!(params = params.field_selector, %error, "watch ended");
    let mut events = api.watch(params, &version, WATCH_SECONDS).await.map_err(failed)?;
    let begun = tokio::time::Instant::now();
    while let Some(event) = events.next().await {
        match event.map_err(failed)? {
            WatchEvent::Bookmark { resource_version, .. } => version = resource_version,
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                version = object.resource_version().to_owned();
                changed();
            }
        }
    }
    // A watch that ends at once must not become a busy loop.
    if begun.elapsed() < Duration::from_secs(1) { Err(()) } else { Ok(version) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_object_that_volumes_show() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "ns"},
            "spec": {"containers": [], "volumes": [
                {"name": "a", "configMap": {"name": "map"}},
                {"name": "b", "secret": {"secretName": "secret"}},
                {"name": "c", "projected": {"sources": [
                    {"configMap": {"name": "map"}}, {"configMap": {"name": "other"}}, {"secret": {"name": "more"}},
                    {"serviceAccountToken": {"path": "token"}},
                ]}},
                {"name": "d", "emptyDir": {}},
            ]},
        }))
        .expect("a pod");
        let names: Vec<String> = of(&pod).into_iter().map(|found| format!("{:?} {}", found.kind, found.name)).collect();
        assert_eq!(names, ["ConfigMap map", "ConfigMap other", "Secret more", "Secret secret"]);
    }
}
