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
        "core.v1.Volume" => volume(map),
        "core.v1.Service" => service(map),
        "core.v1.ServiceSpec" => service_spec(map),
        "core.v1.ServicePort" => service_port(map),
        "core.v1.ReplicationController" => replication_controller(map),
        "core.v1.NodeSpec" => node_spec(map),
        "core.v1.PodStatus" => pod_status(map),
        "core.v1.NodeStatus" => node_status(map),
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
        "apps.v1.StatefulSetSpec" => stateful_set_spec(map),
        "batch.v1.Job" => job(map),
        "flowcontrol.v1.FlowSchemaSpec" => instead_of_zero(map, "matchingPrecedence", 1000),
        "flowcontrol.v1.QueuingConfiguration" => {
            instead_of_zero(map, "queues", 64);
            instead_of_zero(map, "handSize", 8);
            instead_of_zero(map, "queueLengthLimit", 50);
        }
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

/// For fields that Go cannot tell unset from zero.
fn instead_of_zero(map: &mut Map, name: &str, value: i64) {
    if map.get(name).and_then(Value::as_i64).unwrap_or(0) == 0 {
        map.insert(name, value);
    }
}

/// Its own labels, where an object has none, are those of its template.
fn take_labels_of_template(map: &mut Map) -> Option<Value> {
    let labels = map.get("spec")?.at(&["template", "metadata", "labels"])?.clone();
    let Some(Value::Object(metadata)) = map.get_mut("metadata") else { return Some(labels) };
    if metadata.get("labels").and_then(Value::as_object).is_none_or(Map::is_empty) {
        metadata.insert("labels", labels.clone());
    }
    Some(labels)
}

/// Requests default to limits, and on the host's network a container's port is the host's port; only for pods themselves, not for templates (SetDefaults_Pod).
fn pod(map: &mut Map) {
    let Some(spec) = map.get_mut("spec").and_then(Value::as_object_mut) else { return };
    default(spec, "enableServiceLinks", true);
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        take_ports_of_host(spec);
    }
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

/// The service account under its old name and its new one, which counts (Convert_v1_PodSpec_To_core_PodSpec).
fn pod_spec(map: &mut Map) {
    for (from, to) in [("serviceAccount", "serviceAccountName"), ("serviceAccountName", "serviceAccount")] {
        if let Some(name) = map.get(from).filter(|name| name.as_str() != Some("")).cloned()
            && (to == "serviceAccount" || text(map, to).is_empty())
        {
            map.insert(to, name);
        }
    }
}

/// Of no source it is an emptyDir; an image is pulled like that of a container.
fn volume(map: &mut Map) {
    if map.iter().all(|(member, _)| member == "name") {
        map.insert("emptyDir", Value::object());
    }
    if let Some(Value::Object(image)) = map.get_mut("image") {
        let policy = pull_policy(text(image, "reference"));
        default(image, "pullPolicy", policy);
    }
}

fn take_ports_of_host(spec: &mut Map) {
    for list in ["containers", "initContainers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for ports in containers.iter_mut().filter_map(|container| container.get_mut("ports")?.as_array_mut()) {
            for port in ports.iter_mut().filter_map(Value::as_object_mut) {
                if let Some(number) = port.get("containerPort").cloned() {
                    default(port, "hostPort", number);
                }
            }
        }
    }
}

fn container(map: &mut Map) {
    let policy = pull_policy(text(map, "image"));
    default(map, "imagePullPolicy", policy);
}

/// An image without a tag, or with `latest`, is always pulled; what is none is not.
fn pull_policy(image: &str) -> &'static str {
    if !is_reference(image) {
        return "IfNotPresent";
    }
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let tag = name.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    match (tag, digest) {
        (None, None) | (Some("latest"), _) => "Always",
        _ => "IfNotPresent",
    }
}

/// Whether a text names an image: components of lowercase letters and digits, apart by `.`, `_`, `__` or dashes, behind what
/// may be a host with a port (distribution's `reference.ParseNormalizedNamed`, as far as names go).
fn is_reference(image: &str) -> bool {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_tag = |tag: &str| {
        tag.bytes().next().is_some_and(is_word)
            && tag.len() <= 128
            && tag.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
    };
    let mut components = path.split('/');
    // A host is told by its dot or port, or by the name that means this machine.
    if let Some((host, _)) = path.split_once('/')
        && (host.contains(['.', ':']) || host == "localhost" || host.bytes().any(|byte| byte.is_ascii_uppercase()))
    {
        components.next();
        let name = host.split_once(':').map_or(host, |(name, _)| name);
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-[]".contains(&byte)) {
            return false;
        }
    }
    let is_component = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.bytes().next().is_some_and(plain)
            && part.bytes().last().is_some_and(plain)
            && part.bytes().all(|byte| plain(byte) || b"._-".contains(&byte))
    };
    path.len() <= 255 && tag.is_none_or(is_tag) && components.all(is_component)
}

