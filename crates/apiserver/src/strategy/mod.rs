//! Behaviour of kinds beyond their schema: what is set and what is checked when objects are created and changed, and how
//! they are deleted. A kind without a file here gets [`Generic`] alone.

mod certificates;
mod core;
mod custom;
mod definition;
mod devices;
mod gates;
mod meta;
pub(crate) mod pod;
mod selectable;
mod service;
mod storage;
mod validate;
mod workload;

use api::{Resource, Value, model::Gvk, status::FieldError};
use jiff::Timestamp;

use crate::rest::Scope;

pub(crate) use definition::conformance;
pub(crate) use meta::{count_generation, new_uid, prepare_update, random_suffix};
pub use meta::{prepare_create, validate_meta, validate_meta_update};
pub(crate) use pod::{containers, qos_class};
pub use selectable::Selectable;
pub(crate) use validate::pod_errors;

/// Selectable fields, validation and preparation of one resource. All methods have the generic behaviour as default.
pub trait Strategy: Sync {
    /// Paths that field selectors may name, beyond metadata.name and metadata.namespace.
    fn fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// Where the value of one of [`fields`](Self::fields) stands, if not at the path that is its name: the first of these
    /// that is set.
    fn field_sources(&self, _field: &str) -> &'static [&'static str] {
        &[]
    }

    /// Sets what a client may not, and what is derived; `object` has its defaults.
    fn prepare_create(&self, _object: &mut Value) {}

    /// Keeps what a client may not change through the main resource. Status and metadata are taken care of.
    fn prepare_update(&self, _object: &mut Value, _old: &Value) {}

    /// Sets what a write through the status may not say by itself.
    fn prepare_status(&self, _object: &mut Value, _old: &Value, _now: Timestamp) {}

    /// The same of a write through a subresource that has a part of the object.
    fn prepare_part(&self, _object: &mut Value, _old: &Value, _now: Timestamp) {}

    /// Notes the time of what a create, which has no `old`, or an update of the main resource does.
    fn stamp(&self, _object: &mut Value, _old: Option<&Value>, _now: Timestamp) {}

    /// All that is wrong with a new object.
    fn validate(&self, resource: &Resource, object: &Value) -> Vec<FieldError> {
        validate::create(resource, object)
    }

    /// All that is wrong with a change, be it through the main resource, its status or another subresource.
    fn validate_change(&self, resource: &Resource, scope: Scope, object: &Value, old: &Value) -> Vec<FieldError> {
        validate::change(resource, scope, object, old)
    }

    /// What only some of the versions through which an object is written check. `object` and `old`, which a create does not
    /// have, are as stored.
    fn validate_served(&self, _served: &Gvk, _object: &Value, _old: Option<&Value>) -> Vec<FieldError> {
        Vec::new()
    }

    /// What deserves a word about a new object, or about one that takes the place of `old`.
    fn warnings(&self, resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<String> {
        validate::warnings(resource, object, old)
    }

    /// Why nothing new may be created at this time.
    fn refuses_creation(&self) -> Option<&'static str> {
        None
    }

    /// What a request to delete does to an object beyond its metadata, when it is the first one.
    fn mark_deleted(&self, _object: &mut Value, _now: Timestamp) {}

    /// Seconds between the request to delete and the deletion, where someone has to clean up in between.
    fn grace_period_seconds(&self, _object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether a PUT creates the object where it is missing.
    fn creates_on_update(&self, resource: &Resource) -> bool {
        is_listed(&CREATED_BY_UPDATES, resource)
    }

    /// Whether a PUT without resourceVersion overwrites whatever is there.
    fn updates_unconditionally(&self, resource: &Resource) -> bool {
        !is_listed(&UPDATED_BY_VERSION, resource)
    }

    /// Whether metadata.generation counts changes of the spec.
    fn counts_generations(&self, resource: &Resource) -> bool {
        resource.has_status()
    }

    /// Whether a change of the status counts as one, too.
    fn counts_status(&self, _resource: &Resource) -> bool {
        false
    }

    /// Whether a change of annotations counts as one, too.
    fn counts_annotations(&self) -> bool {
        false
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

/// Groups and resources, `*` for all of a group, whose strategy upstream says `AllowCreateOnUpdate`.
const CREATED_BY_UPDATES: [(&str, &str); 8] = [
    ("", "endpoints"),
    ("", "events"),
    ("", "limitranges"),
    ("", "services"),
    ("coordination.k8s.io", "*"),
    ("events.k8s.io", "events"),
    ("node.k8s.io", "runtimeclasses"),
    ("rbac.authorization.k8s.io", "*"),
];

/// Those whose strategy does not say `AllowUnconditionalUpdate`.
const UPDATED_BY_VERSION: [(&str, &str); 13] = [
    ("admissionregistration.k8s.io", "*"),
    ("certificates.k8s.io", "clustertrustbundles"),
    ("certificates.k8s.io", "podcertificaterequests"),
    ("coordination.k8s.io", "*"),
    ("internal.apiserver.k8s.io", "*"),
    ("node.k8s.io", "runtimeclasses"),
    ("policy", "poddisruptionbudgets"),
    ("resource.k8s.io", "resourcepoolstatusrequests"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "csistoragecapacities"),
    ("storage.k8s.io", "volumeattachments"),
    ("storagemigration.k8s.io", "*"),
];

fn is_listed(list: &[(&str, &str)], resource: &Resource) -> bool {
    list.iter().any(|(group, plural)| *group == &*resource.group && (*plural == "*" || *plural == &*resource.plural))
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
    /// An IP address in its canonical form.
    IpAddress,
}

struct Generic;

impl Strategy for Generic {}

/// The strategy of a resource: the one list of kinds with behaviour.
pub fn of(resource: &Resource) -> &dyn Strategy {
    if let Some(custom) = &resource.custom {
        return &**custom;
    }
    match (&*resource.group, &*resource.plural) {
        ("", "pods") => &pod::Pods,
        ("", "services") => &service::Services,
        ("", "namespaces") => &core::Namespaces,
        ("", "nodes") => &core::Nodes,
        ("", "secrets") => &core::Secrets,
        ("storage.k8s.io", "csidrivers") => &storage::Drivers,
        ("scheduling.k8s.io", "priorityclasses") => &core::PriorityClasses,
        ("", "serviceaccounts") => &core::ServiceAccounts,
        ("discovery.k8s.io", "endpointslices") => &core::EndpointSlices,
        ("" | "events.k8s.io", "events") => &core::Events,
        ("", "persistentvolumes") => &storage::Volumes,
        ("", "persistentvolumeclaims") => &storage::Claims,
        ("", "replicationcontrollers") => &workload::ReplicationControllers,
        ("apps", "deployments") => &workload::Deployments,
        ("apps", "replicasets") => &workload::ReplicaSets,
        ("apps", "daemonsets") => &workload::DaemonSets,
        ("batch", "jobs") => &workload::Jobs,
        ("rbac.authorization.k8s.io", _) => &core::Rbac,
        ("apiextensions.k8s.io", "customresourcedefinitions") => &definition::Definitions,
        ("certificates.k8s.io", "certificatesigningrequests") => &certificates::SigningRequests,
        ("certificates.k8s.io", "clustertrustbundles") => &certificates::TrustBundles,
        ("networking.k8s.io", "ipaddresses") => &core::IpAddresses,
        ("resource.k8s.io", "resourceclaims") => &devices::Claims,
        ("resource.k8s.io", "resourceslices") => &devices::Slices,
        ("resource.k8s.io", "devicetaintrules") => &devices::TaintRules,
        (_, "resourcequotas" | "horizontalpodautoscalers" | "servicecidrs" | "volumeattachments")
        | ("certificates.k8s.io", "podcertificaterequests")
        | ("scheduling.k8s.io", "podgroups")
        | ("storagemigration.k8s.io", "storageversionmigrations") => &core::Generations(false),
        ("", "podtemplates")
        | ("networking.k8s.io", "ingressclasses" | "networkpolicies")
        | ("resource.k8s.io", "deviceclasses")
        | ("admissionregistration.k8s.io", _) => &core::Generations(true),
        _ => &Generic,
    }
}

/// What every answer about a resource that is on its way out says (apiserver `pkg/endpoints/deprecation`).
pub fn deprecation(resource: &Resource) -> Option<String> {
    match (&*resource.group, &*resource.plural) {
        ("", "endpoints") => Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".into()),
        ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+".into()),
        _ => resource.custom.as_ref()?.warning.clone(),
    }
}

/// The fields whose values are kept of each object for field selectors, whatever the version.
pub fn kept_fields(resource: &Resource) -> Vec<Selectable> {
    match &resource.custom {
        Some(custom) => custom.indexed.iter().map(|path| Selectable::new(resource, path, &[])).collect(),
        None => {
            let strategy = of(resource);
            let selectable = |field: &&str| Selectable::new(resource, field, strategy.field_sources(field));
            strategy.fields().iter().map(selectable).collect()
        }
    }
}

/// Whether a field selector may name `field`, beyond metadata.name and metadata.namespace.
pub fn is_selectable(resource: &Resource, field: &str) -> bool {
    match &resource.custom {
        Some(custom) => custom.selectable.iter().any(|known| **known == *field),
        None => of(resource).fields().contains(&field),
    }
}
