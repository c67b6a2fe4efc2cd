//! Every controller, by upstream's name. One line here starts it.

use crate::{
    aggregation, bootstrap, certificates, cronjob, daemonset, deployment, disruption, endpoints, garbage, job,
    manager::Setup, namespace, namespace_content, node, quota, replicaset, service_cidr, statefulset, volume,
};

pub struct Entry {
    /// Name in `--controllers` (upstream cmd/kube-controller-manager/names).
    pub name: &'static str,
    /// The short name from before 1.28, still taken; the name itself of what is newer.
    pub alias: &'static str,
    /// Whether `*` includes it.
    pub by_default: bool,
    pub register: fn(&mut Setup),
}

const fn on(name: &'static str, alias: &'static str, register: fn(&mut Setup)) -> Entry {
    Entry { name, alias, by_default: true, register }
}

const fn since_1_28(name: &'static str, register: fn(&mut Setup)) -> Entry {
    on(name, name, register)
}

const fn off(name: &'static str, alias: &'static str, register: fn(&mut Setup)) -> Entry {
    Entry { name, alias, by_default: false, register }
}

pub const CONTROLLERS: &[Entry] = &[
    on("deployment-controller", "deployment", deployment::register),
    on("replicaset-controller", "replicaset", replicaset::register_replica_sets),
    on("replicationcontroller-controller", "replicationcontroller", replicaset::register_replication_controllers),
    on("namespace-controller", "namespace", namespace::register),
    on("serviceaccount-controller", "serviceaccount", namespace_content::register_service_account),
    on("root-ca-certificate-publisher-controller", "root-ca-cert-publisher", namespace_content::register_root_ca),
    on("garbage-collector-controller", "garbagecollector", garbage::register),
    on("endpoints-controller", "endpoint", endpoints::register_endpoints),
    on("endpointslice-controller", "endpointslice", endpoints::register_slices),
    on("endpointslice-mirroring-controller", "endpointslicemirroring", endpoints::register_mirroring),
    on("daemonset-controller", "daemonset", daemonset::register),
    on("statefulset-controller", "statefulset", statefulset::register),
    on("job-controller", "job", job::register),
    on("ttl-after-finished-controller", "ttl-after-finished", job::register_ttl),
    on("cronjob-controller", "cronjob", cronjob::register),
    on("node-lifecycle-controller", "nodelifecycle", node::lifecycle::register),
    on("taint-eviction-controller", "taint-eviction-controller", node::eviction::register),
    on("node-ipam-controller", "nodeipam", node::ipam::register),
    on("pod-garbage-collector-controller", "podgc", node::pod_gc::register),
    on("disruption-controller", "disruption", disruption::register),
    on("resourcequota-controller", "resourcequota", quota::register),
    on("certificatesigningrequest-approving-controller", "csrapproving", certificates::register_approving),
    on("certificatesigningrequest-signing-controller", "csrsigning", certificates::register_signing),
    on("certificatesigningrequest-cleaner-controller", "csrcleaner", certificates::register_cleaner),
    // Not upstream's: see the module.
    off("kubelet-serving-csr-approver", "kubelet-serving-csr-approver", certificates::serving::register),
    off("bootstrap-signer-controller", "bootstrapsigner", bootstrap::register_signer),
    off("token-cleaner-controller", "tokencleaner", bootstrap::register_cleaner),
    on("clusterrole-aggregation-controller", "clusterrole-aggregation", aggregation::register),
    since_1_28("service-cidr-controller", service_cidr::register),
    on("persistentvolume-binder-controller", "persistentvolume-binder", volume::binder::register),
    on("ephemeral-volume-controller", "ephemeral-volume", volume::ephemeral::register),
    on("persistentvolumeclaim-protection-controller", "pvc-protection", volume::protection::register_claims),
    on("persistentvolume-protection-controller", "pv-protection", volume::protection::register_volumes),
    since_1_28("volumeattributesclass-protection-controller", volume::protection::register_classes),
];