/// What answers at an address is a virtual IP where the load balancer does not say otherwise.
fn service(map: &mut Map) {
    if map.get("spec").is_none_or(|spec| spec.str_at(&["type"]) != "LoadBalancer") {
        return;
    }
    let ingress = map.get_mut("status").and_then(|status| status.at_mut(&["loadBalancer", "ingress"])?.as_array_mut());
    for point in ingress.into_iter().flatten().filter_map(Value::as_object_mut) {
        if !text(point, "ip").is_empty() {
            default(point, "ipMode", "VIP");
        }
    }
}

fn service_spec(map: &mut Map) {
    let kind = text(map, "type").to_owned();
    if kind != "ExternalName" {
        default(map, "internalTrafficPolicy", "Cluster");
    }
    let has_external_ips = map.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || kind == "ClusterIP" && has_external_ips {
        default(map, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(map, "allocateLoadBalancerNodePorts", true);
    }
    if text(map, "sessionAffinity") == "None" {
        map.remove("sessionAffinityConfig");
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
    if target.is_none() || target == Some(&Value::Int(0)) || target.and_then(Value::as_str) == Some("") {
        let port = map.get("port").cloned().unwrap_or(Value::Int(0));
        map.insert("targetPort", port);
    }
}

fn replication_controller(map: &mut Map) {
    let labels = take_labels_of_template(map);
    if let (Some(labels), Some(Value::Object(spec))) = (labels, map.get_mut("spec")) {
        default(spec, "selector", labels);
    }
}

/// The address and the list of them say the same; the one, which old kubelets know alone, counts
/// (Convert_v1_PodStatus_To_core_PodStatus).
fn pod_status(map: &mut Map) {
    let first = map.get("podIPs").and_then(|all| all.as_array()?.first()?.get("ip")).cloned();
    match map.get("podIP").filter(|ip| ip.as_str() != Some("")).cloned() {
        Some(ip) if first.as_ref() != Some(&ip) => {
            let mut item = Map::new();
            item.insert("ip", ip);
            map.insert("podIPs", vec![Value::from(item)]);
        }
        Some(_) => {}
        None => {
            if let Some(first) = first {
                map.insert("podIP", first);
            }
        }
    }
}

/// The first of a node's ranges is its range (Convert_v1_NodeSpec_To_core_NodeSpec).
fn node_spec(map: &mut Map) {
    let first = map.get("podCIDRs").and_then(Value::as_array).and_then(<[Value]>::first).cloned();
    match map.get("podCIDR").filter(|range| range.as_str() != Some("")).cloned() {
        Some(range) if first.as_ref() != Some(&range) => {
            map.insert("podCIDRs", vec![range]);
        }
        Some(_) => {}
        None => {
            if let Some(first) = first {
                map.insert("podCIDR", first);
            }
        }
    }
}

fn node_status(map: &mut Map) {
    if let Some(capacity) = map.get("capacity").cloned() {
        default(map, "allocatable", capacity);
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
    if !map.contains_key("type") {
        map.insert("type", "RollingUpdate");
        default(map, "rollingUpdate", Value::object());
    }
    if text(map, "type") == "RollingUpdate"
        && let Some(Value::Object(rolling)) = map.get_mut("rollingUpdate")
    {
        default(rolling, "partition", 0);
    }
}

/// Its claims say what they are (Convert_apps_StatefulSetSpec_To_v1_StatefulSetSpec).
fn stateful_set_spec(map: &mut Map) {
    let templates = map.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut);
    for template in templates.into_iter().flatten().filter_map(Value::as_object_mut) {
        template.insert("apiVersion", "v1");
        template.insert("kind", "PersistentVolumeClaim");
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

/// A Job, not the template of one. Neither completions nor parallelism: one of each.
fn job(map: &mut Map) {
    take_labels_of_template(map);
    let Some(Value::Object(map)) = map.get_mut("spec") else { return };
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
    default(map, "completionMode", "NonIndexed");
    default(map, "suspend", false);
    default(map, "manualSelector", false);
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
