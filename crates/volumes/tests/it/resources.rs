//! Pod totals and QoS classes.

use serde_json::{Value, json};
use volumes::resources::{QosClass, compute_qos_class, pod_limits, pod_requests};

use crate::support::pod;

fn container(requests: Value, limits: Value) -> Value {
    json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
}

fn sidecar(requests: Value) -> Value {
    json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": requests}})
}

#[test]
fn totals() {
    let cpu = |milli: u32| json!({"cpu": format!("{milli}m")});
    for (name, spec, requests, limits) in [
        (
            "containers add up",
            json!({"containers": [container(cpu(100), cpu(200)), container(cpu(50), json!({}))]}),
            150,
            200,
        ),
        (
            "the largest init container counts",
            json!({"containers": [container(cpu(100), json!({}))],
                "initContainers": [container(cpu(300), json!({})), container(cpu(200), json!({}))]}),
            300,
            0,
        ),
        (
            "sidecars run beside everything after them",
            json!({"containers": [container(cpu(100), json!({}))],
                "initContainers": [sidecar(cpu(50)), container(cpu(200), json!({}))]}),
            250,
            0,
        ),
        (
            "overhead is added to limits only where there are any",
            json!({"containers": [container(cpu(100), json!({}))], "overhead": cpu(10)}),
            110,
            0,
        ),
        (
            "the pod's own resources stand for its containers'",
            json!({"containers": [container(cpu(100), json!({}))], "resources": {"requests": cpu(500), "limits": cpu(900)}}),
            500,
            900,
        ),
    ] {
        let pod = pod(json!([]), spec);
        let milli = |amounts: volumes::resources::Amounts| amounts.get("cpu").map_or(0, |cpu| cpu.milli_value());
        assert_eq!((milli(pod_requests(&pod)), milli(pod_limits(&pod))), (requests, limits), "{name}");
    }
}

#[test]
fn classes() {
    let both = json!({"cpu": "1", "memory": "1Gi"});
    for (name, spec, class) in [
        ("nothing", json!({"containers": [{"name": "c"}]}), QosClass::BestEffort),
        ("zero is nothing", json!({"containers": [container(json!({"cpu": "0"}), json!({}))]}), QosClass::BestEffort),
        (
            "other resources do not count",
            json!({"containers": [container(json!({"ephemeral-storage": "1Gi"}), json!({}))]}),
            QosClass::BestEffort,
        ),
        ("all equal", json!({"containers": [container(both.clone(), both.clone())]}), QosClass::Guaranteed),
        (
            "equal in other words",
            json!({"containers": [container(json!({"cpu": "1000m", "memory": "1024Mi"}), both.clone())]}),
            QosClass::Guaranteed,
        ),
        (
            "one container without",
            json!({"containers": [container(both.clone(), both.clone()), {"name": "d"}]}),
            QosClass::Burstable,
        ),
        (
            "an init container without",
            json!({"containers": [container(both.clone(), both.clone())],
            "initContainers": [{"name": "i"}]}),
            QosClass::Burstable,
        ),
        (
            "cpu alone",
            json!({"containers": [container(json!({"cpu": "1"}), json!({"cpu": "1"}))]}),
            QosClass::Burstable,
        ),
        (
            "pod level",
            json!({"containers": [{"name": "c"}], "resources": {"requests": both.clone(), "limits": both}}),
            QosClass::Guaranteed,
        ),
    ] {
        assert_eq!(compute_qos_class(&pod(json!([]), spec)), class, "{name}");
    }
}
