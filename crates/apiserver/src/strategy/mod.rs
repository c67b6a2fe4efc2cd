//! Behaviour of kinds beyond their schema: what is set and what is checked when objects are created and changed, and how
//! they are deleted. A kind without a file here gets [`Generic`] alone.

mod core;
mod meta;
pub(crate) mod pod;
mod service;
mod workload;

use api::{Resource, Value, status::FieldError};

pub(crate) use meta::{new_uid, prepare_update, random_suffix};
pub(crate) use pod::qos_class;
pub use meta::{prepare_create, validate_meta, validate_meta_update};

/// Selectable fields, validation and preparation of one resource. All methods have the generic behaviour as default.
pub trait Strategy: Sync {
    /// Paths that field selectors may name, beyond metadata.name and metadata.namespace.
    fn fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// Sets what a client may not, and what is derived; `object` has its defaults.
    fn prepare_create(&self, _object: &mut Value) {}

    /// Keeps what a client may not change through the main resource. Status and metadata are taken care of.
    fn prepare_update(&self, _object: &mut Value, _old: &Value) {}

    fn validate(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Checks a change; `object` as a whole is checked by [`validate`](Self::validate).
    fn validate_update(&self, _object: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Seconds between the request to delete and the deletion, where someone has to clean up in between.
    fn grace_period_seconds(&self, _object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether a PUT creates the object where it is missing.
    fn creates_on_update(&self) -> bool {
        false
    }

    /// Whether a PUT without resourceVersion overwrites whatever is there.
    fn updates_unconditionally(&self) -> bool {
        true
    }

    /// Whether metadata.generation counts changes of the spec.
    fn counts_generations(&self, resource: &Resource) -> bool {
        resource.has_status()
    }

    /// What garbage collection does with dependents where the client does not say: orphan them, or delete them.
    fn orphans_by_default(&self) -> bool {
        false
    }

    /// Whether a create may bring a status along: a kubelet registers its node with one.
    fn keeps_status_on_create(&self) -> bool {
        false
    }

    /// How its names are checked: a DNS subdomain unless it says otherwise.
    fn name_rule(&self) -> NameRule {
        NameRule::Subdomain
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain.
    Subdomain,
    /// RFC 1123 label.
    Label,
    /// RFC 1035 label.
    Label1035,
    /// Anything that can stand in a path.
    PathSegment,
}

struct Generic;

impl Strategy for Generic {}

/// The strategy of a resource: the one list of kinds with behaviour.
pub fn of(resource: &Resource) -> &'static dyn Strategy {
    match (&*resource.group, &*resource.plural) {
        ("", "pods") => &pod::Pods,
        ("", "services") => &service::Services,
        ("", "namespaces") => &core::Namespaces,
        ("", "nodes") => &core::Nodes,
        ("", "secrets") => &core::Secrets,
        ("", "configmaps") => &core::ConfigMaps,
        ("" | "events.k8s.io", "events") => &core::Events,
        ("", "endpoints") => &core::Endpoints,
        ("", "persistentvolumes" | "persistentvolumeclaims" | "resourcequotas") => &core::WithoutGeneration,
        ("", "replicationcontrollers") => &workload::ReplicationControllers,
        ("apps", "replicasets") => &workload::ReplicaSets,
        ("apps", "deployments") => &workload::Deployments,
        ("apps", "daemonsets") => &workload::DaemonSets,
        ("apps", "statefulsets") => &workload::StatefulSets,
        ("batch", "jobs") => &workload::Jobs,
        ("batch", "cronjobs") => &workload::CronJobs,
        ("coordination.k8s.io", _) => &core::CreatesOnUpdate,
        ("rbac.authorization.k8s.io", _) => &core::Rbac,
        ("certificates.k8s.io", "certificatesigningrequests") => &core::SigningRequests,
        ("discovery.k8s.io", "endpointslices") => &core::EndpointSlices,
        _ => &Generic,
    }
}

pub fn selectable_fields(resource: &Resource) -> &'static [&'static str] {
    of(resource).fields()
}
