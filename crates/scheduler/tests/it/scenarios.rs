//! Clusters and pods in, placements and messages out. The texts are upstream's.

use client::kinds::{
    apps::v1::ReplicaSet,
    core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod},
    policy::v1::PodDisruptionBudget,
    storage::v1::StorageClass,
};
use scheduler::{
    nomination::Nominations,
    objects::Objects,
    plan::{First, Outcome, Profile, Search, schedule_one},
    preemption::PostFilter,
};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::fixtures::{info, node, object, on, pod, snapshot, wants, with};

/// Places `pod` and prints what came of it.
fn run(nodes: Vec<Arc<Node>>, pods: Vec<Arc<Pod>>, objects: Objects, pod: Arc<Pod>) -> String {
    let snapshot = snapshot(nodes, pods, objects);
    let pod = info(pod);
    let nominations = Nominations::default();
    match schedule_one(&Profile::default(), &pod, &snapshot, &nominations, &mut Search::default(), &mut First) {
        Outcome::Placed(placement) => placement.to_string(),
        Outcome::Unschedulable(failure) => {
            let rejectors = Vec::from_iter(failure.rejectors()).join(" ");
            let victims = match &failure.post_filter {
                PostFilter::Preempt(candidate) => {
                    let names: Vec<_> = candidate.victims.iter().map(|pod| pod.name()).collect();
                    format!("\npreempt on {}: {} (violating {})", candidate.node, names.join(" "), candidate.violations)
                }
                _ => String::new(),
            };
            format!("{failure}\nrejected by {rejectors}{victims}")
        }
    }
}

fn check(nodes: Vec<Arc<Node>>, pods: Vec<Arc<Pod>>, candidate: Value, expect: &str) {
    check_with(nodes, pods, Objects::default(), candidate, expect);
}

#[track_caller]
fn check_with(nodes: Vec<Arc<Node>>, pods: Vec<Arc<Pod>>, objects: Objects, candidate: Value, expect: &str) {
    let got = run(nodes, pods, objects, pod("p", candidate));
    assert_eq!(got.trim(), expect.trim());
}

fn zoned(name: &str, zone: &str) -> Arc<Node> {
    node(name, json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": zone } } }))
}

fn app(name: &str, node: &str) -> Arc<Pod> {
    pod(name, with(json!({ "metadata": { "labels": { "app": "web" } } }), on(node)))
}

fn taint(key: &str, effect: &str) -> Value {
    json!({ "spec": { "taints": [{ "key": key, "effect": effect }] } })
}

#[test]
fn the_least_used_node_wins_and_scores_are_as_upstream_counts_them() {
    check(
        vec![node("a", json!({})), node("b", json!({}))],
        vec![pod("x", with(wants("2", "4Gi"), on("a")))],
        wants("1", "2Gi"),
        "place on b (2 of 2 evaluated fit)\n  a 100 NodeResourcesFit=25 NodeResourcesBalancedAllocation=75\n  b 150 NodeResourcesFit=75 NodeResourcesBalancedAllocation=75",
    );
}

#[test]
fn messages_count_reasons_and_say_what_preemption_came_to() {
    let never = "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. \
        preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling.\n\
        rejected by NodeResourcesFit NodeUnschedulable TaintToleration";
    check(
        vec![
            node("a", json!({})),
            node("b", taint("dedicated", "NoSchedule")),
            node("c", json!({ "spec": { "unschedulable": true } })),
        ],
        vec![pod("x", with(wants("3500m", "1Gi"), on("a")))],
        wants("1", "1Gi"),
        never,
    );
    check(
        vec![node("a", json!({}))],
        vec![],
        wants("5", "9Gi"),
        "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.\nrejected by NodeResourcesFit",
    );
    check(vec![], vec![], json!({}), "no nodes available to schedule pods\nrejected by");
}

#[test]
fn tolerations_ports_and_node_names() {
    let tolerating = json!({ "spec": { "tolerations": [{ "key": "dedicated", "operator": "Exists" }] } });
    check(
        vec![node("a", taint("dedicated", "NoSchedule"))],
        vec![],
        tolerating,
        "place on a (1 of 1 evaluated fit)\n  a 0",
    );
    check(
        vec![node("a", taint("slow", "PreferNoSchedule")), node("b", json!({}))],
        vec![],
        json!({}),
        "place on b (2 of 2 evaluated fit)\n  a 97 TaintToleration=0 NodeResourcesFit=97\n  b 397 TaintToleration=300 NodeResourcesFit=97",
    );
    let port =
        json!({ "spec": { "containers": [{ "name": "c", "ports": [{ "containerPort": 80, "hostPort": 80 }] }] } });
    check(
        vec![node("a", json!({}))],
        vec![pod("x", with(port.clone(), on("a")))],
        port,
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.\nrejected by NodePorts",
    );
    let field = json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["gone"] }] }]);
    let named =
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": field } } });
    check(
        vec![node("a", json!({})), node("b", json!({}))],
        vec![],
        json!({ "spec": { "affinity": named } }),
        "0/2 nodes are available: 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.\nrejected by NodeAffinity",
    );
    check(
        vec![node("a", json!({}))],
        vec![],
        json!({ "spec": { "nodeSelector": { "disk": "ssd" } } }),
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.\nrejected by NodeAffinity",
    );
}

