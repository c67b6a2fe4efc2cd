//! Defaults that depend on other fields. Plain ones stand in the model (`default=`, `implied=`); those here follow
//! upstream's `SetDefaults_*` functions (`pkg/apis/*/v1/defaults.go`) and, like them, belong to types, not kinds: a pod
//! template gets them wherever it stands.

use crate::{
    convert,
    value::{Map, Value},
};

/// Completes an object of the type named `ty`, whose members are complete already.
pub(super) fn apply(ty: &str, map: &mut Map) {
    match ty {
        "core.v1.Pod" => pod(map),
        "core.v1.PodSpec" => pod_spec(map),
        "core.v1.Container" | "core.v1.EphemeralContainer" => container(map),
        "core.v1.Volume" if map.len() < 2 => {
            map.insert("emptyDir", Value::object());
        }
        "core.v1.ServiceSpec" => service_spec(map),
        "core.v1.ServicePort" => service_port(map),
        "core.v1.ReplicationControllerSpec" => replication_controller_spec(map),
        "core.v1.LimitRangeItem" => limit_range_item(map),
        "autoscaling.v2.HorizontalPodAutoscaler" => convert::drop_notes(map),
        "autoscaling.v2.HorizontalPodAutoscalerSpec" => autoscaler_spec(map),
        "autoscaling.v2.HorizontalPodAutoscalerBehavior" => autoscaler_behavior(map),
        "resource.v1beta1.DeviceRequest" if text(map, "deviceClassName").is_empty() => {}
        "resource.v1.ExactDeviceRequest"
        | "resource.v1.DeviceSubRequest"
        | "resource.v1beta2.ExactDeviceRequest"
        | "resource.v1beta2.DeviceSubRequest"
        | "resource.v1beta1.DeviceRequest"
        | "resource.v1beta1.DeviceSubRequest" => device_request(map),
        "apps.v1.DeploymentStrategy" => deployment_strategy(map),
        "apps.v1.StatefulSetUpdateStrategy" => stateful_set_strategy(map),
        "apps.v1.DaemonSetUpdateStrategy" => daemon_set_strategy(map),
        "batch.v1.JobSpec" => job_spec(map),
        "networking.v1.NetworkPolicySpec" => network_policy_spec(map),
        "rbac.v1.Subject" => subject(map),
        "apiextensions.v1.CustomResourceDefinitionNames" => definition_names(map),
        _ => {}
    }
}

fn text<'a>(map: &'a Map, name: &str) -> &'a str {
    map.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn default(map: &mut Map, name: &str, value: impl Into<Value>) {
    if !map.contains_key(name) {
        map.insert(name, value);
    }
}

/// Requests default to limits; only for pods themselves, not for templates (SetDefaults_Pod).
fn pod(map: &mut Map) {
    let Some(spec) = map.get_mut("spec").and_then(Value::as_object_mut) else { return };
    default(spec, "enableServiceLinks", true);
    for list in ["containers", "initContainers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for resources in containers.iter_mut().filter_map(|container| container.get_mut("resources")) {
            let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { continue };
            let Some(requests) = resources.make_object(&["requests"]) else { continue };
            for (name, limit) in limits {
                default(requests, &name, limit);
            }
            if requests.is_empty() {
                resources.take(&["requests"]);
            }
        }
    }
}

/// On the host's network a container's port is the host's port.
fn pod_spec(map: &mut Map) {
    if map.get("hostNetwork").and_then(Value::as_bool) != Some(true) {
        return;
    }
    for list in ["containers", "initContainers"] {
        let Some(containers) = map.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for ports in containers.iter_mut().filter_map(|container| container.get_mut("ports")?.as_array_mut()) {
            for port in ports.iter_mut().filter_map(Value::as_object_mut) {
                if let Some(number) = port.get("containerPort").cloned() {
                    default(port, "hostPort", number);
                }
            }
        }
    }
}

/// An image without a tag, or with `latest`, is always pulled.
fn container(map: &mut Map) {
    let image = text(map, "image");
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let tag = name.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    let policy = match (tag, digest) {
        (None, None) | (Some("latest"), _) => "Always",
        _ => "IfNotPresent",
    };
    default(map, "imagePullPolicy", policy);
}

