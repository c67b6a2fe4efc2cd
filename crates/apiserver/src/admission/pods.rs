//! Admission of pods: their service account and its token, their priority, and how long they bear a failing node.

use api::{Status, Value, json};
use async_trait::async_trait;

use super::{Operation, Plugin, Review};

fn is_new_pod(review: &Review<'_>) -> bool {
    review.operation == Operation::Create && review.is("", "pods")
}

fn is_mirror(pod: &Value) -> bool {
    pod.at(&["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some()
}

/// Upstream `plugin/pkg/admission/serviceaccount`.
pub struct ServiceAccount;

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// A little over an hour, so that a kubelet that renews at 80 % does so before an hour is over.
const TOKEN_SECONDS: i64 = 3607;

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    async fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
        if !is_new_pod(review) || is_mirror(object) {
            return Ok(());
        }
        let mut name = object.str_at(&["spec", "serviceAccountName"]).to_owned();
        if name.is_empty() {
            name = "default".to_owned();
        }
        object.set(&["spec", "serviceAccountName"], name.as_str());
        object.set(&["spec", "serviceAccount"], name.as_str());
        let account = find(review, &name).await?;
        let automount = object
            .at(&["spec", "automountServiceAccountToken"])
            .or_else(|| account.get("automountServiceAccountToken"))
            .and_then(Value::as_bool)
            .unwrap_or(true);
        if automount {
            mount_token(object);
        }
        if object.at(&["spec", "imagePullSecrets"]).is_none()
            && let Some(secrets) = account.get("imagePullSecrets")
        {
            object.set(&["spec", "imagePullSecrets"], secrets.clone());
        }
        Ok(())
    }
}

async fn find(review: &Review<'_>, name: &str) -> Result<Value, Status> {
    let account = review.find("serviceaccounts", &format!("{}/{name}", review.namespace)).await?;
    let account = account.ok_or_else(|| {
        review.forbidden(&format!(
            "error looking up service account {}/{name}: serviceaccount \"{name}\" not found",
            review.namespace
        ))
    })?;
    Ok(account.tree())
}

/// Adds the projected volume with token, CA and namespace, and mounts it where nothing is mounted yet.
fn mount_token(pod: &mut Value) {
    let volume = format!("kube-api-access-{}", crate::strategy::random_suffix());
    let mut used = false;
    for list in ["containers", "initContainers"] {
        for container in pod.at_mut(&["spec", list]).and_then(Value::as_array_mut).into_iter().flatten() {
            let Value::Object(container) = container else { continue };
            let mounts = container.entry_or_insert_with("volumeMounts", || Value::Array(Vec::new()));
            let Some(mounts) = mounts.as_array_mut() else { continue };
            if mounts.iter().any(|mount| mount.str_at(&["mountPath"]) == TOKEN_PATH) {
                continue;
            }
            let mut mount = Value::object();
            mount.set(&["name"], volume.as_str());
            mount.set(&["readOnly"], true);
            mount.set(&["mountPath"], TOKEN_PATH);
            mounts.push(mount);
            used = true;
        }
    }
    if !used {
        return;
    }
    let source = format!(
        r#"{{"name":"{volume}","projected":{{"defaultMode":420,"sources":[
            {{"serviceAccountToken":{{"expirationSeconds":{TOKEN_SECONDS},"path":"token"}}}},
            {{"configMap":{{"name":"kube-root-ca.crt","items":[{{"key":"ca.crt","path":"ca.crt"}}]}}}},
            {{"downwardAPI":{{"items":[{{"path":"namespace","fieldRef":{{"apiVersion":"v1","fieldPath":"metadata.namespace"}}}}]}}}}
        ]}}}}"#
    );
    // The text above is JSON whatever the volume is called.
    let source = json::parse(source.as_bytes()).unwrap_or_default();
    let Some(spec) = pod.make_object(&["spec"]) else { return };
    if let Some(volumes) = spec.entry_or_insert_with("volumes", || Value::Array(Vec::new())).as_array_mut() {
        volumes.push(source);
    }
}

