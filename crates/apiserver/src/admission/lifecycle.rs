//! NamespaceLifecycle: nothing is created in a namespace that is not there or is going away, and some namespaces stay.

use api::{Status, Value, status::Cause};
use async_trait::async_trait;

use super::{Operation, Plugin, Review};

pub struct NamespaceLifecycle;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn admit(&self, review: &Review<'_>, _object: &mut Value) -> Result<(), Status> {
        if review.is("", "namespaces") && review.operation == Operation::Delete && IMMORTAL.contains(&review.name) {
            return Err(review.forbidden("this namespace may not be deleted"));
        }
        if review.operation != Operation::Create || !review.resource.namespaced {
            return Ok(());
        }
        // A question about access is not kept anywhere.
        if &*review.resource.group == "authorization.k8s.io" {
            return Ok(());
        }
        let namespace = review.find("namespaces", review.namespace).await?;
        let Some(namespace) = namespace else { return Err(Status::not_found("", "namespaces", review.namespace)) };
        let tree = namespace.tree();
        if tree.at(&["metadata", "deletionTimestamp"]).is_none() {
            return Ok(());
        }
        let why =
            format!("unable to create new content in namespace {} because it is being terminated", review.namespace);
        let mut status = review.forbidden(&why);
        if let Some(details) = &mut status.details {
            details.causes.push(Cause {
                reason: "NamespaceTerminating".into(),
                message: format!("namespace {} is being terminated", review.namespace),
                field: "metadata.namespace".into(),
            });
        }
        Err(status)
    }
}
