//! Writes the descriptions of the API's types and fields, which `kubectl explain` shows, as one compressed table. They are
//! taken from the `k8s-openapi` crate, which carries the published ones with its `schemars` feature.

// A build script has nobody but the build to report to.
#![allow(clippy::expect_used)]

use std::{collections::BTreeMap, env, fs, path::Path};

use flate2::{Compression, write::ZlibEncoder};
use k8s_openapi::{api as types, apiextensions_apiserver, apimachinery, kube_aggregator, schemars};
use schemars::SchemaGenerator;
use serde_json::Value;

macro_rules! every {
    ($generator:ident; $($($module:ident)::+: $($kind:ident),+;)+) => {
        $({
            use $($module)::+ as kinds;
            $($generator.subschema_for::<kinds::$kind>();)+
        })+
    };
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut generator = SchemaGenerator::default();
    add_kinds(&mut generator);
    let table = table(generator.take_definitions(true));
    let path = Path::new(&env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("descriptions");
    let mut out = ZlibEncoder::new(fs::File::create(path).expect("OUT_DIR can be written"), Compression::best());
    serde_json::to_writer(&mut out, &table).expect("OUT_DIR can be written");
    out.finish().expect("OUT_DIR can be written");
}

/// The kinds; what they consist of follows.
fn add_kinds(generator: &mut SchemaGenerator) {
    every! { generator;
        types::admissionregistration::v1: MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
            ValidatingWebhookConfiguration;
        types::admissionregistration::v1alpha1: MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding;
        types::admissionregistration::v1beta1: MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding;
        types::apiserverinternal::v1alpha1: StorageVersion;
        types::apps::v1: ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet;
        types::authentication::v1: SelfSubjectReview, TokenRequest, TokenReview;
        types::authorization::v1: LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview,
            SubjectAccessReview;
        types::autoscaling::v1: HorizontalPodAutoscaler, Scale;
        types::autoscaling::v2: HorizontalPodAutoscaler;
        types::batch::v1: CronJob, Job;
        types::certificates::v1: CertificateSigningRequest;
        types::certificates::v1alpha1: ClusterTrustBundle;
        types::certificates::v1beta1: ClusterTrustBundle, PodCertificateRequest;
        types::coordination::v1: Lease;
        types::coordination::v1alpha2: LeaseCandidate;
        types::coordination::v1beta1: LeaseCandidate;
        types::core::v1: Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node,
            PersistentVolume, PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret,
            Service, ServiceAccount;
        types::discovery::v1: EndpointSlice;
        types::events::v1: Event;
        types::flowcontrol::v1: FlowSchema, PriorityLevelConfiguration;
        types::networking::v1: Ingress, IngressClass, IPAddress, NetworkPolicy, ServiceCIDR;
        types::networking::v1beta1: IPAddress, ServiceCIDR;
        types::node::v1: RuntimeClass;
        types::policy::v1: Eviction, PodDisruptionBudget;
        types::rbac::v1: ClusterRole, ClusterRoleBinding, Role, RoleBinding;
        types::resource::v1: DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice;
        types::resource::v1alpha3: DeviceTaintRule, ResourcePoolStatusRequest;
        types::resource::v1beta1: DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice;
        types::resource::v1beta2: DeviceClass, DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice;
        types::scheduling::v1: PriorityClass;
        types::scheduling::v1alpha2: PodGroup, Workload;
        types::storage::v1: CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
            VolumeAttributesClass;
        types::storage::v1beta1: VolumeAttributesClass;
        types::storagemigration::v1beta1: StorageVersionMigration;
        apiextensions_apiserver::pkg::apis::apiextensions::v1: CustomResourceDefinition;
        apimachinery::pkg::apis::meta::v1: APIGroup, APIGroupList, APIResourceList, APIVersions, Status;
        kube_aggregator::pkg::apis::apiregistration::v1: APIService;
        apimachinery::pkg::apis::meta::v1: DeleteOptions;
        apimachinery::pkg::version: Info;
    }
}

/// By type, then by field; under the empty field, what the type itself is.
fn table(types: impl IntoIterator<Item = (String, Value)>) -> BTreeMap<String, BTreeMap<String, String>> {
    let described = |(field, schema): (String, &Value)| Some((field, schema["description"].as_str()?.to_owned()));
    let fields = |schema: &Value| {
        let properties = schema["properties"].as_object().into_iter().flatten();
        let members = properties.map(|(field, schema)| (field.clone(), schema));
        members.chain([(String::new(), schema)]).filter_map(described).collect()
    };
    types.into_iter().map(|(name, schema)| (name, fields(&schema))).collect()
}
