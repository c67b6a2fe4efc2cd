//! Validation of built-in kinds: what upstream's `pkg/apis/*/validation` checks on create, update and update of the
//! status, and the warnings of `pkg/api/*/warnings.go`. The table is here, a kind's rules in the file of its group, and
//! what recurs in `common`, `resources` and `pod`. Rules are lenient where upstream's depend on a feature gate.

mod admission;
mod at;
mod autoscaling;
mod batch;
mod bundles;
mod certificates;
mod claim;
mod common;
mod core;
mod cron;
mod devices;
mod event;
mod flowcontrol;
mod groups;
mod job_status;
mod migration;
mod networking;
mod node;
mod pem;
mod pod;
mod policies;
mod quota;
mod rbac;
mod resources;
mod reviews;
mod service;
mod slices;
mod small;
mod storage;
mod warnings;
mod workload;

use std::collections::HashSet;

use api::{Resource, Value, status::FieldError};

use crate::rest::Scope;
use at::{At, Sink};

type Check = fn(&At);
type Change = fn(&At, &At);

/// The rules of a kind.
#[derive(Clone, Copy)]
struct Rules {
    /// What an object has to be when it is created.
    create: Check,
    /// What it has to be after a change.
    changed: Check,
    /// What may change.
    update: Change,
    /// What may become of the status.
    status: Change,
    /// What may become of the part that another subresource writes.
    part: Change,
}

fn any(_: &At) {}

fn any_change(_: &At, _: &At) {}

impl Rules {
    const NONE: Rules = Rules { create: any, changed: any, update: any_change, status: any_change, part: any_change };

    const fn of(check: Check) -> Rules {
        Rules { create: check, changed: check, ..Rules::NONE }
    }

    const fn update(self, update: Change) -> Rules {
        Rules { update, ..self }
    }

    const fn status(self, status: Change) -> Rules {
        Rules { status, ..self }
    }

    const fn part(self, part: Change) -> Rules {
        Rules { part, ..self }
    }

    /// Rules for new objects alone.
    const fn at_creation(self, create: Check) -> Rules {
        Rules { create, ..self }
    }

    /// Objects that are there may be what new ones may not.
    const fn once_there(self, changed: Check) -> Rules {
        Rules { changed, ..self }
    }
}

/// The rules of every kind that has some.
fn rules(resource: &Resource) -> Rules {
    match &*resource.group {
        "" => core_rules(&resource.plural),
        "apps" | "batch" => workload_rules(&resource.plural),
        _ => other_rules(resource),
    }
}

fn core_rules(plural: &str) -> Rules {
    match plural {
        "pods" => Rules::of(pod::pod).at_creation(pod::create).update(pod::update).status(pod::status).part(pod::part),
        "services" => Rules::of(service::check).update(service::update).status(service::status),
        "configmaps" => Rules::of(core::config_map).update(core::config_map_update),
        "secrets" => Rules::of(core::secret).update(core::secret_update),
        "namespaces" => Rules::of(core::namespace).status(core::namespace_status),
        "nodes" => Rules::of(node::check).update(node::update).status(node::update),
        "persistentvolumes" => Rules::of(claim::volume).update(claim::volume_update),
        "persistentvolumeclaims" => Rules::of(claim::claim).update(claim::claim_update).status(claim::claim_status),
        "resourcequotas" => Rules::of(quota::check).update(quota::update).status(quota::status),
        "limitranges" => Rules::of(quota::limit_range),
        "endpoints" => Rules::of(core::endpoints),
        "podtemplates" => Rules::of(|at| pod::template(&at.get("template"))),
        "replicationcontrollers" => Rules::of(workload::replication_controller).status(workload::controller_status),
        _ => Rules::NONE,
    }
}

fn workload_rules(plural: &str) -> Rules {
    match plural {
        "deployments" => {
            Rules::of(workload::deployment).update(workload::selector_stays).status(workload::deployment_status)
        }
        "replicasets" => {
            Rules::of(workload::replica_set).update(workload::selector_stays).status(workload::controller_status)
        }
        "daemonsets" => {
            Rules::of(workload::daemon_set).update(workload::selector_stays).status(workload::daemon_set_status)
        }
        "statefulsets" => Rules::of(workload::stateful_set)
            .once_there(workload::stateful_set_changed)
            .update(workload::stateful_set_update)
            .status(workload::stateful_set_status),
        "controllerrevisions" => Rules::of(workload::revision).update(workload::revision_update),
        "jobs" => Rules::of(batch::job).update(batch::job_update).status(job_status::check),
        "cronjobs" => Rules::of(batch::cron_job_changed).at_creation(batch::cron_job).update(batch::cron_job_update),
        _ => Rules::NONE,
    }
}

