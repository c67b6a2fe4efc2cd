//! The table of all kinds' columns (the behaviour of `pkg/printers/internalversion/printers.go`).

mod cluster;
mod core;

use super::Cell::{Bool, Count, Int, Labels, Pluck, Selector, Since, Text, With};
use super::{Column, boolean, column, hpa, integer, special, text};

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
        "" => core::columns(kind),
        "apps" => apps(kind),
        "batch" => batch(kind),
        "storage.k8s.io" => cluster::storage(kind),
        "networking.k8s.io" | "discovery.k8s.io" => cluster::network(kind),
        "resource.k8s.io" => cluster::resource(kind),
        "admissionregistration.k8s.io" => cluster::admission(kind),
        "flowcontrol.apiserver.k8s.io"
        | "apiregistration.k8s.io"
        | "internal.apiserver.k8s.io"
        | "storagemigration.k8s.io" => cluster::server(kind),
        _ => others(kind),
    }
}

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

/// Groups with one or two kinds that have columns; no two of them share a name.
fn others(kind: &str) -> &'static [Column] {
    match kind {
        "Event" => core::EVENT,
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
        _ => access(kind),
    }
}

/// Roles and certificates.
fn access(kind: &str) -> &'static [Column] {
    match kind {
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
        _ => DEFAULT,
    }
}