/// Upstream `plugin/pkg/admission/priority`: from a class's name to its value.
pub struct Priority;

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    async fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
        if review.operation == Operation::Update && review.is("", "pods") {
            for name in ["priority", "preemptionPolicy"] {
                let before = review.old.and_then(|old| old.at(&["spec", name]));
                if let Some(before) = before.filter(|_| object.at(&["spec", name]).is_none()) {
                    object.set(&["spec", name], before.clone());
                }
            }
            return Ok(());
        }
        if !is_new_pod(review) {
            return Ok(());
        }
        let name = object.str_at(&["spec", "priorityClassName"]).to_owned();
        let class = if name.is_empty() {
            default_class(review)?
        } else {
            let class = review.find("priorityclasses", &name).await?;
            let class =
                class.ok_or_else(|| review.forbidden(&format!("no PriorityClass with name {name} was found")))?;
            Some(class.tree())
        };
        let (mut value, mut policy) = (0, "PreemptLowerPriority".to_owned());
        if let Some(class) = class {
            value = class.get("value").and_then(Value::as_i64).unwrap_or(0);
            policy = class.str_at(&["preemptionPolicy"]).to_owned();
            object.set(&["spec", "priorityClassName"], class.str_at(&["metadata", "name"]));
        }
        if object.at(&["spec", "priority"]).and_then(Value::as_i64).is_some_and(|own| own != value) {
            let own = object.at(&["spec", "priority"]).map(Value::to_string).unwrap_or_default();
            let why = format!(
                "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
            );
            return Err(review.forbidden(&why));
        }
        object.set(&["spec", "priority"], value);
        if policy.is_empty() {
            return Ok(());
        }
        let own = object.at(&["spec", "preemptionPolicy"]).and_then(Value::as_str);
        if let Some(own) = own.filter(|own| *own != policy) {
            let why = format!(
                "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            );
            return Err(review.forbidden(&why));
        }
        object.set(&["spec", "preemptionPolicy"], policy);
        Ok(())
    }
}

/// The class of pods that name none: of several defaults the one of the lowest value.
fn default_class(review: &Review<'_>) -> Result<Option<Value>, Status> {
    let shelf = review.server.cache.shelf_at("priorityclasses").ok_or_else(Status::no_such_resource)?;
    let classes = shelf.snapshot();
    let classes = classes.objects.values().map(|class| class.tree());
    let defaults = classes.filter(|class| class.get("globalDefault").and_then(Value::as_bool) == Some(true));
    Ok(defaults.min_by_key(|class| class.get("value").and_then(Value::as_i64)))
}

/// Upstream `plugin/pkg/admission/defaulttolerationseconds`: five minutes. Updates too: what they leave out comes back.
pub struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    async fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
        let is_written = matches!(review.operation, Operation::Create | Operation::Update);
        if !is_written || !review.is("", "pods") {
            return Ok(());
        }
        let Some(spec) = object.make_object(&["spec"]) else { return Ok(()) };
        let Some(tolerations) = spec.entry_or_insert_with("tolerations", || Value::Array(Vec::new())).as_array_mut()
        else {
            return Ok(());
        };
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            let bears = |toleration: &Value| {
                let (own, effect) = (toleration.str_at(&["key"]), toleration.str_at(&["effect"]));
                (own == key || own.is_empty()) && (effect == "NoExecute" || effect.is_empty())
            };
            if tolerations.iter().any(bears) {
                continue;
            }
            let mut toleration = Value::object();
            toleration.set(&["key"], key);
            toleration.set(&["operator"], "Exists");
            toleration.set(&["effect"], "NoExecute");
            toleration.set(&["tolerationSeconds"], 300);
            tolerations.push(toleration);
        }
        Ok(())
    }
}