fn other_rules(resource: &Resource) -> Rules {
    match (&*resource.group, &*resource.plural) {
        ("networking.k8s.io", "ingresses") => {
            Rules::of(networking::ingress).at_creation(networking::new_ingress).status(networking::ingress_status)
        }
        ("networking.k8s.io", "ingressclasses") => {
            Rules::of(networking::ingress_class).update(networking::ingress_class_update)
        }
        ("networking.k8s.io", "networkpolicies") => Rules::of(networking::network_policy),
        ("networking.k8s.io", "ipaddresses") => Rules::of(networking::ip_address).update(networking::ip_address_update),
        ("networking.k8s.io", "servicecidrs") => {
            Rules::of(networking::service_cidr).once_there(any).update(networking::service_cidr_update)
        }
        ("authorization.k8s.io", "subjectaccessreviews") => Rules::of(reviews::subject),
        ("authorization.k8s.io", "selfsubjectaccessreviews") => Rules::of(reviews::own),
        ("authorization.k8s.io", "localsubjectaccessreviews") => Rules::of(reviews::local),
        ("policy", "poddisruptionbudgets") => Rules::of(small::disruption_budget).status(small::disruption_status),
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => Rules::of(rbac::role),
        ("rbac.authorization.k8s.io", _) => Rules::of(rbac::binding).update(rbac::binding_update),
        ("autoscaling", "horizontalpodautoscalers") => Rules::of(autoscaling::check).status(autoscaling::status),
        ("storage.k8s.io", plural) => storage_rules(plural),
        ("resource.k8s.io", plural) => device_rules(plural),
        ("scheduling.k8s.io", "priorityclasses") => {
            Rules::of(small::priority_class).once_there(any).update(small::priority_class_update)
        }
        ("scheduling.k8s.io", "workloads") => {
            Rules::of(groups::workload).once_there(any).update(groups::workload_update)
        }
        ("scheduling.k8s.io", "podgroups") => Rules::of(groups::pod_group)
            .once_there(any)
            .update(groups::pod_group_update)
            .status(groups::pod_group_status),
        ("coordination.k8s.io", "leases") => Rules::of(small::lease),
        ("coordination.k8s.io", "leasecandidates") => {
            Rules::of(small::lease_candidate).update(small::lease_candidate_update)
        }
        ("discovery.k8s.io", "endpointslices") => {
            Rules::of(small::endpoint_slice).update(|at, old| at.get("addressType").immutable(&old.get("addressType")))
        }
        ("node.k8s.io", "runtimeclasses") => {
            Rules::of(small::runtime_class).update(|at, old| at.get("handler").immutable(&old.get("handler")))
        }
        ("certificates.k8s.io", plural) => certificate_rules(plural),
        ("storagemigration.k8s.io", "storageversionmigrations") => {
            Rules::of(migration::check).once_there(any).update(migration::update).status(migration::status)
        }
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => Rules::of(flowcontrol::schema).status(flowcontrol::status),
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => {
            Rules::of(flowcontrol::priority_level).status(flowcontrol::status)
        }
        ("admissionregistration.k8s.io", plural) => admission_rules(plural),
        _ => Rules::NONE,
    }
}

fn storage_rules(plural: &str) -> Rules {
    match plural {
        "storageclasses" => Rules::of(storage::class).update(storage::class_update),
        "volumeattachments" => Rules::of(storage::attachment)
            .update(|at, old| at.get("spec").immutable(&old.get("spec")))
            .status(|at, _| storage::attachment_status(at)),
        "csidrivers" => Rules::of(storage::driver).update(storage::driver_update),
        "csinodes" => Rules::of(storage::node).update(storage::node_update),
        "csistoragecapacities" => Rules::of(storage::capacity).update(storage::capacity_update),
        "volumeattributesclasses" => Rules::of(storage::attributes).update(storage::attributes_update),
        _ => Rules::NONE,
    }
}

