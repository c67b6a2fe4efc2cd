//! The table of all kinds' columns (the behaviour of `pkg/printers/internalversion/printers.go`).

use super::Cell::{Bool, Count, Int, Join, Labels, Pluck, Selector, Since, Text, With};
use super::{Column, boolean, column, hpa, integer, pod, special, text};

pub(super) const NAME: Column = text("Name", Text("metadata.name", "")).named().about("The object's name.");
pub(super) const AGE: Column =
    text("Age", Since("metadata.creationTimestamp", "<unknown>")).about("The time since the object was created.");
const CREATED: Column =
    column("Created At", "date", Text("metadata.creationTimestamp", "")).about("When the object was created.");

const CONTAINERS: Column =
    text("Containers", Pluck("spec.template.spec.containers", "name")).wide().about("The containers of the template.");
const IMAGES: Column = text("Images", Pluck("spec.template.spec.containers", "image"))
    .wide()
    .about("The images of the template's containers.");
const SELECTOR: Column =
    text("Selector", Selector("spec.selector")).wide().about("The pods that belong to the object.");

const DEFAULT: &[Column] = &[NAME, CREATED];
const NAME_AND_AGE: &[Column] = &[NAME, AGE];

pub(super) fn columns(group: &str, kind: &str) -> &'static [Column] {
    match group {
        "" => core(kind),
        "apps" => apps(kind),
        "batch" => batch(kind),
        "storage.k8s.io" => storage(kind),
        "networking.k8s.io" | "discovery.k8s.io" => network(kind),
        "resource.k8s.io" => resource(kind),
        "admissionregistration.k8s.io" => admission(kind),
        "flowcontrol.apiserver.k8s.io"
        | "apiregistration.k8s.io"
        | "internal.apiserver.k8s.io"
        | "storagemigration.k8s.io" => server(kind),
        _ => others(kind),
    }
}

