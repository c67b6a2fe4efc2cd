//! A snapshot brought up to date step by step shows what one made at once would show.

use std::sync::Arc;

use client::labels::{self, Labels};
use jiff::Timestamp;
use proptest::prelude::*;
use scheduler::{cache::Cache, node::NodeInfo, pod::PodInfo, snapshot::Snapshot};
use serde_json::json;

use crate::fixtures::{info, node, on, pod, wants, with};

#[derive(Clone, Debug)]
enum Step {
    SetNode(u8, u8),
    RemoveNode(u8),
    SetPod(u8, u8, u8),
    Assume(u8, u8, u8),
    Forget(u8),
    RemovePod(u8),
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..4_u8, 0..3_u8).prop_map(|(node, zone)| Step::SetNode(node, zone)),
        1 => (0..4_u8).prop_map(Step::RemoveNode),
        4 => (0..12_u8, 0..4_u8, 0..3_u8).prop_map(|(pod, node, app)| Step::SetPod(pod, node, app)),
        4 => (0..12_u8, 0..4_u8, 0..3_u8).prop_map(|(pod, node, app)| Step::Assume(pod, node, app)),
        2 => (0..12_u8).prop_map(Step::Forget),
        2 => (0..12_u8).prop_map(Step::RemovePod),
        3 => Just(Step::Look),
    ]
}

fn make(id: u8, node: &str, app: u8) -> Arc<PodInfo> {
    let volumes = json!([{ "name": "v", "persistentVolumeClaim": { "claimName": format!("c{}", id % 2) } }]);
    let term = json!([{ "topologyKey": "kubernetes.io/hostname", "labelSelector": {} }]);
    let affinity = if id.is_multiple_of(3) {
        json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": term } })
    } else {
        json!(null)
    };
    let over = json!({ "metadata": { "labels": { "app": format!("a{app}") } }, "spec": { "volumes": volumes, "affinity": affinity } });
    let over = with(with(wants("100m", "1Mi"), over), on(node));
    info(pod(&id.to_string(), over))
}

/// Everything that plugins ask a snapshot, in an order of its own.
fn describe(snapshot: &Snapshot) -> Vec<String> {
    let mut text = Vec::new();
    for node in snapshot.nodes() {
        let mut pods: Vec<_> = node.pods.iter().map(|pod| pod.name()).collect();
        pods.sort();
        text.push(format!("{} {:?} {pods:?} {}", node.name(), node.zone(), node.requested.milli_cpu));
        let matching = |app: u8| {
            let selector = labels::selector_of_map(&Labels::from([("app".to_owned(), format!("a{app}"))]));
            snapshot.matching("default", &selector)[snapshot.place(node.name()).expect("a known node")]
        };
        text.push(format!("{:?}", (0..3).map(matching).collect::<Vec<_>>()));
    }
    let refusing: Vec<_> = snapshot.with_required_anti_affinity().map(NodeInfo::name).collect();
    let affine: Vec<_> = snapshot.with_affinity().map(NodeInfo::name).collect();
    text.push(format!("{refusing:?} {affine:?}"));
    for id in 0..2 {
        let pod = make(id, "", 0);
        text.push(format!("claim {id}: {}", snapshot.claim_users(&pod, &pod.claims[0])));
    }
    text
}

proptest! {
    #[test]
    fn an_updated_snapshot_is_that_of_a_fresh_look(steps in prop::collection::vec(step(), 1..60)) {
        let mut cache = Cache::new(None);
        let mut snapshot = Snapshot::default();
        for step in steps {
            match step {
                Step::SetNode(id, zone) => cache.set_node(node(
                    &format!("n{id}"),
                    json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": format!("z{zone}") } } }),
                )),
                Step::RemoveNode(id) => cache.remove_node(&format!("n{id}")),
                Step::SetPod(id, node, app) => cache.set_pod(make(id, &format!("n{node}"), app)),
                Step::Assume(id, node, app) => cache.assume(make(id, "", app), &format!("n{node}")),
                Step::Forget(id) => drop(cache.forget(&format!("uid-{id}"))),
                Step::RemovePod(id) => drop(cache.remove_pod(&format!("uid-{id}"))),
                Step::Look => {
                    cache.update(&mut snapshot);
                    let fresh = Snapshot::new(snapshot.nodes().iter().map(|node| (**node).clone()), Default::default());
                    prop_assert_eq!(describe(&snapshot), describe(&fresh));
                }
            }
        }
    }
}

#[test]
fn zones_take_turns() {
    let mut cache = Cache::new(None);
    for (name, zone) in [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c"), ("c2", "c")] {
        cache.set_node(node(name, json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": zone } } })));
    }
    let mut snapshot = Snapshot::default();
    cache.update(&mut snapshot);
    let order: Vec<_> = snapshot.nodes().iter().map(|node| node.name()).collect();
    assert_eq!(order, ["a1", "b1", "c1", "a2", "c2", "a3"]);
}

#[test]
fn an_assumed_pod_expires_only_after_it_was_bound_and_never_once_seen() {
    let start = Timestamp::UNIX_EPOCH;
    let mut cache = Cache::new(Some(std::time::Duration::from_secs(30)));
    cache.set_node(node("a", json!({})));
    for id in 0..3 {
        cache.assume(make(id, "", 0), "a");
    }
    cache.finish_binding("uid-1", start);
    cache.finish_binding("uid-2", start);
    cache.set_pod(make(2, "a", 0));
    let late = start + jiff::SignedDuration::from_secs(30);
    assert_eq!(cache.next_expiry(), Some(late));
    let expired: Vec<_> = cache.expire(late).iter().map(|pod| pod.name().to_owned()).collect();
    assert_eq!(expired, ["1"]);
}
