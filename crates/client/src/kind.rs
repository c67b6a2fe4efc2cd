//! The kinds that components handle as types. (De)serialization is instantiated here, once per kind, behind functions that
//! are not generic: every further generic copy of a Pod costs seconds of build and a megabyte of binary.

use std::fmt;

use k8s_openapi::{
    Resource,
    api::{
        admissionregistration::v1 as admissionregistration, apps::v1 as apps, authentication::v1 as authentication,
        authorization::v1 as authorization, autoscaling::v2 as autoscaling, batch::v1 as batch,
        certificates::v1 as certificates, coordination::v1 as coordination, core::v1 as core,
        discovery::v1 as discovery, networking::v1 as networking, node::v1 as node, policy::v1 as policy,
        rbac::v1 as rbac, scheduling::v1 as scheduling, storage::v1 as storage,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;

/// A type of an API object, with its place in the API (the constants of [`Resource`]) and its JSON form.
pub trait Kind: Resource + Clone + Default + fmt::Debug + Send + Sync + 'static {
    const NAMESPACED: bool;

    fn meta(&self) -> &ObjectMeta;
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    fn decode(json: &[u8]) -> Result<Self, serde_json::Error>;
    /// The object's JSON, with apiVersion and kind.
    fn encode(&self) -> Vec<u8>;

    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }

    /// Empty for an object of the cluster.
    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }

    fn resource_version(&self) -> &str {
        self.meta().resource_version.as_deref().unwrap_or_default()
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::new(self.namespace(), self.name())
    }
}

/// Namespace and name of an object: what work queues and indexes carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Empty for an object of the cluster.
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        ObjectKey { namespace: namespace.into(), name: name.into() }
    }

    /// The Service whose endpoints a slice holds, by the slice's label (`kubernetes.io/service-name`).
    pub fn of_service(slice: &discovery::EndpointSlice) -> Option<Self> {
        let name = slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?;
        Some(ObjectKey::new(slice.namespace(), name.as_str()))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// The object with the times of conditions that say none. The API takes such conditions, the types do not: Go's zero time
/// stands in, so that one of them does not keep a component from all objects of its kind.
fn with_times(json: &[u8]) -> Option<Vec<u8>> {
    fn fill(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(fill),
            Value::Object(members) => {
                if members.contains_key("type") && members.contains_key("status") {
                    let time = members.entry("lastTransitionTime").or_insert(Value::Null);
                    if time.is_null() {
                        *time = "0001-01-01T00:00:00Z".into();
                    }
                }
                members.values_mut().for_each(fill);
            }
            _ => {}
        }
    }
    let mut object = serde_json::from_slice(json).ok()?;
    fill(&mut object);
    serde_json::to_vec(&object).ok()
}

macro_rules! kinds {
    ($($kind:ty: $namespaced:literal,)*) => {$(
        impl Kind for $kind {
            const NAMESPACED: bool = $namespaced;

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }

            fn decode(json: &[u8]) -> Result<Self, serde_json::Error> {
                let read = |json: &[u8]| serde_json::from_slice(json);
                read(json).or_else(|error| with_times(json).map_or(Err(error), |json| read(&json)))
            }

            fn encode(&self) -> Vec<u8> {
                // Writing to memory cannot fail and no kind has a map with keys that are not strings.
                serde_json::to_vec(self).unwrap_or_default()
            }
        }
    )*};
}

kinds! {
    core::Binding: true,
    core::ConfigMap: true,
    core::Endpoints: true,
    core::Event: true,
    core::LimitRange: true,
    core::Namespace: false,
    core::Node: false,
    core::PersistentVolume: false,
    core::PersistentVolumeClaim: true,
    core::Pod: true,
    core::ReplicationController: true,
    core::ResourceQuota: true,
    core::Secret: true,
    core::Service: true,
    core::ServiceAccount: true,
    apps::ControllerRevision: true,
    apps::DaemonSet: true,
    apps::Deployment: true,
    apps::ReplicaSet: true,
    apps::StatefulSet: true,
    authentication::TokenRequest: true,
    authentication::TokenReview: false,
    authorization::SubjectAccessReview: false,
    autoscaling::HorizontalPodAutoscaler: true,
    batch::CronJob: true,
    batch::Job: true,
    certificates::CertificateSigningRequest: false,
    coordination::Lease: true,
    discovery::EndpointSlice: true,
    networking::Ingress: true,
    networking::IPAddress: false,
    networking::NetworkPolicy: true,
    networking::ServiceCIDR: false,
    node::RuntimeClass: false,
    policy::Eviction: true,
    policy::PodDisruptionBudget: true,
    rbac::ClusterRole: false,
    rbac::ClusterRoleBinding: false,
    rbac::Role: true,
    rbac::RoleBinding: true,
    scheduling::PriorityClass: false,
    storage::CSIDriver: false,
    storage::CSINode: false,
    storage::StorageClass: false,
    storage::VolumeAttachment: false,
    storage::VolumeAttributesClass: false,
    admissionregistration::ValidatingWebhookConfiguration: false,
}