fn core(kind: &str) -> &'static [Column] {
    match kind {
        "Pod" => {
            const {
                &[
                    NAME,
                    text("Ready", With(pod::ready)).about("How many of the pod's containers are ready."),
                    text("Status", With(pod::status)).about("What the pod's containers are doing, in one word."),
                    text("Restarts", With(pod::restarts)).about("How often containers were restarted, and when last."),
                    AGE,
                    text("IP", With(pod::ip)).wide(),
                    text("Node", Text("spec.nodeName", "<none>")).wide(),
                    text("Nominated Node", Text("status.nominatedNodeName", "<none>")).wide(),
                    text("Readiness Gates", With(pod::readiness_gates)).wide(),
                ]
            }
        }
        "PodTemplate" => {
            const {
                &[
                    NAME,
                    text("Containers", Pluck("template.spec.containers", "name")),
                    text("Images", Pluck("template.spec.containers", "image")),
                    text("Pod Labels", Labels("template.metadata.labels")),
                ]
            }
        }
        "ReplicationController" => {
            const {
                &[
                    NAME,
                    integer("Desired", Int("spec.replicas")),
                    integer("Current", Int("status.replicas")),
                    integer("Ready", Int("status.readyReplicas")),
                    AGE,
                    CONTAINERS,
                    IMAGES,
                    text("Selector", Labels("spec.selector")).wide(),
                ]
            }
        }
        "Service" => {
            const {
                &[
                    NAME,
                    text("Type", Text("spec.type", "")),
                    text("Cluster-IP", With(special::cluster_ip)),
                    text("External-IP", With(special::external_ip)),
                    text("Port(s)", With(special::service_ports)),
                    AGE,
                    text("Selector", Labels("spec.selector")).wide(),
                ]
            }
        }
        "Endpoints" => const { &[NAME, text("Endpoints", With(special::endpoints)), AGE] },
        "Node" => {
            const {
                &[
                    NAME,
                    text("Status", With(special::node_status)).about("Whether the node is ready and takes pods."),
                    text("Roles", With(special::node_roles)),
                    AGE,
                    text("Version", Text("status.nodeInfo.kubeletVersion", "")),
                    text("Internal-IP", With(special::internal_ip)).wide(),
                    text("External-IP", With(special::node_external_ip)).wide(),
                    text("OS-Image", Text("status.nodeInfo.osImage", "<unknown>")).wide(),
                    text("Kernel-Version", With(special::kernel_version)).wide(),
                    text("Container-Runtime", Text("status.nodeInfo.containerRuntimeVersion", "<unknown>")).wide(),
                ]
            }
        }
        "Event" => EVENT,
        "Namespace" => const { &[NAME, text("Status", Text("status.phase", "")), AGE] },
        "Secret" => const { &[NAME, text("Type", Text("type", "")), text("Data", Count("data")), AGE] },
        "ServiceAccount" => NAME_AND_AGE,
        "ConfigMap" => const { &[NAME, text("Data", With(special::config_map_keys)), AGE] },
        "PersistentVolume" => {
            const {
                &[
                    NAME,
                    text("Capacity", Text("spec.capacity.storage", "0")),
                    text("Access Modes", With(special::volume_access_modes)),
                    text("Reclaim Policy", Text("spec.persistentVolumeReclaimPolicy", "")),
                    text("Status", With(special::volume_phase)),
                    text("Claim", With(special::volume_claim)),
                    text("StorageClass", With(special::storage_class_name)),
                    text("VolumeAttributesClass", Text("spec.volumeAttributesClassName", "<unset>")),
                    text("Reason", Text("status.reason", "")),
                    AGE,
                    text("VolumeMode", Text("spec.volumeMode", "<unset>")).wide(),
                ]
            }
        }
        "PersistentVolumeClaim" => {
            const {
                &[
                    NAME,
                    text("Status", With(special::volume_phase)),
                    text("Volume", Text("spec.volumeName", "")),
                    text("Capacity", With(special::claim_capacity)),
                    text("Access Modes", With(special::claim_access_modes)),
                    text("StorageClass", With(special::storage_class_name)),
                    text("VolumeAttributesClass", Text("spec.volumeAttributesClassName", "<unset>")),
                    AGE,
                    text("VolumeMode", Text("spec.volumeMode", "<unset>")).wide(),
                ]
            }
        }
        "ComponentStatus" => {
            const {
                &[
                    NAME,
                    text("Status", With(special::component_status)),
                    text("Message", With(special::component_message)),
                    text("Error", With(special::component_error)),
                ]
            }
        }
        "ResourceQuota" => {
            const { &[NAME, text("Request", With(special::quota_requests)), text("Limit", With(special::quota_limits)), AGE] }
        }
        "Status" => {
            const {
                &[
                    text("Status", Text("status", "")),
                    text("Reason", Text("reason", "")),
                    text("Message", Text("message", "")),
                ]
            }
        }
        _ => DEFAULT,
    }
}

const EVENT: &[Column] = &[
    text("Last Seen", With(special::event_last_seen)),
    text("Type", Text("type", "")),
    text("Reason", Text("reason", "")),
    text("Object", With(special::event_object)),
    text("Subobject", With(special::event_subobject)).wide(),
    text("Source", With(special::event_source)).wide(),
    text("Message", With(special::event_message)),
    text("First Seen", With(special::event_first_seen)).wide(),
    text("Count", With(special::event_count)).wide(),
    NAME.wide(),
];

fn apps(kind: &str) -> &'static [Column] {
    match kind {
        "Deployment" => {
            const {
                &[
                    NAME,
                    text("Ready", With(special::ready_replicas)),
                    text("Up-to-date", Int("status.updatedReplicas")),
                    text("Available", Int("status.availableReplicas")),
                    AGE,
                    CONTAINERS,
                    IMAGES,
                    SELECTOR,
                ]
            }
        }
        "ReplicaSet" => {
            const {
                &[
                    NAME,
                    integer("Desired", Int("spec.replicas")),
                    integer("Current", Int("status.replicas")),
                    integer("Ready", Int("status.readyReplicas")),
                    AGE,
                    CONTAINERS,
                    IMAGES,
                    SELECTOR,
                ]
            }
        }
        "StatefulSet" => const { &[NAME, text("Ready", With(special::ready_replicas)), AGE, CONTAINERS, IMAGES] },
        "DaemonSet" => {
            const {
                &[
                    NAME,
                    integer("Desired", Int("status.desiredNumberScheduled")),
                    integer("Current", Int("status.currentNumberScheduled")),
                    integer("Ready", Int("status.numberReady")),
                    integer("Up-to-date", Int("status.updatedNumberScheduled")),
                    integer("Available", Int("status.numberAvailable")),
                    text("Node Selector", Labels("spec.template.spec.nodeSelector")),
                    AGE,
                    CONTAINERS,
                    IMAGES,
                    SELECTOR,
                ]
            }
        }
        "ControllerRevision" => {
            const { &[NAME, text("Controller", With(special::controller)), text("Revision", Int("revision")), AGE] }
        }
        _ => DEFAULT,
    }
}

