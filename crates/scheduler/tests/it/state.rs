//! Whole cycles: changes in, actions out, no API server.

use std::sync::Arc;

use client::kinds::core::v1::{Node, PersistentVolumeClaim, Pod};
use jiff::{SignedDuration, Timestamp};
use scheduler::{
    plan::{First, Profile},
    queue::Delays,
    state::{Action, Change, Ended, Failed, State, Update},
};
use serde_json::json;

use crate::fixtures::{node, object, on, pod, wants, with};

struct Cluster {
    state: State,
    now: Timestamp,
}

impl Cluster {
    fn new(nodes: &[Arc<Node>]) -> Cluster {
        let state = State::new(vec![Profile::default()], Delays::default(), None, Box::new(First));
        let mut cluster = Cluster { state, now: Timestamp::UNIX_EPOCH };
        nodes.iter().for_each(|node| drop(cluster.apply(Change::Node(Update { old: None, new: Some(node.clone()) }))));
        cluster
    }

    fn apply(&mut self, change: Change) -> Vec<Action> {
        self.state.apply(change, self.now)
    }

    fn pod(&mut self, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) -> Vec<Action> {
        self.apply(Change::Pod(Update { old: old.cloned(), new: new.cloned() }))
    }

    fn done(&mut self, action: Ended, pod: &str, result: Result<(), Failed>) -> Vec<Action> {
        self.apply(Change::Done { action, uid: format!("uid-{pod}"), result })
    }

    /// All decisions there are to make now, one action a line.
    fn decide(&mut self) -> String {
        let actions = std::iter::from_fn(|| self.state.schedule_next(self.now)).flatten();
        print(&actions.collect::<Vec<_>>())
    }

    fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }
}

fn print(actions: &[Action]) -> String {
    actions.iter().map(Action::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_pod_is_bound_and_counts_at_once() {
    let mut cluster = Cluster::new(&[node("a", json!({}))]);
    cluster.pod(None, Some(&pod("one", wants("3", "1Gi"))));
    cluster.pod(None, Some(&pod("two", wants("3", "1Gi"))));
    assert_eq!(
        cluster.decide(),
        "bind default/one to a\nreport default/two: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
    // Bound and seen; then gone: the other has room.
    let bound = pod("one", with(wants("3", "1Gi"), on("a")));
    cluster.done(Ended::Bind, "one", Ok(()));
    cluster.pod(Some(&pod("one", wants("3", "1Gi"))), Some(&bound));
    assert_eq!(cluster.decide(), "");
    cluster.pod(Some(&bound), None);
    cluster.wait(2);
    assert_eq!(cluster.decide(), "bind default/two to a");
}

#[test]
fn a_failed_binding_frees_the_place_and_is_tried_again_after_its_backoff() {
    let mut cluster = Cluster::new(&[node("a", json!({}))]);
    cluster.pod(None, Some(&pod("one", wants("3", "1Gi"))));
    assert_eq!(cluster.decide(), "bind default/one to a");
    let failed = Failed { gone: false, message: "no".into() };
    assert_eq!(print(&cluster.done(Ended::Bind, "one", Err(failed))), "report default/one: no");
    assert_eq!(cluster.decide(), "");
    cluster.wait(1);
    assert_eq!(cluster.decide(), "bind default/one to a");
}

#[test]
fn only_an_event_that_helps_wakes_a_pod() {
    let mut cluster = Cluster::new(&[node("a", json!({}))]);
    let waiting = pod("p", json!({ "spec": { "nodeSelector": { "disk": "ssd" } } }));
    cluster.pod(None, Some(&waiting));
    assert!(cluster.decide().starts_with(
        "report default/p: 0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    ));
    cluster.wait(20);
    cluster.pod(None, Some(&pod("other", on("a"))));
    cluster.pod(Some(&pod("other", on("a"))), None);
    assert_eq!(cluster.decide(), "");
    let labelled = node("a", json!({ "metadata": { "labels": { "disk": "ssd" } } }));
    cluster.apply(Change::Node(Update { old: Some(node("a", json!({}))), new: Some(labelled) }));
    assert_eq!(cluster.decide(), "bind default/p to a");
}

#[test]
fn preemption_nominates_holds_the_room_and_binds_when_the_victims_are_gone() {
    let mut cluster = Cluster::new(&[node("a", json!({}))]);
    let victim = pod("low", with(wants("4", "1Gi"), on("a")));
    cluster.pod(None, Some(&victim));
    let high = with(wants("4", "1Gi"), json!({ "spec": { "priority": 10 } }));
    cluster.pod(None, Some(&pod("high", high)));
    assert_eq!(
        cluster.decide(),
        "preempt on a for default/high: default/low\nreport default/high: 0/1 nodes are available: 1 Insufficient cpu."
    );
    // The victim goes before the preemption is known to be over: the pod is held back until then.
    cluster.wait(5);
    cluster.pod(Some(&victim), None);
    cluster.pod(None, Some(&pod("late", wants("4", "1Gi"))));
    let late = cluster.decide();
    assert!(
        late.starts_with("report default/late: 0/1 nodes are available: 1 Insufficient cpu."),
        "the room is kept: {late}"
    );
    cluster.done(Ended::Preempt, "high", Ok(()));
    assert_eq!(cluster.decide(), "bind default/high to a");
}

#[test]
fn binding_waits_for_volumes() {
    let mut cluster = Cluster::new(&[node("a", json!({}))]);
    let class =
        json!({ "metadata": { "name": "fast" }, "provisioner": "csi", "volumeBindingMode": "WaitForFirstConsumer" });
    cluster.apply(Change::Class(Update { old: None, new: Some(object(&class)) }));
    let claim =
        json!({ "metadata": { "name": "data", "namespace": "default" }, "spec": { "storageClassName": "fast" } });
    let unbound: Arc<PersistentVolumeClaim> = object(&claim);
    cluster.apply(Change::Claim(Update { old: None, new: Some(unbound.clone()) }));
    let volumes = json!({ "spec": { "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "data" } }] } });
    cluster.pod(None, Some(&pod("p", volumes)));
    assert_eq!(cluster.decide(), "prepare default/p: provision claim default/data for node a");
    assert_eq!(print(&cluster.done(Ended::PrepareVolumes, "p", Ok(()))), "");
    let bound = with(
        claim,
        json!({ "metadata": { "annotations": { "pv.kubernetes.io/bind-completed": "yes" } }, "spec": { "volumeName": "pv" } }),
    );
    let actions = cluster.apply(Change::Claim(Update { old: Some(unbound), new: Some(object(&bound)) }));
    assert_eq!(print(&actions), "bind default/p to a");
}

#[test]
fn a_condition_is_written_once_and_keeps_its_time() {
    let mut cluster = Cluster::new(&[]);
    cluster.pod(None, Some(&pod("p", json!({}))));
    let report = |cluster: &mut Cluster| match cluster.state.schedule_next(cluster.now).unwrap_or_default().pop() {
        Some(Action::Report { report, .. }) => report,
        other => panic!("{other:?}"),
    };
    let patch = report(&mut cluster).patch.expect("a first report");
    assert_eq!(patch["status"]["conditions"][0]["message"], "no nodes available to schedule pods");
    assert_eq!(patch["status"]["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
    let written = pod("p", json!({ "status": { "conditions": [patch["status"]["conditions"][0].clone()] } }));
    cluster.pod(Some(&pod("p", json!({}))), Some(&written));
    cluster.wait(1);
    assert_eq!(report(&mut cluster).patch, None);
}
