//! What every cluster starts with: namespaces, the `kubernetes` Service, priority classes, and upstream's default roles.
//! Roles and bindings are reconciled at each start, as upstream does: what is missing is added, nothing is taken away.

pub(crate) mod flow;
mod policy;

use std::{sync::Arc, time::Duration};

use api::{Status, Value, json, status::Reason};
use jiff::Timestamp;

use crate::{Server, own::Own};

const OBJECTS: &str = include_str!("bootstrap/objects.yaml");

/// Roles with this annotation set to false are left as they are.
const AUTOUPDATE: [&str; 3] = ["metadata", "annotations", "rbac.authorization.kubernetes.io/autoupdate"];

pub(crate) async fn run(server: &Arc<Server>) -> Result<(), Status> {
    for object in documents(OBJECTS)?.into_iter().chain(addresses(server)).chain([token_tracking(server.clock.now())]) {
        ensure(server, object, false).await?;
    }
    ensure(server, authentication(server), true).await?;
    for object in policy::builtin()? {
        ensure(server, object, true).await?;
    }
    Ok(())
}

/// Puts back what must always be there and was deleted (upstream: the controllers systemnamespaces and kubernetesservice).
pub(crate) async fn keep(server: &Arc<Server>) -> Result<(), Status> {
    for object in documents(OBJECTS)?.into_iter().chain(addresses(server)) {
        if matches!(object.str_at(&["kind"]), "Namespace" | "Service") {
            ensure(server, object, false).await?;
        }
    }
    Ok(())
}

fn documents(text: &str) -> Result<Vec<Value>, Status> {
    let trees: Vec<serde_json::Value> = serde_saphyr::from_multiple(text).map_err(Status::internal)?;
    trees.iter().map(|tree| json::parse(tree.to_string().as_bytes()).map_err(Status::internal)).collect()
}

/// The `kubernetes` Service and the range of service addresses.
fn addresses(server: &Server) -> Vec<Value> {
    let config = &server.config;
    let range = config.service_cluster_ip_range;
    let texts = [
        serde_json::json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": [range.to_string()]},
        }),
        serde_json::json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {
                "type": "ClusterIP", "clusterIP": range.address_at(1), "sessionAffinity": "None",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": config.secure_port}],
            },
        }),
    ];
    texts.iter().filter_map(|text| json::parse(text.to_string().as_bytes()).ok()).collect()
}

/// How requests are authenticated, for API servers behind this one and for components that authenticate as it does
/// (upstream pkg/controlplane/controller/clusterauthenticationtrust).
fn authentication(server: &Server) -> Value {
    let mut object = system_config_map("extension-apiserver-authentication");
    if let Some(authorities) = &server.config.client_ca {
        object.set(&["data", "client-ca-file"], authorities.as_str());
    }
    object
}

/// Since when the use of tokens that stand in Secrets is recorded (upstream pkg/controlplane/controller/legacytokentracking):
/// without it the controller manager does not collect those that nobody uses.
fn token_tracking(now: Timestamp) -> Value {
    let mut object = system_config_map("kube-apiserver-legacy-service-account-token-tracking");
    object.set(&["data", "since"], now.strftime("%Y-%m-%d").to_string());
    object
}

fn system_config_map(name: &str) -> Value {
    let mut object = Value::object();
    object.set(&["apiVersion"], "v1");
    object.set(&["kind"], "ConfigMap");
    object.set(&["metadata", "namespace"], "kube-system");
    object.set(&["metadata", "name"], name);
    object
}

/// How often a creation is tried again, and how long is waited in between: servers that start at once get in each other's way.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// Creates `object` where it is missing; where `reconcile` says so, completes it.
async fn ensure(server: &Arc<Server>, mut object: Value, reconcile: bool) -> Result<(), Status> {
    let (namespace, name) =
        (object.str_at(&["metadata", "namespace"]).to_owned(), object.str_at(&["metadata", "name"]).to_owned());
    let own = Own::of(server, object.str_at(&["apiVersion"]), object.str_at(&["kind"]), &namespace)?;
    own.complete(&mut object)?;
    if own.cached(&name).is_some() {
        return if reconcile { own.change(&name, |before| Ok(completed(before, &object))).await } else { Ok(()) };
    }
    for attempt in 1.. {
        // The same from another server, in this moment, is as good.
        let failure = match own.create(object.clone()).await {
            Ok(()) => return Ok(()),
            Err(status) if status.reason == Reason::AlreadyExists => return Ok(()),
            Err(status) => status,
        };
        if own.current(&name).await?.is_some() {
            break;
        }
        if attempt == TRIES {
            return Err(failure);
        }
        tracing::debug!(name, status = failure.message, "cannot be created yet");
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// `before` with what `wanted` has and it lacks: rules and subjects of roles.
fn completed(before: &Value, wanted: &Value) -> Value {
    let mut object = before.clone();
    if before.at(&AUTOUPDATE).and_then(Value::as_str) == Some("false") {
        return object;
    }
    for name in ["rules", "subjects"] {
        let Some(Value::Array(list)) = wanted.get(name) else { continue };
        let Some(map) = object.as_object_mut() else { continue };
        let Some(have) = map.entry_or_insert_with(name, || Value::Array(Vec::new())).as_array_mut() else { continue };
        for entry in list {
            if !have.contains(entry) {
                have.push(entry.clone());
            }
        }
    }
    if let Some(rule) = wanted.get("aggregationRule") {
        object.set(&["aggregationRule"], rule.clone());
    }
    for path in [&["metadata", "labels"][..], &["metadata", "annotations"], &["data"]] {
        for (key, value) in wanted.at(path).and_then(Value::as_object).into_iter().flat_map(|map| map.iter()) {
            object.set(&[path, &[key]].concat(), value.clone());
        }
    }
    object
}