fn certificate_rules(plural: &str) -> Rules {
    match plural {
        "certificatesigningrequests" => Rules::of(certificates::request)
            .update(certificates::update)
            .status(certificates::status)
            .part(certificates::approval),
        "clustertrustbundles" => Rules::of(bundles::bundle).once_there(any).update(bundles::bundle_update),
        "podcertificaterequests" => Rules::of(bundles::pod_request)
            .once_there(any)
            .update(devices::spec_stays)
            .status(bundles::pod_request_status),
        _ => Rules::NONE,
    }
}

fn admission_rules(plural: &str) -> Rules {
    match plural {
        "validatingwebhookconfigurations" | "mutatingwebhookconfigurations" => Rules::of(admission::webhooks),
        "validatingadmissionpolicies" => Rules::of(policies::validating).status(policies::validating_status),
        "validatingadmissionpolicybindings" => Rules::of(policies::validating_binding),
        "mutatingadmissionpolicies" => Rules::of(policies::mutating),
        "mutatingadmissionpolicybindings" => Rules::of(policies::mutating_binding),
        _ => Rules::NONE,
    }
}

fn device_rules(plural: &str) -> Rules {
    match plural {
        "resourceclaims" => {
            Rules::of(devices::claim).once_there(any).update(devices::spec_stays).status(devices::claim_status)
        }
        "resourceclaimtemplates" => Rules::of(devices::claim_template).update(devices::spec_stays),
        "deviceclasses" => Rules::of(devices::class).once_there(any).update(devices::class_update),
        "resourceslices" => Rules::of(slices::slice).once_there(any).update(slices::slice_update),
        "devicetaintrules" => Rules::of(slices::taint_rule)
            .once_there(any)
            .update(slices::taint_rule_update)
            .status(slices::taint_rule_status),
        _ => Rules::NONE,
    }
}

/// All that is wrong with a new object of a built-in kind.
pub(super) fn create(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let sink = Sink::default();
    (rules(resource).create)(&At::root(object, &sink));
    sink.into_errors()
}

/// All that is wrong with a change. What stays as it is was checked when it came; what was wrong before, by rules of
/// another time, and is so still is no reason to refuse another change. (Upstream relaxes rules one by one for that.)
pub(super) fn change(resource: &Resource, scope: Scope, object: &Value, old: &Value) -> Vec<FieldError> {
    let rules = rules(resource);
    let errors_of = |check: &dyn Fn(&Sink)| {
        let sink = Sink::default();
        check(&sink);
        sink.into_errors()
    };
    let compared = |rule: Change| errors_of(&|sink| rule(&At::root(object, sink), &At::root(old, sink)));
    if scope == Scope::Status {
        return compared(rules.status);
    }
    let mut errors = Vec::new();
    if differs(object, old) {
        errors = errors_of(&|sink| (rules.changed)(&At::root(object, sink)));
    }
    if !errors.is_empty() {
        let before = errors_of(&|sink| (rules.changed)(&At::root(old, sink)));
        let before: HashSet<FieldError> = before.into_iter().collect();
        errors.retain(|error| !before.contains(error));
    }
    errors.extend(compared(if scope == Scope::Main { rules.update } else { rules.part }));
    errors
}

/// Whether anything but metadata and status changes. Annotations count: to some kinds they mean something.
fn differs(object: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (object.as_object(), old.as_object()) else { return true };
    let counts = |name: &&str| !matches!(*name, "metadata" | "status" | "apiVersion");
    let annotations = |map: &api::Map| map.get("metadata").and_then(|metadata| metadata.get("annotations")).cloned();
    new.keys().filter(counts).count() != old.keys().filter(counts).count()
        || new.iter().any(|(name, value)| counts(&name) && old.get(name) != Some(value))
        || annotations(new) != annotations(old)
}

pub(super) use event::validate as event;
pub(super) use warnings::warnings;
/// The spec of a pod, wherever it stands.
pub(crate) fn pod_errors(object: &Value) -> Vec<FieldError> {
    let sink = Sink::default();
    pod::pod(&At::root(object, &sink));
    sink.into_errors()
}

#[cfg(test)]
mod tests;
