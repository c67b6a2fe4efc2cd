//! What upstream's strategies of resource.k8s.io ask of the rest of the cluster (`pkg/registry/resource/utils.go`).

use std::collections::BTreeSet;

use api::{Status, Value, status::FieldError};
use async_trait::async_trait;

use super::{Operation, Plugin, Review};
use crate::{auth::Attributes, pipeline};

const GROUP: &str = "resource.k8s.io";
const LABEL: &str = "resource.kubernetes.io/admin-access";

/// Access to devices that are in use is for namespaces that an administrator has marked.
pub struct DeviceAdminAccess;

#[async_trait]
impl Plugin for DeviceAdminAccess {
    fn name(&self) -> &'static str {
        "DeviceAdminAccess"
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<(), Status> {
        let Some(field) = asks(review, object) else { return Ok(()) };
        let namespace = review.find("namespaces", review.namespace).await?;
        let is_marked =
            namespace.is_some_and(|namespace| namespace.tree().str_at(&["metadata", "labels", LABEL]) == "true");
        if is_marked {
            return Ok(());
        }
        let detail = format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace");
        let error = FieldError::forbidden(field, detail);
        Err(Status::invalid(GROUP, &review.resource.kind.kind, review.name, vec![error]))
    }
}

/// Where a new claim, a new template or a new allocation first asks for such access.
fn asks(review: &Review<'_>, object: &Value) -> Option<String> {
    if &*review.resource.group != GROUP {
        return None;
    }
    let create = review.operation == Operation::Create && review.subresource.is_empty();
    let status = review.operation == Operation::Update && review.subresource == "status";
    let list = |object: &Value, path: &[&str], access: &[&str]| {
        let items = object.at(path).and_then(Value::as_array).unwrap_or_default();
        items.iter().position(|item| item.at(access).and_then(Value::as_bool) == Some(true))
    };
    let results = ["status", "allocation", "devices", "results"];
    match &*review.resource.plural {
        "resourceclaims" if create => {
            let at = list(object, &["spec", "devices", "requests"], &["exactly", "adminAccess"])?;
            Some(format!("spec.devices.requests[{at}].adminAccess"))
        }
        "resourceclaimtemplates" if create => {
            let at = list(object, &["spec", "spec", "devices", "requests"], &["exactly", "adminAccess"])?;
            Some(format!("spec.devices.requests[{at}].adminAccess"))
        }
        "resourceclaims" if status => {
            let had = review.old.and_then(|old| list(old, &results, &["adminAccess"]));
            let at = list(object, &results, &["adminAccess"]).filter(|_| had.is_none())?;
            Some(format!("status.allocation.devices.results[{at}].adminAccess"))
        }
        _ => None,
    }
}

/// Who binds claims and who drives devices each have a part of a claim's status (AuthorizedForBinding,
/// AuthorizedForDeviceStatus): what nobody asks for by its name, `binding` and `driver`, is what they are permitted.
pub struct ClaimStatus;

#[async_trait]
impl Plugin for ClaimStatus {
    fn name(&self) -> &'static str {
        "ResourceClaimStatus"
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<(), Status> {
        let Some(old) = review.old.filter(|_| {
            &*review.resource.group == GROUP
                && &*review.resource.plural == "resourceclaims"
                && review.subresource == "status"
        }) else {
            return Ok(());
        };
        let mut errors = Vec::new();
        let differs = |name: &str| object.at(&["status", name]) != old.at(&["status", name]);
        if (differs("allocation") || differs("reservedFor"))
            && let Some(why) = refusal(review, &[review.verb.to_owned()], "binding", "", "").await?
        {
            let verb = review.verb;
            let detail = format!(
                "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb=\"{verb}\" permission: {why}"
            );
            errors.push(FieldError::forbidden("status.allocation", detail));
        }
        let verbs = driver_verbs(review, object);
        // Without an allocation there are no devices: what was said of them goes.
        let is_allocated = object.at(&["status", "allocation"]).is_some();
        for driver in changed_drivers(object, old).iter().filter(|_| is_allocated) {
            if let Some(why) = refusal(review, &verbs, "driver", review.namespace, driver).await? {
                let verbs = verbs.join(" ");
                let detail = format!(
                    "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{verbs}]\" permission: {why}"
                );
                errors.push(FieldError::forbidden("status.devices", detail));
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(GROUP, &review.resource.kind.kind, review.name, errors))
    }
}

/// Why the user may do none of these, the first of them.
async fn refusal(
    review: &Review<'_>,
    verbs: &[String],
    subresource: &str,
    namespace: &str,
    name: &str,
) -> Result<Option<String>, Status> {
    let mut first = None;
    for verb in verbs {
        let attributes = Attributes { subresource, namespace, name, ..review.asks(verb, GROUP, "resourceclaims") };
        let decision = review.server.authorization.authorize(&attributes).await?;
        if decision.is_allowed() {
            return Ok(None);
        }
        first.get_or_insert_with(|| pipeline::forbidden(&attributes, &decision).message);
    }
    Ok(first)
}

/// What a driver may be permitted: to speak of devices of its own node, or of any.
fn driver_verbs(review: &Review<'_>, object: &Value) -> Vec<String> {
    let arbitrary = format!("arbitrary-node:{}", review.verb);
    let nodes = review.user.extra.get("authentication.kubernetes.io/node-name").map(Vec::as_slice);
    match (nodes, allocated_node(object)) {
        (Some([own]), Some(node)) if own == node && review.user.name.starts_with("system:serviceaccount:") => {
            vec![format!("associated-node:{}", review.verb), arbitrary]
        }
        _ => vec![arbitrary],
    }
}

/// The node that an allocation is on, if it is on one by its name.
fn allocated_node(object: &Value) -> Option<&str> {
    let terms = object.at(&["status", "allocation", "nodeSelector", "nodeSelectorTerms"])?.as_array()?;
    let [term] = terms else { return None };
    let list = |name: &str| term.get(name).and_then(Value::as_array).unwrap_or_default();
    let ([], [field]) = (list("matchExpressions"), list("matchFields")) else { return None };
    let [value] = field.get("values")?.as_array()? else { return None };
    let is_name = field.str_at(&["key"]) == "metadata.name" && field.str_at(&["operator"]) == "In";
    value.as_str().filter(|name| is_name && !name.is_empty())
}

/// The drivers of devices of which something else is said than before, in order.
fn changed_drivers(object: &Value, old: &Value) -> BTreeSet<String> {
    let devices = |object: &Value| {
        let list = object.at(&["status", "devices"]).and_then(Value::as_array).unwrap_or_default();
        list.to_vec()
    };
    let (now, before) = (devices(object), devices(old));
    let only = |list: &[Value], other: &[Value]| {
        let changed = list.iter().filter(|device| !other.contains(device));
        changed.map(|device| device.str_at(&["driver"]).to_owned()).collect::<Vec<_>>()
    };
    only(&now, &before).into_iter().chain(only(&before, &now)).collect()
}
