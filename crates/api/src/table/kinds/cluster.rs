//! Columns of the groups for storage, networks, devices, admission and the server itself.

use super::super::Cell::{Bool, Count, Int, Join, Since, Text, With};
use super::super::{Column, boolean, integer, special, text};
use super::{AGE, DEFAULT, NAME, NAME_AND_AGE};

pub(super) fn storage(kind: &str) -> &'static [Column] {
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
        _ => DEFAULT,
    }
}

pub(super) fn network(kind: &str) -> &'static [Column] {
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

pub(super) fn resource(kind: &str) -> &'static [Column] {
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

pub(super) fn admission(kind: &str) -> &'static [Column] {
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

pub(super) fn server(kind: &str) -> &'static [Column] {
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