fn batch(kind: &str) -> &'static [Column] {
    match kind {
        "Job" => {
            const {
                &[
                    NAME,
                    text("Status", With(special::job_status)),
                    text("Completions", With(special::job_completions)),
                    text("Duration", With(special::job_duration)),
                    AGE,
                    CONTAINERS,
                    IMAGES,
                    SELECTOR,
                ]
            }
        }
        "CronJob" => {
            const {
                &[
                    NAME,
                    text("Schedule", Text("spec.schedule", "")),
                    text("Timezone", Text("spec.timeZone", "<none>")),
                    boolean("Suspend", With(special::is_suspended)),
                    integer("Active", Count("status.active")),
                    text("Last Schedule", Since("status.lastScheduleTime", "<none>")),
                    AGE,
                    text("Containers", Pluck("spec.jobTemplate.spec.template.spec.containers", "name")).wide(),
                    text("Images", Pluck("spec.jobTemplate.spec.template.spec.containers", "image")).wide(),
                    text("Selector", Selector("spec.jobTemplate.spec.selector")).wide(),
                ]
            }
        }
        _ => DEFAULT,
    }
}

fn storage(kind: &str) -> &'static [Column] {
    match kind {
        "StorageClass" => {
            const {
                &[
                    text("Name", With(special::class_name)).named(),
                    text("Provisioner", Text("provisioner", "")),
                    text("ReclaimPolicy", Text("reclaimPolicy", "Delete")),
                    text("VolumeBindingMode", Text("volumeBindingMode", "Immediate")),
                    text("AllowVolumeExpansion", Bool("allowVolumeExpansion", false)),
                    AGE,
                ]
            }
        }
        "VolumeAttributesClass" => const { &[NAME, text("DriverName", Text("driverName", "")), AGE] },
        "VolumeAttachment" => {
            const {
                &[
                    NAME,
                    text("Attacher", Text("spec.attacher", "")).named(),
                    text("PV", Text("spec.source.persistentVolumeName", "")),
                    text("Node", Text("spec.nodeName", "")),
                    boolean("Attached", Bool("status.attached", false)),
                    AGE,
                ]
            }
        }
        "CSINode" => const { &[NAME, integer("Drivers", Count("spec.drivers")), AGE] },
        "CSIDriver" => {
            const {
                &[
                    NAME,
                    boolean("AttachRequired", Bool("spec.attachRequired", true)),
                    boolean("PodInfoOnMount", Bool("spec.podInfoOnMount", false)),
                    boolean("StorageCapacity", Bool("spec.storageCapacity", false)),
                    text("TokenRequests", With(special::token_requests)),
                    boolean("RequiresRepublish", Bool("spec.requiresRepublish", false)),
                    text("Modes", Join("spec.volumeLifecycleModes", "<none>")),
                    AGE,
                ]
            }
        }
        "CSIStorageCapacity" => {
            const {
                &[
                    NAME,
                    text("StorageClassName", Text("storageClassName", "")),
                    text("Capacity", Text("capacity", "<unset>")),
                ]
            }
        }
        _ => DEFAULT,
    }
}

fn network(kind: &str) -> &'static [Column] {
    match kind {
        "Ingress" => {
            const {
                &[
                    NAME,
                    text("Class", Text("spec.ingressClassName", "<none>")),
                    text("Hosts", With(special::ingress_hosts)),
                    text("Address", With(special::ingress_address)),
                    text("Ports", With(special::ingress_ports)),
                    AGE,
                ]
            }
        }
        "IngressClass" => {
            const {
                &[
                    text("Name", With(special::class_name)).named(),
                    text("Controller", Text("spec.controller", "")),
                    text("Parameters", With(special::ingress_class_parameters)),
                    AGE,
                ]
            }
        }
        "NetworkPolicy" => const { &[NAME, text("Pod-Selector", With(special::policy_pods)), AGE] },
        "ServiceCIDR" => const { &[NAME, text("CIDRs", Join("spec.cidrs", "")), AGE] },
        "IPAddress" => const { &[NAME, text("ParentRef", With(special::parent_ref))] },
        "EndpointSlice" => {
            const {
                &[
                    NAME,
                    text("AddressType", Text("addressType", "")),
                    text("Ports", With(special::slice_ports)),
                    text("Endpoints", With(special::slice_endpoints)),
                    AGE,
                ]
            }
        }
        _ => DEFAULT,
    }
}

