//! What a cluster is given once its API answers: cluster DNS, and the role label of its node.

use anyhow::{Context, bail};
use client::{
    Client, Kind, PatchKind,
    kinds::{
        apps::v1::Deployment,
        core::v1::{Node, Service, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding},
    },
};
use cluster::{images, layout::Settings};
use dns::ManifestSettings;
use serde_json::Value;

use crate::clients;

/// Creates what cluster DNS needs and is not there; what is there belongs to the administrator.
pub async fn dns(client: &Client, settings: &Settings) -> anyhow::Result<()> {
    let command = ["argosy", "dns", "--cluster-domain", &settings.cluster_domain];
    let manifests = dns::manifests(&ManifestSettings {
        image: images::argosy_image(),
        command: command.map(str::to_owned).into(),
        cluster_ip: settings.dns_ip,
        replicas: 1,
    });
    for manifest in manifests {
        create_missing(client, manifest).await?;
    }
    Ok(())
}

async fn create_missing(client: &Client, manifest: Value) -> anyhow::Result<()> {
    match manifest["kind"].as_str().unwrap_or_default() {
        "ServiceAccount" => create::<ServiceAccount>(client, manifest).await,
        "ClusterRole" => create::<ClusterRole>(client, manifest).await,
        "ClusterRoleBinding" => create::<ClusterRoleBinding>(client, manifest).await,
        "Deployment" => create::<Deployment>(client, manifest).await,
        "Service" => create::<Service>(client, manifest).await,
        other => bail!("no add-on holds a {other}"),
    }
}

async fn create<K: Kind + serde::de::DeserializeOwned>(client: &Client, manifest: Value) -> anyhow::Result<()> {
    let object: K = serde_json::from_value(manifest)?;
    let api = match object.namespace() {
        "" => client.all::<K>(),
        namespace => client.namespaced::<K>(namespace),
    };
    // Most starts find it: reading is cheaper than a write that is refused.
    let created = clients::patiently(async || {
        if api.find(object.name()).await?.is_some() {
            return Ok(());
        }
        match api.create(&object).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(()),
        }
    });
    created.await.with_context(|| format!("creating {}", object.name()))
}

/// The label by which `kubectl get nodes` shows a role. Kubelets may not give it to themselves.
pub async fn label_control_plane(client: &Client, node: &str) -> anyhow::Result<()> {
    let patch = serde_json::json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}});
    let (nodes, patch) = (client.all::<Node>(), patch.to_string());
    let patched =
        clients::patiently(async || nodes.patch(node, None, PatchKind::Merge, patch.clone().into_bytes()).await);
    patched.await.map(drop).context("labelling the node")
}
