//! What a placement must never break, on random clusters.

use client::{labels::RequiredNodeAffinity, taints};
use proptest::prelude::*;
use scheduler::{
    nomination::Nominations,
    objects::Objects,
    plan::{First, Outcome, Profile, Search, schedule_one},
    preemption::PostFilter,
    resources::Resources,
};
use serde_json::{Value, json};

use crate::fixtures::{info, node, on, pod, snapshot, wants, with};

#[derive(Clone, Debug)]
struct RandomNode {
    cpu: u32,
    zone: u8,
    tainted: bool,
    unschedulable: bool,
}

#[derive(Clone, Debug)]
struct RandomPod {
    milli_cpu: u32,
    port: Option<u8>,
    priority: i32,
    app: u8,
    tolerates: bool,
    zone: Option<u8>,
    avoids: Option<u8>,
}

fn random_node() -> impl Strategy<Value = RandomNode> {
    (1..6_u32, 0..3_u8, prop::bool::weighted(0.2), prop::bool::weighted(0.2))
        .prop_map(|(cpu, zone, tainted, unschedulable)| RandomNode { cpu, zone, tainted, unschedulable })
}

fn random_pod() -> impl Strategy<Value = RandomPod> {
    let port = prop::option::weighted(0.3, 0..3_u8);
    (
        0..2500_u32,
        port,
        0..3_i32,
        0..3_u8,
        any::<bool>(),
        prop::option::weighted(0.3, 0..3_u8),
        prop::option::weighted(0.3, 0..3_u8),
    )
        .prop_map(|(milli_cpu, port, priority, app, tolerates, zone, avoids)| RandomPod {
            milli_cpu,
            port,
            priority,
            app,
            tolerates,
            zone,
            avoids,
        })
}

impl RandomPod {
    fn json(&self) -> Value {
        let mut value = with(
            wants(&format!("{}m", self.milli_cpu), "16Mi"),
            json!({ "metadata": { "labels": { "app": format!("a{}", self.app) } }, "spec": { "priority": self.priority } }),
        );
        if let Some(port) = self.port {
            value["spec"]["containers"][0]["ports"] =
                json!([{ "containerPort": 80, "hostPort": 8000 + i32::from(port) }]);
        }
        if self.tolerates {
            value["spec"]["tolerations"] = json!([{ "operator": "Exists" }]);
        }
        if let Some(zone) = self.zone {
            value["spec"]["nodeSelector"] = json!({ "topology.kubernetes.io/zone": format!("z{zone}") });
        }
        if let Some(app) = self.avoids {
            let term = json!({ "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": format!("a{app}") } } });
            value["spec"]["affinity"] =
                json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
        }
        value
    }
}

fn json_of(node: &RandomNode) -> Value {
    let taints = if node.tainted { json!([{ "key": "t", "effect": "NoSchedule" }]) } else { json!([]) };
    json!({
        "metadata": { "labels": { "topology.kubernetes.io/zone": format!("z{}", node.zone) } },
        "spec": { "taints": taints, "unschedulable": node.unschedulable },
        "status": { "allocatable": { "cpu": node.cpu.to_string(), "pods": "5" } },
    })
}

/// Whether the two pods may share a node.
fn together(one: &RandomPod, other: &RandomPod) -> bool {
    (one.port.is_none() || one.port != other.port) && one.avoids != Some(other.app) && other.avoids != Some(one.app)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Pods are placed one after the other; none ever breaks capacity, ports, taints, node selection or anti-affinity, and
    /// one that finds no node finds none that an independent look would allow.
    #[test]
    fn placements_respect_what_nodes_and_pods_demand(
        nodes in prop::collection::vec(random_node(), 1..5),
        pods in prop::collection::vec(random_pod(), 1..20),
    ) {
        let names: Vec<String> = (0..nodes.len()).map(|at| format!("n{at}")).collect();
        let mut placed: Vec<(usize, usize)> = Vec::new();
        for (at, random) in pods.iter().enumerate() {
            let objects = names.iter().zip(&nodes).map(|(name, random)| node(name, json_of(random))).collect();
            let running = placed.iter().map(|(pod_at, node_at)| pod(&format!("p{pod_at}"), with(pods[*pod_at].json(), on(&names[*node_at]))));
            let snapshot = snapshot(objects, running.collect(), Objects::default());
            let candidate = info(pod(&format!("p{at}"), random.json()));
            let allowed = |node_at: usize| {
                let here: Vec<&RandomPod> = placed.iter().filter(|(_, on)| *on == node_at).map(|(pod_at, _)| &pods[*pod_at]).collect();
                let used: u32 = here.iter().map(|other| other.milli_cpu).sum();
                let node = &nodes[node_at];
                here.len() < 5
                    && (random.milli_cpu == 0 || used + random.milli_cpu <= node.cpu * 1000)
                    && (random.tolerates || !node.tainted && !node.unschedulable)
                    && random.zone.is_none_or(|zone| zone == node.zone)
                    && here.iter().all(|other| together(random, other))
            };
            let outcome = schedule_one(&Profile::default(), &candidate, &snapshot, &Nominations::default(), &mut Search::default(), &mut First);
            match outcome {
                Outcome::Placed(placement) => {
                    let node_at = names.iter().position(|name| name == placement.node.name()).expect("a known node");
                    prop_assert!(allowed(node_at), "{} is not allowed on {}", candidate.name(), placement.node.name());
                    let affinity = RequiredNodeAffinity::new(candidate.spec().expect("a spec"));
                    prop_assert!(affinity.matches(&placement.node.node));
                    prop_assert!(!taints::untolerated(placement.node.taints(), candidate.tolerations()));
                    placed.push((at, node_at));
                }
                Outcome::Unschedulable(failure) => {
                    for node_at in 0..nodes.len() {
                        prop_assert!(!allowed(node_at), "{failure}");
                    }
                    check_victims(&failure.post_filter, &candidate, &snapshot)?;
                }
            }
        }
    }
}

/// Victims are less important, are on the node, and without them the pod has its resources; with any one of them put back
/// it is still refused or the victim would have been spared.
fn check_victims(
    post_filter: &PostFilter,
    pod: &scheduler::pod::PodInfo,
    snapshot: &scheduler::snapshot::Snapshot,
) -> Result<(), TestCaseError> {
    let PostFilter::Preempt(candidate) = post_filter else { return Ok(()) };
    let node = snapshot.node(&candidate.node).expect("a known node");
    prop_assert!(!candidate.victims.is_empty());
    let mut left: Resources = node.requested.clone();
    for victim in &candidate.victims {
        prop_assert!(victim.priority() < pod.priority());
        prop_assert!(node.pods.iter().any(|other| other.uid() == victim.uid()));
        left.subtract(&victim.requests);
    }
    prop_assert!(pod.requests.milli_cpu == 0 || left.milli_cpu + pod.requests.milli_cpu <= node.allocatable.milli_cpu);
    Ok(())
}
