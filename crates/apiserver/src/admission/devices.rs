//! What upstream's strategies of resource.k8s.io ask of the rest of the cluster (`pkg/registry/resource/utils.go`).

use api::{Status, Value, status::FieldError};
use async_trait::async_trait;

use super::{Operation, Plugin, Review};

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
