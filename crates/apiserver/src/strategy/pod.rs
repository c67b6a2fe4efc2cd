//! Pods (`pkg/registry/core/pod/strategy.go`), and the checks of a pod's spec that workloads share.

use api::{Value, names, quantity::Quantity, status::FieldError};

use super::Strategy;

pub struct Pods;

impl Strategy for Pods {
    fn fields(&self) -> &'static [&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    }

    fn prepare_create(&self, object: &mut Value) {
        let class = qos_class(object);
        object.set(&["status", "phase"], "Pending");
        object.set(&["status", "qosClass"], class);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate_spec(object.get("spec"), "spec")
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        if object.get("spec") == old.get("spec") {
            return Vec::new();
        }
        let mut mutable = object.get("spec").cloned().unwrap_or_default();
        let before = old.get("spec").cloned().unwrap_or_default();
        allow_mutable(&mut mutable, &before);
        if mutable == before {
            return Vec::new();
        }
        let changed: Vec<&str> = changed_members(&mutable, &before);
        let detail = format!(
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
             `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\nchanged: {}",
            changed.join(", ")
        );
        vec![FieldError::forbidden("spec", detail)]
    }

    /// The pod's own grace period, unless the client names another; none for a pod that no kubelet runs.
    fn grace_period_seconds(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        let own = object.at(&["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(30);
        let wanted = asked.unwrap_or(own.max(1));
        let unscheduled = object.str_at(&["spec", "nodeName"]).is_empty();
        let ended = matches!(object.str_at(&["status", "phase"]), "Succeeded" | "Failed");
        Some(if unscheduled || ended { 0 } else { wanted })
    }
}

fn changed_members<'a>(new: &'a Value, old: &'a Value) -> Vec<&'a str> {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return vec!["spec"] };
    let gone = old.keys().filter(|name| !new.contains_key(name));
    new.iter().filter(|(name, value)| old.get(name) != Some(value)).map(|(name, _)| name).chain(gone).collect()
}

/// Puts the old values of the fields that may change back into `spec`, so that what still differs may not.
fn allow_mutable(spec: &mut Value, old: &Value) {
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let before = old.get(list).and_then(Value::as_array).unwrap_or_default();
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let same = before.iter().find(|other| other.str_at(&["name"]) == container.str_at(&["name"]));
            if let Some(image) = same.and_then(|same| same.get("image")) {
                container.set(&["image"], image.clone());
            }
        }
    }
    restore(spec, old, "activeDeadlineSeconds", |new, old| new.is_some_and(|new| old.is_none_or(|old| new <= old)));
    restore(spec, old, "terminationGracePeriodSeconds", |new, old| old.is_some_and(|old| old < 0) && new == Some(1));
    // Tolerations may be added, or last for another time, and scheduling gates be lifted.
    let contains = |all: Option<&Value>, some: Option<&Value>, same: fn(&Value, &Value) -> bool| {
        let all = all.and_then(Value::as_array).unwrap_or_default();
        let mut some = some.and_then(Value::as_array).unwrap_or_default().iter();
        some.all(|item| all.iter().any(|other| same(item, other)))
    };
    if contains(spec.get("tolerations"), old.get("tolerations"), same_toleration) {
        put_back(spec, old, "tolerations");
    }
    if contains(old.get("schedulingGates"), spec.get("schedulingGates"), |gate, other| gate == other) {
        put_back(spec, old, "schedulingGates");
    }
}

/// But for how long they last (`validateOnlyAddedTolerations`).
fn same_toleration(one: &Value, other: &Value) -> bool {
    ["key", "operator", "value", "effect"].iter().all(|name| one.str_at(&[name]) == other.str_at(&[name]))
}

fn restore(spec: &mut Value, old: &Value, name: &str, may: impl Fn(Option<i64>, Option<i64>) -> bool) {
    let number = |value: &Value| value.get(name).and_then(Value::as_i64);
    if may(number(spec), number(old)) {
        put_back(spec, old, name);
    }
}

fn put_back(spec: &mut Value, old: &Value, name: &str) {
    match old.get(name) {
        Some(value) => spec.set(&[name], value.clone()),
        None => spec.take(&[name]).is_some(),
    };
}

/// `pkg/apis/core/v1/helper/qos`: guaranteed where every container's limits equal its requests for CPU and memory.
pub(crate) fn qos_class(pod: &Value) -> &'static str {
    let lists = ["containers", "initContainers"].into_iter().filter_map(|list| pod.at(&["spec", list])?.as_array());
    let containers: Vec<&Value> = lists.flatten().collect();
    let quantity = |container: &Value, kind: &str, name: &str| {
        let text = container.at(&["resources", kind, name])?.as_str()?;
        Quantity::parse(text).ok().filter(|quantity| !quantity.is_zero())
    };
    let (mut any, mut guaranteed) = (false, true);
    for container in containers {
        for name in ["cpu", "memory"] {
            let (request, limit) = (quantity(container, "requests", name), quantity(container, "limits", name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// What is wrong with a pod's spec, wherever it stands.
pub(crate) fn validate_spec(spec: Option<&Value>, field: &str) -> Vec<FieldError> {
    let Some(spec) = spec else { return vec![FieldError::required(format!("{field}.containers"), "")] };
    let mut errors = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    let containers = spec.get("containers").and_then(Value::as_array).unwrap_or_default();
    if containers.is_empty() {
        errors.push(FieldError::required(format!("{field}.containers"), ""));
    }
    let volumes = validate_volumes(spec, field, &mut errors);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (index, container) in spec.get(list).and_then(Value::as_array).unwrap_or_default().iter().enumerate() {
            let field = format!("{field}.{list}[{index}]");
            let name = container.str_at(&["name"]);
            if seen.contains(&name) && !name.is_empty() {
                errors.push(FieldError::duplicate(format!("{field}.name"), name));
            }
            seen.push(name);
            validate_container(container, &field, &volumes, &mut errors);
        }
    }
    for (name, supported) in [
        ("restartPolicy", &["Always", "OnFailure", "Never"][..]),
        ("dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"][..]),
    ] {
        let value = spec.str_at(&[name]);
        if !supported.contains(&value) {
            errors.push(FieldError::not_supported(format!("{field}.{name}"), value, supported));
        }
    }
    if spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds < 0) {
        let value = spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64);
        errors.push(FieldError::invalid(
            format!("{field}.terminationGracePeriodSeconds"),
            value,
            "must be greater than or equal to 0",
        ));
    }
    if spec.get("activeDeadlineSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds < 1) {
        let value = spec.get("activeDeadlineSeconds").and_then(Value::as_i64);
        errors.push(FieldError::invalid(
            format!("{field}.activeDeadlineSeconds"),
            value,
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    for (name, check) in [
        ("nodeName", names::dns1123_subdomain as fn(&str) -> Vec<String>),
        ("hostname", names::dns1123_label),
        ("subdomain", names::dns1123_label),
        ("serviceAccountName", names::dns1123_subdomain),
    ] {
        let value = spec.str_at(&[name]);
        if !value.is_empty() {
            errors.extend(
                check(value).into_iter().map(|problem| FieldError::invalid(format!("{field}.{name}"), value, problem)),
            );
        }
    }
    errors
}

fn validate_volumes<'a>(spec: &'a Value, field: &str, errors: &mut Vec<FieldError>) -> Vec<&'a str> {
    let mut seen: Vec<&str> = Vec::new();
    for (index, volume) in spec.get("volumes").and_then(Value::as_array).unwrap_or_default().iter().enumerate() {
        let field = format!("{field}.volumes[{index}]");
        let name = volume.str_at(&["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(format!("{field}.name"), ""));
        } else {
            errors.extend(
                names::dns1123_label(name)
                    .into_iter()
                    .map(|problem| FieldError::invalid(format!("{field}.name"), name, problem)),
            );
        }
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(format!("{field}.name"), name));
        }
        seen.push(name);
        let sources = volume.as_object().map_or(0, |map| map.len().saturating_sub(1));
        if sources > 1 {
            errors.push(FieldError::forbidden(field, "may not specify more than 1 volume type"));
        }
    }
    seen
}

fn validate_container(container: &Value, field: &str, volumes: &[&str], errors: &mut Vec<FieldError>) {
    let name = container.str_at(&["name"]);
    if name.is_empty() {
        errors.push(FieldError::required(format!("{field}.name"), ""));
    } else {
        errors.extend(
            names::dns1123_label(name)
                .into_iter()
                .map(|problem| FieldError::invalid(format!("{field}.name"), name, problem)),
        );
    }
    let image = container.str_at(&["image"]);
    if image.is_empty() {
        errors.push(FieldError::required(format!("{field}.image"), ""));
    } else if image.trim() != image {
        errors.push(FieldError::invalid(
            format!("{field}.image"),
            image,
            "must not have leading or trailing whitespace",
        ));
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    if !policies.contains(&container.str_at(&["imagePullPolicy"])) {
        errors.push(FieldError::not_supported(
            format!("{field}.imagePullPolicy"),
            container.str_at(&["imagePullPolicy"]),
            &policies,
        ));
    }
    validate_ports(container, field, errors);
    for (index, env) in container.get("env").and_then(Value::as_array).unwrap_or_default().iter().enumerate() {
        let name = env.str_at(&["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(format!("{field}.env[{index}].name"), ""));
        } else {
            errors.extend(
                names::relaxed_env_var_name(name)
                    .into_iter()
                    .map(|problem| FieldError::invalid(format!("{field}.env[{index}].name"), name, problem)),
            );
        }
    }
    for (index, mount) in container.get("volumeMounts").and_then(Value::as_array).unwrap_or_default().iter().enumerate()
    {
        let name = mount.str_at(&["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(format!("{field}.volumeMounts[{index}].name"), ""));
        } else if !volumes.contains(&name) {
            errors.push(FieldError::not_found(format!("{field}.volumeMounts[{index}].name"), name));
        }
        if mount.str_at(&["mountPath"]).is_empty() {
            errors.push(FieldError::required(format!("{field}.volumeMounts[{index}].mountPath"), ""));
        }
    }
    validate_resources(container, field, errors);
}

fn validate_ports(container: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for (index, port) in container.get("ports").and_then(Value::as_array).unwrap_or_default().iter().enumerate() {
        let number = port.get("containerPort").and_then(Value::as_i64).unwrap_or(0);
        errors.extend(
            names::port_number(number)
                .into_iter()
                .map(|problem| FieldError::invalid(format!("{field}.ports[{index}].containerPort"), number, problem)),
        );
        let name = port.str_at(&["name"]);
        if !name.is_empty() {
            errors.extend(
                names::port_name(name)
                    .into_iter()
                    .map(|problem| FieldError::invalid(format!("{field}.ports[{index}].name"), name, problem)),
            );
        }
        let protocols = ["SCTP", "TCP", "UDP"];
        if !protocols.contains(&port.str_at(&["protocol"])) {
            errors.push(FieldError::not_supported(
                format!("{field}.ports[{index}].protocol"),
                port.str_at(&["protocol"]),
                &protocols,
            ));
        }
    }
}

/// A request may not be above its limit.
fn validate_resources(container: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let Some(requests) = container.at(&["resources", "requests"]).and_then(Value::as_object) else { return };
    for (name, request) in requests.iter() {
        let parse = |value: &Value| value.as_str().and_then(|text| Quantity::parse(text).ok());
        let limit = container.at(&["resources", "limits", name]);
        if let (Some(request_quantity), Some(limit_quantity)) = (parse(request), limit.and_then(parse))
            && request_quantity > limit_quantity
        {
            let detail = format!("must be less than or equal to {name} limit of {limit_quantity}");
            errors.push(FieldError::invalid(
                format!("{field}.resources.requests"),
                request.as_str().unwrap_or_default(),
                detail,
            ));
        }
    }
}
