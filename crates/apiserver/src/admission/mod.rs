//! Admission: what may change or refuse a write after authorization. Every plugin sees every write of every resource;
//! mutating ones run first, then the schema's and the strategy's validation, then the validating ones.

pub(crate) mod amounts;
pub(crate) mod certificates;
mod devices;
mod lifecycle;
mod limits;
mod node;
mod pods;
mod podsecurity;
mod quota;
mod rbac;
mod runtimeclass;
mod storage;
mod topology;

use std::sync::Arc;

use api::{Resource, Status, Value};
use async_trait::async_trait;
use parking_lot::Mutex;

use crate::{
    Server,
    auth::{Attributes, UserInfo},
    cache::Object,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// A write on its way to the store.
pub struct Review<'a> {
    pub server: &'a Arc<Server>,
    pub operation: Operation,
    /// The request's: a change is an `update` or a `patch`.
    pub verb: &'a str,
    pub resource: &'a Resource,
    /// Empty for the resource itself.
    pub subresource: &'a str,
    pub namespace: &'a str,
    /// Empty while a generated name is not made yet.
    pub name: &'a str,
    pub user: &'a UserInfo,
    pub dry_run: bool,
    /// As it was before; `None` for a create.
    pub old: Option<&'a Value>,
    /// What plugins want the client told; the answer carries it.
    pub warnings: Mutex<Vec<String>>,
}

impl Review<'_> {
    /// Whether this is about `plural` of `group` itself, none of its subresources.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        &*self.resource.group == group && &*self.resource.plural == plural && self.subresource.is_empty()
    }

    /// Whether nothing but what garbage collection needs changes (IsOnlyMutatingGCFields).
    pub fn is_collection_only(&self, object: &Value) -> bool {
        let rest = |value: &Value| {
            let mut value = value.clone();
            for name in ["ownerReferences", "finalizers", "managedFields", "selfLink", "resourceVersion"] {
                value.take(&["metadata", name]);
            }
            value
        };
        self.old.is_some_and(|old| rest(object) == rest(old))
    }

    /// The question whether the user may do more than write this: `verb` on `resource` of `group`, whatever the version.
    pub fn asks<'a>(&'a self, verb: &'a str, group: &'a str, resource: &'a str) -> Attributes<'a> {
        Attributes {
            user: self.user,
            verb,
            is_resource: true,
            path: "",
            group,
            version: "*",
            resource,
            subresource: "",
            namespace: "",
            name: "",
        }
    }

    /// The answer to a question of [`Review::asks`].
    pub async fn is_allowed(&self, attributes: &Attributes<'_>) -> Result<bool, Status> {
        Ok(self.server.authorization.authorize(attributes).await?.is_allowed())
    }

    pub fn forbidden(&self, why: &str) -> Status {
        Status::forbidden(&self.resource.group, &self.resource.plural, self.name, why)
    }

    pub fn warn(&self, text: String) {
        self.warnings.lock().push(text);
    }

    /// An object by its key on the shelf of `storage`. It counts as missing only once the newest state does not have it.
    pub async fn find(&self, storage: &str, key: &str) -> Result<Option<Arc<Object>>, Status> {
        let shelf = self.server.cache.shelf_at(storage).ok_or_else(Status::no_such_resource)?;
        if let Some(object) = shelf.get(key) {
            return Ok(Some(object));
        }
        self.server.cache.wait_until_current().await?;
        Ok(shelf.get(key))
    }
}

#[async_trait]
pub trait Plugin: Send + Sync {
    /// Upstream's name of the plugin.
    fn name(&self) -> &'static str;

    /// Changes `object` (null for a delete).
    async fn admit(&self, _review: &Review<'_>, _object: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    /// Refuses what must not be.
    async fn validate(&self, _review: &Review<'_>, _object: &Value) -> Result<(), Status> {
        Ok(())
    }
}

/// The plugins in their order.
#[derive(Default)]
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
}

impl Chain {
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Chain {
        Chain { plugins }
    }

    pub async fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.admit(review, object).await.inspect_err(|status| refused(plugin.name(), status))?;
        }
        Ok(())
    }

    pub async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.validate(review, object).await.inspect_err(|status| refused(plugin.name(), status))?;
        }
        Ok(())
    }
}

fn refused(plugin: &str, status: &Status) {
    tracing::debug!(plugin, message = status.message, "admission refused a write");
}

/// The plugins of an ordinary cluster, in upstream's order (`pkg/kubeapiserver/options/plugins.go`); behind them what is no
/// plugin there but part of how the kind is stored; quotas last, when nothing else refuses.
pub fn standard() -> Chain {
    Chain::new(vec![
        Box::new(lifecycle::NamespaceLifecycle),
        Box::new(limits::LimitRanger),
        Box::new(pods::ServiceAccount),
        Box::new(node::NodeRestriction),
        Box::new(node::TaintNodesByCondition),
        Box::new(podsecurity::PodSecurity),
        Box::new(pods::Priority),
        Box::new(pods::DefaultTolerationSeconds),
        Box::new(storage::DefaultStorageClass),
        Box::new(storage::StorageObjectInUseProtection),
        Box::new(storage::PersistentVolumeClaimResize),
        Box::new(runtimeclass::RuntimeClass),
        Box::new(certificates::CertificateApproval),
        Box::new(certificates::CertificateSigning),
        Box::new(certificates::ClusterTrustBundleAttest),
        Box::new(certificates::CertificateSubjectRestriction),
        Box::new(storage::DefaultIngressClass),
        Box::new(topology::PodTopologyLabels),
        Box::new(certificates::CertificateRequester),
        Box::new(certificates::PodCertificateSigning),
        Box::new(devices::DeviceAdminAccess),
        Box::new(devices::ClaimStatus),
        Box::new(rbac::RbacEscalation),
        Box::new(quota::ResourceQuota::default()),
    ])
}