fn resource(kind: &str) -> &'static [Column] {
    match kind {
        "DeviceClass" | "ResourceClaimTemplate" => NAME_AND_AGE,
        "ResourceClaim" => const { &[NAME, text("State", With(special::claim_state)), AGE] },
        "ResourceSlice" => {
            const {
                &[
                    NAME,
                    text("Node", Text("spec.nodeName", "")),
                    text("Driver", Text("spec.driver", "")),
                    text("Pool", Text("spec.pool.name", "")),
                    AGE,
                ]
            }
        }
        "DeviceTaintRule" => {
            const {
                &[
                    NAME,
                    text("Key", Text("spec.taint.key", "")),
                    text("Value", Text("spec.taint.value", "")),
                    text("Effect", Text("spec.taint.effect", "")),
                    text("TimeAdded", Since("spec.taint.timeAdded", "")),
                    AGE,
                ]
            }
        }
        "ResourcePoolStatusRequest" => {
            const {
                &[
                    NAME,
                    text("Driver", Text("spec.driver", "")),
                    text("Total", With(|object, _| special::pool_sum(object, "totalDevices"))),
                    text("Available", With(|object, _| special::pool_sum(object, "availableDevices"))),
                    text("Allocated", With(|object, _| special::pool_sum(object, "allocatedDevices"))),
                    text("Unavailable", With(|object, _| special::pool_sum(object, "unavailableDevices"))),
                    text("Errors", With(special::pool_errors)),
                    integer("Pools", Int("status.poolCount")),
                    text("Status", With(special::pool_status)),
                    text("Completed", With(special::pool_completed)),
                ]
            }
        }
        _ => DEFAULT,
    }
}

fn admission(kind: &str) -> &'static [Column] {
    match kind {
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            const { &[NAME, integer("Webhooks", Count("webhooks")), AGE] }
        }
        "ValidatingAdmissionPolicy" => {
            const {
                &[
                    NAME,
                    integer("Validations", Count("spec.validations")),
                    text("ParamKind", With(special::param_kind)),
                    AGE,
                ]
            }
        }
        "MutatingAdmissionPolicy" => {
            const {
                &[
                    NAME,
                    integer("Mutations", Count("spec.mutations")),
                    text("ParamKind", With(special::param_kind)),
                    AGE,
                ]
            }
        }
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
            const {
                &[
                    NAME,
                    text("PolicyName", Text("spec.policyName", "")),
                    text("ParamRef", With(special::param_ref)),
                    AGE,
                ]
            }
        }
        _ => DEFAULT,
    }
}

fn server(kind: &str) -> &'static [Column] {
    match kind {
        "FlowSchema" => {
            const {
                &[
                    NAME,
                    text("PriorityLevel", Text("spec.priorityLevelConfiguration.name", "")),
                    text("MatchingPrecedence", Int("spec.matchingPrecedence")),
                    text("DistinguisherMethod", Text("spec.distinguisherMethod.type", "<none>")),
                    AGE,
                    text("MissingPL", With(special::missing_priority_level)),
                ]
            }
        }
        "PriorityLevelConfiguration" => {
            const {
                &[
                    NAME,
                    text("Type", Text("spec.type", "")),
                    text("NominalConcurrencyShares", Text("spec.limited.nominalConcurrencyShares", "<none>")),
                    text("Queues", Text("spec.limited.limitResponse.queuing.queues", "<none>")),
                    text("HandSize", Text("spec.limited.limitResponse.queuing.handSize", "<none>")),
                    text("QueueLengthLimit", Text("spec.limited.limitResponse.queuing.queueLengthLimit", "<none>")),
                    AGE,
                ]
            }
        }
        "APIService" => {
            const {
                &[
                    NAME,
                    text("Service", With(special::api_service))
                        .about("The service that serves this group and version."),
                    text("Available", With(special::api_service_available)).about("Whether it can be reached."),
                    AGE,
                ]
            }
        }
        "StorageVersion" => {
            const {
                &[
                    NAME,
                    text("CommonEncodingVersion", Text("status.commonEncodingVersion", "<unset>")),
                    text("StorageVersions", With(special::storage_versions)),
                    AGE,
                ]
            }
        }
        "StorageVersionMigration" => {
            const { &[NAME, text("Resource", With(special::migrated)), text("Status", With(special::migration_status))] }
        }
        _ => DEFAULT,
    }
}