fn service_spec(map: &mut Map) {
    let kind = text(map, "type").to_owned();
    if kind != "ExternalName" {
        default(map, "internalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        default(map, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(map, "allocateLoadBalancerNodePorts", true);
    }
    if text(map, "sessionAffinity") == "ClientIP" {
        let config = map.entry_or_insert_with("sessionAffinityConfig", Value::object);
        if config.at(&["clientIP", "timeoutSeconds"]).is_none() {
            config.set(&["clientIP", "timeoutSeconds"], 10_800);
        }
    }
}

fn service_port(map: &mut Map) {
    let target = map.get("targetPort");
    if (target.is_none() || target == Some(&Value::Int(0)) || target.and_then(Value::as_str) == Some(""))
        && let Some(port) = map.get("port").cloned()
    {
        map.insert("targetPort", port);
    }
}

fn replication_controller_spec(map: &mut Map) {
    let labels = map.get("template").and_then(|template| template.at(&["metadata", "labels"])).cloned();
    if let Some(labels) = labels {
        default(map, "selector", labels);
    }
}

fn limit_range_item(map: &mut Map) {
    if text(map, "type") != "Container" {
        return;
    }
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
        let Some(source) = map.get(from).and_then(Value::as_object).cloned() else { continue };
        let target = map.entry_or_insert_with(to, Value::object);
        if let Value::Object(target) = target {
            for (name, value) in source {
                default(target, &name, value);
            }
        }
    }
}

fn deployment_strategy(map: &mut Map) {
    default(map, "type", "RollingUpdate");
    if text(map, "type") == "RollingUpdate" {
        let rolling = map.entry_or_insert_with("rollingUpdate", Value::object);
        if let Value::Object(rolling) = rolling {
            default(rolling, "maxUnavailable", "25%");
            default(rolling, "maxSurge", "25%");
        }
    }
}

fn stateful_set_strategy(map: &mut Map) {
    default(map, "type", "RollingUpdate");
    if text(map, "type") == "RollingUpdate"
        && let Value::Object(rolling) = map.entry_or_insert_with("rollingUpdate", Value::object)
    {
        default(rolling, "partition", 0);
    }
}

fn daemon_set_strategy(map: &mut Map) {
    default(map, "type", "RollingUpdate");
    if text(map, "type") == "RollingUpdate"
        && let Value::Object(rolling) = map.entry_or_insert_with("rollingUpdate", Value::object)
    {
        default(rolling, "maxUnavailable", 1);
        default(rolling, "maxSurge", 0);
    }
}

/// Neither completions nor parallelism: one of each; a Job with neither but a success policy stays as it is.
fn job_spec(map: &mut Map) {
    if !map.contains_key("completions") && !map.contains_key("parallelism") {
        map.insert("completions", 1);
        map.insert("parallelism", 1);
    }
    default(map, "parallelism", 1);
    if !map.contains_key("backoffLimit") {
        let limit = if map.contains_key("backoffLimitPerIndex") { i32::MAX } else { 6 };
        map.insert("backoffLimit", limit);
    }
    let replacement = if map.contains_key("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    default(map, "podReplacementPolicy", replacement);
}

fn network_policy_spec(map: &mut Map) {
    if map.contains_key("policyTypes") {
        return;
    }
    let mut types: Vec<Value> = vec!["Ingress".into()];
    if map.contains_key("egress") {
        types.push("Egress".into());
    }
    map.insert("policyTypes", types);
}

fn subject(map: &mut Map) {
    if matches!(text(map, "kind"), "User" | "Group") {
        default(map, "apiGroup", "rbac.authorization.k8s.io");
    }
}

fn definition_names(map: &mut Map) {
    let kind = text(map, "kind").to_owned();
    if kind.is_empty() {
        return;
    }
    default(map, "singular", kind.to_lowercase());
    default(map, "listKind", format!("{kind}List"));
}

/// The CPU at four fifths, where no metric is asked for.
fn autoscaler_spec(map: &mut Map) {
    if map.get("metrics").and_then(Value::as_array).is_some_and(|metrics| !metrics.is_empty()) {
        return;
    }
    map.insert("metrics", vec![convert::cpu_by_default()]);
}

/// Where either direction is ruled, both are.
fn autoscaler_behavior(map: &mut Map) {
    let policy = |kind: &str, value: i64| -> Value {
        [("type", Value::from(kind)), ("value", value.into()), ("periodSeconds", 15.into())]
            .into_iter()
            .collect::<Map>()
            .into()
    };
    let rules = [
        ("scaleUp", Some(0), vec![policy("Pods", 4), policy("Percent", 100)]),
        ("scaleDown", None, vec![policy("Percent", 100)]),
    ];
    for (direction, window, policies) in rules {
        let Value::Object(rules) = map.entry_or_insert_with(direction, Value::object) else { continue };
        if let Some(seconds) = window {
            default(rules, "stabilizationWindowSeconds", seconds);
        }
        default(rules, "selectPolicy", "Max");
        default(rules, "policies", policies);
    }
}

/// One device of a class.
fn device_request(map: &mut Map) {
    if text(map, "allocationMode").is_empty() {
        map.insert("allocationMode", "ExactCount");
    }
    if text(map, "allocationMode") == "ExactCount" && map.get("count").and_then(Value::as_i64).unwrap_or(0) == 0 {
        map.insert("count", 1);
    }
}