#[test]
fn requests_are_those_of_containers_sidecars_init_containers_overhead_and_the_pod_itself() {
    let container = |cpu: &str| json!({ "name": "c", "resources": { "requests": { "cpu": cpu } } });
    let sidecar = |cpu: &str| with(container(cpu), json!({ "restartPolicy": "Always" }));
    let table = [
        (json!({ "containers": [container("1"), container("2")] }), 3000),
        (json!({ "containers": [container("1")], "initContainers": [container("3")] }), 3000),
        (json!({ "containers": [container("1")], "initContainers": [sidecar("1"), container("3")] }), 4000),
        (json!({ "containers": [container("4")], "initContainers": [sidecar("1"), container("3")] }), 5000),
        (json!({ "containers": [container("1")], "overhead": { "cpu": "250m" } }), 1250),
        (
            json!({ "containers": [container("1")], "resources": { "requests": { "cpu": "2" } }, "overhead": { "cpu": "1" } }),
            3000,
        ),
    ];
    for (spec, milli_cpu) in table {
        let pod = info(pod("p", json!({ "spec": spec })));
        assert_eq!(pod.requests.milli_cpu, milli_cpu, "{spec}");
    }
}

#[test]
fn hard_spreading_keeps_the_skew_and_wants_all_its_domains() {
    let spread = |extra: Value| {
        let constraint = json!({
            "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": { "matchLabels": { "app": "web" } },
        });
        json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "topologySpreadConstraints": [with(constraint, extra)] } })
    };
    let nodes = || vec![zoned("a", "z1"), zoned("b", "z2")];
    check(nodes(), vec![app("x", "a")], spread(json!({})), "place on b (1 of 2 evaluated fit)\n  b 0");
    check(
        nodes(),
        vec![app("x", "a"), app("y", "b")],
        spread(json!({ "minDomains": 3 })),
        "0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.\nrejected by PodTopologySpread",
    );
    check(
        vec![node("a", json!({}))],
        vec![],
        spread(json!({})),
        "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label). preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.\nrejected by PodTopologySpread",
    );
    // A tainted zone counts unless taints are honored; without it the other zone is the only domain.
    let tainted = || {
        vec![
            zoned("a", "z1"),
            node(
                "b",
                with(
                    json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": "z2" } } }),
                    taint("t", "NoSchedule"),
                ),
            ),
        ]
    };
    let honored = run(
        tainted(),
        vec![app("x", "a")],
        Objects::default(),
        pod("p", spread(json!({ "nodeTaintsPolicy": "Honor" }))),
    );
    assert!(honored.starts_with("place on a"), "{honored}");
    let ignored = run(tainted(), vec![app("x", "a")], Objects::default(), pod("p", spread(json!({}))));
    assert!(ignored.starts_with("0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) had untolerated taint(s)."), "{ignored}");
}