/// Groups with one or two kinds that have columns; no two of them share a name.
fn others(kind: &str) -> &'static [Column] {
    match kind {
        "Event" => EVENT,
        "PodDisruptionBudget" => {
            const {
                &[
                    NAME,
                    text("Min Available", Text("spec.minAvailable", "N/A")),
                    text("Max Unavailable", Text("spec.maxUnavailable", "N/A")),
                    integer("Allowed Disruptions", Int("status.disruptionsAllowed")),
                    AGE,
                ]
            }
        }
        "HorizontalPodAutoscaler" => {
            const {
                &[
                    NAME,
                    text("Reference", With(special::scale_target)),
                    text("Targets", With(hpa::targets)),
                    text("MinPods", Text("spec.minReplicas", "<unset>")),
                    text("MaxPods", Int("spec.maxReplicas")),
                    text("Replicas", Int("status.currentReplicas")),
                    AGE,
                ]
            }
        }
        "Scale" => {
            const { &[NAME, integer("Desired", Int("spec.replicas")), integer("Available", Int("status.replicas")), AGE] }
        }
        "RoleBinding" | "ClusterRoleBinding" => {
            const {
                &[
                    NAME,
                    text("Role", With(special::role)),
                    AGE,
                    text("Users", With(|object, _| special::subjects(object, "User"))).wide(),
                    text("Groups", With(|object, _| special::subjects(object, "Group"))).wide(),
                    text("ServiceAccounts", With(|object, _| special::subjects(object, "ServiceAccount"))).wide(),
                ]
            }
        }
        "CertificateSigningRequest" => {
            const {
                &[
                    NAME,
                    AGE,
                    text("SignerName", Text("spec.signerName", "<none>")),
                    text("Requestor", Text("spec.username", "")),
                    text("RequestedDuration", With(special::requested_duration)),
                    text("Condition", With(special::signing_status)),
                ]
            }
        }
        "ClusterTrustBundle" => const { &[NAME, text("SignerName", Text("spec.signerName", "<none>"))] },
        "PodCertificateRequest" => {
            const {
                &[
                    NAME,
                    text("PodName", Text("spec.podName", "")),
                    text("ServiceAccountName", Text("spec.serviceAccountName", "")),
                    text("NodeName", Text("spec.nodeName", "")),
                    text("SignerName", Text("spec.signerName", "")),
                    text("State", With(special::pod_certificate_state)),
                    text("UnverifiedUserAnnotations", Labels("spec.unverifiedUserAnnotations")),
                ]
            }
        }
        "Lease" => const { &[NAME, text("Holder", Text("spec.holderIdentity", "")), AGE] },
        "LeaseCandidate" => {
            const {
                &[
                    NAME,
                    text("LeaseName", Text("spec.leaseName", "")),
                    text("BinaryVersion", Text("spec.binaryVersion", "")),
                    text("EmulationVersion", Text("spec.emulationVersion", "")),
                    AGE,
                ]
            }
        }
        "PriorityClass" => {
            const {
                &[
                    NAME,
                    integer("Value", Int("value")),
                    boolean("Global-Default", Bool("globalDefault", false)),
                    AGE,
                    text("PreemptionPolicy", Text("preemptionPolicy", "")),
                ]
            }
        }
        "RuntimeClass" => const { &[NAME, text("Handler", Text("handler", "")), AGE] },
        "Workload" => NAME_AND_AGE,
        "PodGroup" => {
            const {
                &[
                    NAME,
                    text("Policy", With(special::group_policy)),
                    text("Workload", Text("spec.podGroupTemplateRef.workload.workloadName", "<none>")),
                    text("Status", With(special::group_status)),
                    AGE,
                ]
            }
        }
        _ => DEFAULT,
    }
}
