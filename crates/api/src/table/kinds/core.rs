//! Columns of the core group.

use super::super::Cell::{Count, Int, Labels, Pluck, Text, With};
use super::super::{Column, integer, pod, special, text};
use super::{AGE, CONTAINERS, DEFAULT, IMAGES, NAME, NAME_AND_AGE};

pub(super) const EVENT: &[Column] = &[
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

pub(super) fn columns(kind: &str) -> &'static [Column] {
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
        _ => passive(kind),
    }
}

/// Kinds that run nothing.
fn passive(kind: &str) -> &'static [Column] {
    match kind {
        "Event" => EVENT,
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