#[test]
fn pods_of_a_controller_spread_by_default() {
    let mut objects = Objects::default();
    let selector = json!({ "matchLabels": { "app": "web" } });
    objects.replica_sets.insert(object::<ReplicaSet>(&json!({
        "metadata": { "name": "web", "namespace": "default" }, "spec": { "selector": selector, "template": {} },
    })));
    let owner =
        json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true }]);
    let owned = json!({ "metadata": { "labels": { "app": "web" }, "ownerReferences": owner } });
    let got =
        run(vec![zoned("a", "z1"), zoned("b", "z1"), zoned("c", "z2")], vec![app("x", "a")], objects, pod("p", owned));
    assert!(got.starts_with("place on c"), "{got}");
    assert!(got.contains("PodTopologySpread=200"), "{got}");
}

#[test]
fn pod_affinity_and_anti_affinity() {
    let term =
        json!([{ "topologyKey": "topology.kubernetes.io/zone", "labelSelector": { "matchLabels": { "app": "web" } } }]);
    let near = json!({ "spec": { "affinity": { "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": term } } } });
    let far = json!({ "spec": { "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": term } } } });
    let nodes = || vec![zoned("a", "z1"), zoned("b", "z2")];
    check(nodes(), vec![app("x", "b")], near.clone(), "place on b (1 of 2 evaluated fit)\n  b 0");
    check(
        nodes(),
        vec![],
        near.clone(),
        "0/2 nodes are available: 2 node(s) didn't match pod affinity rules. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.\nrejected by InterPodAffinity",
    );
    // The first of its group: it matches its own terms.
    let first = run(
        nodes(),
        vec![],
        Objects::default(),
        pod("p", with(near, json!({ "metadata": { "labels": { "app": "web" } } }))),
    );
    assert!(first.starts_with("place on a"), "{first}");
    check(nodes(), vec![app("x", "b")], far.clone(), "place on a (1 of 2 evaluated fit)\n  a 0");
    // Symmetric: the pod that runs refuses the one that comes.
    check(
        vec![zoned("a", "z1")],
        vec![pod("x", with(far, on("a")))],
        json!({ "metadata": { "labels": { "app": "web" } } }),
        "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.\nrejected by InterPodAffinity",
    );
}

#[test]
fn affinity_terms_reach_into_selected_namespaces() {
    let mut objects = Objects::default();
    objects
        .namespaces
        .insert(object::<Namespace>(&json!({ "metadata": { "name": "other", "labels": { "team": "a" } } })));
    let term = json!([{
        "topologyKey": "kubernetes.io/hostname", "labelSelector": {}, "namespaceSelector": { "matchLabels": { "team": "a" } },
    }]);
    let far = json!({ "spec": { "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": term } } } });
    let elsewhere = pod("x", with(json!({ "metadata": { "namespace": "other" } }), on("a")));
    let here = pod("y", on("b"));
    check_with(
        vec![node("a", json!({})), node("b", json!({}))],
        vec![elsewhere, here],
        objects,
        far,
        "place on b (1 of 2 evaluated fit)\n  b 0",
    );
}

fn ranked(name: &str, priority: i32, cpu: &str, node: &str) -> Arc<Pod> {
    let over = json!({ "metadata": { "labels": { "rank": priority.to_string() } }, "spec": { "priority": priority } });
    pod(name, with(with(wants(cpu, "1Gi"), over), on(node)))
}

