//! In-place resize: what the node grants, and how running containers come to it.

use client::kinds::core::v1::{Node, Pod, PodStatus};
use jiff::Timestamp;
use kubelet::{
    allocation::{Allocations, of},
    plan::{ContainerRecord, Failure, PodObserved, SandboxRecord, State, plan_pod},
    status::{Context, generate, patch},
};
use serde_json::{Value, json};
use std::sync::Arc;

fn pod(name: &str, cpu: &str, memory: &str) -> Pod {
    let resources = json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}});
    let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "generation": 2},
        "spec": {"containers": [{"name": "a", "resources": resources, "resizePolicy": policy}]},
    }))
    .expect("a pod")
}

fn node(cpu: &str, memory: &str) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": "n"},
        "status": {"allocatable": {"cpu": cpu, "memory": memory}},
    }))
    .expect("a node")
}

fn cpu_of(pod: &Pod) -> String {
    of(pod)["a"].requests.as_ref().and_then(|list| list.get("cpu")).map(|q| q.0.clone()).unwrap_or_default()
}

#[test]
fn the_node_grants_what_it_has() {
    let neighbour = pod("neighbour", "1", "1Gi");
    for (name, wanted, runs_with, pending, event) in [
        ("the same, written otherwise", "1000m", "1000m", None, None),
        ("more", "3", "3", None, Some("ResizeStarted")),
        ("less", "100m", "100m", None, Some("ResizeStarted")),
        (
            "more than is left",
            "3500m",
            "1",
            Some(("Deferred", "Node didn't have enough resource: cpu, requested: 3500, used: 1000, capacity: 4000")),
            Some("ResizeDeferred"),
        ),
        (
            "more than there is",
            "5",
            "1",
            Some(("Infeasible", "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000")),
            Some("ResizeInfeasible"),
        ),
    ] {
        let mut allocations = Allocations::default();
        allocations.begin(Arc::new(pod("p", "1", "1Gi")));
        let wanted = Arc::new(pod("p", wanted, "1Gi"));
        let outcome = allocations.decide(wanted.clone(), &[&neighbour], &node("4", "8Gi"));
        assert_eq!(cpu_of(&outcome.pod), runs_with, "{name}");
        let shown = outcome.pending.as_ref().map(|pending| (pending.reason, pending.message.as_str()));
        assert_eq!(shown, pending, "{name}");
        assert_eq!(outcome.event.as_ref().map(|(_, reason, _)| *reason), event, "{name}");
        // Asked again, it says the same without another event; once there is room it is granted.
        let again = allocations.decide(wanted.clone(), &[&neighbour], &node("4", "8Gi"));
        assert!(again.event.is_none() && again.pending == outcome.pending, "{name}");
        assert_eq!(allocations.waiting().len(), usize::from(pending.is_some()), "{name}");
        let freed = allocations.decide(wanted.clone(), &[], &node("8", "8Gi"));
        assert_eq!(cpu_of(&freed.pod), cpu_of(&wanted), "{name}");
        assert!(freed.pending.is_none() && allocations.waiting().is_empty(), "{name}");
    }
}

#[test]
fn a_restarted_kubelet_remembers_what_it_gave() {
    let mut seen = pod("p", "3", "1Gi");
    let status: PodStatus = serde_json::from_value(json!({"containerStatuses": [{
        "name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "allocatedResources": {"cpu": "1", "memory": "1Gi"},
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
    }]}))
    .expect("a status");
    seen.status = Some(status);
    let mut allocations = Allocations::default();
    let running = allocations.begin(Arc::new(seen));
    assert_eq!(cpu_of(&running), "1");
    assert_eq!(allocations.waiting().len(), 1, "it is looked at again");
}

/// Container `a` runs with what `has` asks for.
fn observed(has: &Pod) -> PodObserved {
    let sandbox =
        SandboxRecord { id: "s".into(), ready: true, ips: vec!["10.0.0.1".into()], ..SandboxRecord::default() };
    let record = ContainerRecord {
        id: "a-0".into(),
        name: "a".into(),
        attempt: 0,
        sandbox: "s".into(),
        state: State::Running { started_at: Timestamp::UNIX_EPOCH },
        hash: String::new(),
        image: String::new(),
        image_ref: String::new(),
        log_path: String::new(),
        created_at: Timestamp::UNIX_EPOCH,
    };
    PodObserved {
        sandboxes: vec![sandbox],
        containers: vec![record],
        applied: of(has).into_iter().map(|(name, resources)| (format!("{name}-0"), resources)).collect(),
        volumes_ready: true,
        ..PodObserved::default()
    }
}

#[test]
fn containers_are_updated_or_restarted() {
    let has = pod("p", "1", "1Gi");
    let mut busy = observed(&has);
    busy.doing.resizing = true;
    let mut failed = observed(&has);
    let later = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(5);
    failed.resize_failure = Some(Failure { reason: "Error", message: "no".into(), retry_at: later, count: 1 });
    for (name, wanted, observed, expect) in [
        ("nothing", has.clone(), observed(&has), ""),
        ("cpu", pod("p", "2", "1Gi"), observed(&has), "resize a\n"),
        ("cpu, under way", pod("p", "2", "1Gi"), busy, ""),
        ("cpu, failed before", pod("p", "2", "1Gi"), failed, "wake at 1970-01-01T00:00:05Z\n"),
        (
            "memory, which needs a restart",
            pod("p", "1", "2Gi"),
            observed(&has),
            "kill container a (a-0) within 30s: resize requires restart\n",
        ),
    ] {
        assert_eq!(plan_pod(&wanted, &observed, Timestamp::UNIX_EPOCH).to_string(), expect, "{name}");
    }
}

#[test]
fn the_status_tells_of_a_resize_until_it_is_done() {
    let wanted = pod("p", "2", "1Gi");
    let status = |observed: &PodObserved, last: Option<&PodStatus>| {
        let now = Timestamp::UNIX_EPOCH;
        let plan = plan_pod(&wanted, observed, now);
        generate(&wanted, observed, &plan, &Context { host_ips: &[], runtime: "containerd", last, now })
    };
    let under_way = observed(&pod("p", "1", "1Gi"));
    let first = status(&under_way, None);
    let container = &first.container_statuses.as_ref().expect("statuses")[0];
    let cpu = |list: &Option<std::collections::BTreeMap<String, _>>| -> String {
        let quantity: &client::apimachinery::pkg::api::resource::Quantity = &list.as_ref().expect("list")["cpu"];
        quantity.0.clone()
    };
    assert_eq!(cpu(&container.allocated_resources), "2");
    assert_eq!(cpu(&container.resources.as_ref().expect("resources").requests), "1");
    let has = |status: &PodStatus| status.conditions.iter().flatten().any(|c| c.type_ == "PodResizeInProgress");
    assert!(has(&first));

    let second = status(&observed(&wanted), Some(&first));
    assert!(!has(&second));
    let patch = patch::strategic("p", Some(&first), &second).expect("a patch");
    let patch: Value = serde_json::from_slice(&patch).expect("json");
    let deleted = json!({"$patch": "delete", "type": "PodResizeInProgress"});
    assert!(patch["status"]["conditions"].as_array().is_some_and(|list| list.contains(&deleted)), "{patch}");
}
