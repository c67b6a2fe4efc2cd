//! A daemon pod: where it may stand and how it is pinned there (upstream daemon/util/daemonset_util.go).

use client::{
    kinds::{
        apps::v1::DaemonSet,
        core::v1::{
            Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, PodTemplateSpec, Toleration,
        },
    },
    labels::RequiredNodeAffinity,
    taints,
};

use crate::shared::{history::REVISION_HASH, nodes, owners, pods, template};

fn template_of(set: &DaemonSet) -> PodTemplateSpec {
    set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default()
}

/// Whether a pod should be started on the node, and whether one there may stay (`nodeShouldRunDaemonPod`).
pub fn should_run(set: &DaemonSet, node: &Node) -> (bool, bool) {
    let mut spec = template_of(set).spec.unwrap_or_default();
    tolerate(&mut spec);
    let is_named =
        spec.node_name.as_deref().is_none_or(|name| name.is_empty() || Some(name) == node.metadata.name.as_deref());
    if !is_named || !RequiredNodeAffinity::new(&spec).matches(node) {
        return (false, false);
    }
    let tolerations = spec.tolerations.unwrap_or_default();
    let tolerates = |effect: &str| {
        taints::of(node)
            .iter()
            .filter(|taint| taint.effect == effect)
            .all(|taint| taints::tolerated(&tolerations, taint))
    };
    let may_stay = tolerates("NoExecute");
    (may_stay && tolerates("NoSchedule"), may_stay)
}

/// The node a daemon pod is for, whether or not it is bound yet.
pub fn target_node(pod: &Pod) -> Option<&str> {
    if !pods::node_name(pod).is_empty() {
        return Some(pods::node_name(pod));
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let mut fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let named = fields.find(|field| field.key == "metadata.name")?;
    named.values.as_ref()?.first().map(String::as_str)
}

/// The pod for one node.
pub fn pod_for(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let mut pod = template::pod(set, owners::controller_ref(set), &template_of(set));
    pod.metadata.labels.get_or_insert_default().insert(REVISION_HASH.into(), hash.into());
    let generation = set.metadata.generation.unwrap_or(0).to_string();
    pod.metadata.labels.get_or_insert_default().insert("pod-template-generation".into(), generation);
    let spec = pod.spec.get_or_insert_default();
    tolerate(spec);
    let named =
        NodeSelectorRequirement { key: "metadata.name".into(), operator: "In".into(), values: Some(vec![node.into()]) };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm { match_fields: Some(vec![named]), match_expressions: None }],
    });
    pod
}

/// Daemon pods stay on troubled nodes.
fn tolerate(spec: &mut PodSpec) {
    const ALWAYS: [(&str, &str); 6] = [
        (nodes::NOT_READY, "NoExecute"),
        (nodes::UNREACHABLE, "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        (taints::UNSCHEDULABLE, "NoSchedule"),
    ];
    let on_host = (spec.host_network == Some(true)).then_some(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in ALWAYS.into_iter().chain(on_host) {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
}