#[test]
fn preemption_takes_the_fewest_and_least_important() {
    let important = || with(wants("2", "1Gi"), json!({ "spec": { "priority": 100 } }));
    let nodes = || vec![node("a", json!({})), node("b", json!({}))];
    check(
        nodes(),
        vec![ranked("a1", 10, "2", "a"), ranked("a2", 50, "2", "a"), ranked("b1", 20, "4", "b")],
        important(),
        "0/2 nodes are available: 2 Insufficient cpu.\nrejected by NodeResourcesFit\npreempt on a: a1 (violating 0)",
    );
    // A budget that allows nothing outweighs priority.
    let mut objects = Objects::default();
    let selector = json!({ "matchLabels": { "rank": "10" } });
    objects.budgets.insert(object::<PodDisruptionBudget>(&json!({
        "metadata": { "name": "b", "namespace": "default" }, "spec": { "selector": selector }, "status": { "disruptionsAllowed": 0 },
    })));
    check_with(
        nodes(),
        vec![ranked("a1", 10, "4", "a"), ranked("b1", 20, "4", "b")],
        objects,
        important(),
        "0/2 nodes are available: 2 Insufficient cpu.\nrejected by NodeResourcesFit\npreempt on b: b1 (violating 0)",
    );
    check(
        nodes(),
        vec![ranked("a1", 10, "4", "a"), ranked("b1", 20, "4", "b")],
        with(important(), json!({ "spec": { "preemptionPolicy": "Never" } })),
        "0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.\nrejected by NodeResourcesFit",
    );
}

fn claim(spec: Value, bound: bool) -> Arc<PersistentVolumeClaim> {
    let annotations = if bound { json!({ "pv.kubernetes.io/bind-completed": "yes" }) } else { json!({}) };
    object(&json!({ "metadata": { "name": "data", "namespace": "default", "annotations": annotations }, "spec": spec }))
}

#[test]
fn claims_follow_their_volumes_or_wait_for_the_node() {
    let using =
        || json!({ "spec": { "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "data" } }] } });
    let nodes = || vec![zoned("a", "z1"), zoned("b", "z2")];
    let hopeless =
        "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.\nrejected by VolumeBinding";
    check(
        nodes(),
        vec![],
        using(),
        &format!("0/2 nodes are available: persistentvolumeclaim \"data\" not found. {hopeless}"),
    );

    let mut objects = Objects::default();
    objects.claims.insert(claim(json!({}), false));
    let message = "pod has unbound immediate PersistentVolumeClaims";
    check_with(nodes(), vec![], objects, using(), &format!("0/2 nodes are available: {message}. {hopeless}"));

    let mut objects = Objects::default();
    let terms =
        json!([{ "matchExpressions": [{ "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["z2"] }] }]);
    objects.claims.insert(claim(json!({ "volumeName": "pv" }), true));
    objects.volumes.insert(object::<PersistentVolume>(&json!({
        "metadata": { "name": "pv" }, "spec": { "nodeAffinity": { "required": { "nodeSelectorTerms": terms } } },
    })));
    check_with(nodes(), vec![], objects, using(), "place on b (1 of 2 evaluated fit)\n  b 0");

    let mut objects = Objects::default();
    objects.claims.insert(claim(json!({ "storageClassName": "fast" }), false));
    objects.classes.insert(object::<StorageClass>(&json!({
        "metadata": { "name": "fast" }, "provisioner": "csi.example.com", "volumeBindingMode": "WaitForFirstConsumer",
        "allowedTopologies": [{ "matchLabelExpressions": [{ "key": "topology.kubernetes.io/zone", "values": ["z1"] }] }],
    })));
    check_with(
        nodes(),
        vec![],
        objects,
        using(),
        "place on a (1 of 2 evaluated fit)\n  a 0\n  first provision claim default/data for node a",
    );
}

#[test]
fn images_that_are_there_already_attract() {
    let images = json!({ "status": { "images": [{ "names": ["app:latest"], "sizeBytes": 2_000_000_000 }] } });
    check(
        vec![node("a", json!({})), node("b", images)],
        vec![],
        json!({}),
        "place on b (2 of 2 evaluated fit)\n  a 97 NodeResourcesFit=97 ImageLocality=0\n  b 192 NodeResourcesFit=97 ImageLocality=95",
    );
}

#[test]
fn large_clusters_are_not_searched_to_the_end() {
    use scheduler::plan::nodes_to_find;
    let table = [
        (None, 99, 99),
        (None, 100, 100),
        (None, 1000, 420),
        (None, 5000, 500),
        (None, 6000, 300),
        (Some(10), 5000, 500),
        (Some(100), 5000, 5000),
    ];
    for (percentage, nodes, expect) in table {
        assert_eq!(nodes_to_find(percentage, nodes), expect, "{percentage:?} of {nodes}");
    }
}
