//! `pods/resize`: containers' CPU and memory, while they run (upstream `pkg/registry/core/pod/strategy.go:
//! podResizeStrategy` and `pkg/apis/core/validation: ValidatePodResize`). Pure.

use api::{Status, Value, status::FieldError};

use crate::strategy::{containers, pod_errors, qos_class};

/// The lists whose containers can be resized.
const LISTS: [&str; 2] = ["containers", "initContainers"];
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// `before` with the resources and resize policies of `wanted`; its other changes are dropped, as upstream drops them.
pub(super) fn resized(before: &Value, wanted: &Value, name: &str) -> Result<Value, Status> {
    let mut errors = Vec::new();
    let mut object = before.clone();
    for list in LISTS {
        check_order(containers(before, list), containers(wanted, list), list, &mut errors);
    }
    if errors.is_empty() {
        for list in LISTS {
            let Some(present) = object.at_mut(&["spec", list]).and_then(Value::as_array_mut) else { continue };
            for (index, (container, wanted)) in present.iter_mut().zip(containers(wanted, list)).enumerate() {
                check_resources(container, wanted, &format!("spec.{list}[{index}].resources"), &mut errors);
                for part in ["resources", "resizePolicy"] {
                    match wanted.get(part) {
                        Some(value) => container.set(&[part], value.clone()),
                        None => container.take(&[part]).is_some(),
                    };
                }
            }
        }
        check_whole(before, &object, &mut errors);
    }
    if errors.is_empty() { Ok(object) } else { Err(Status::invalid("", "Pod", name, errors)) }
}

fn check_order(before: &[Value], wanted: &[Value], list: &str, errors: &mut Vec<FieldError>) {
    if before.len() != wanted.len() {
        let detail = format!("{list} may not be added or removed on resize");
        errors.push(FieldError::forbidden(format!("spec.{list}"), detail));
        return;
    }
    for (index, (old, new)) in before.iter().zip(wanted).enumerate() {
        if old.str_at(&["name"]) != new.str_at(&["name"]) {
            let detail = format!("{list} may not be renamed or reordered on resize");
            errors.push(FieldError::forbidden(format!("spec.{list}[{index}].name"), detail));
        }
    }
}

fn check_resources(before: &Value, wanted: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for (kind, what) in [("requests", "resource requests"), ("limits", "resource limits")] {
        let amounts = |container: &Value| container.at(&["resources", kind]).and_then(Value::as_object).cloned();
        let (old, new) = (amounts(before).unwrap_or_default(), amounts(wanted).unwrap_or_default());
        if old.keys().any(|name| !new.contains_key(name)) {
            errors.push(FieldError::forbidden(format!("{field}.{kind}"), format!("{what} cannot be removed")));
        }
        let is_other = |name: &str| !RESIZABLE.contains(&name) && old.get(name) != new.get(name);
        if new.keys().any(is_other) {
            errors.push(FieldError::forbidden("spec", "only cpu and memory resources are mutable"));
        }
    }
    if before.at(&["resources", "claims"]) != wanted.at(&["resources", "claims"]) {
        errors.push(FieldError::forbidden("spec", "only cpu and memory resources are mutable"));
    }
}

fn check_whole(before: &Value, object: &Value, errors: &mut Vec<FieldError>) {
    if before.at(&["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some() {
        errors.push(FieldError::forbidden("", "static pods cannot be resized"));
    }
    if before.at(&["spec", "os", "name"]).and_then(Value::as_str) == Some("windows") {
        errors.push(FieldError::forbidden("", "windows pods cannot be resized"));
    }
    if qos_class(before) != qos_class(object) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid("spec", before.str_at(&["status", "qosClass"]), detail));
    }
    let claims = before.at(&["status", "nodeAllocatableResourceClaimStatuses"]).and_then(Value::as_array);
    if claims.is_some_and(|claims| !claims.is_empty()) {
        errors.push(FieldError::forbidden("spec", "pods with node allocatable resource claims cannot be resized"));
    }
    let pairs = containers(before, "initContainers").iter().zip(containers(object, "initContainers"));
    for (index, (old, new)) in pairs.enumerate().filter(|(_, (old, new))| old != new) {
        let policies = new.get("resizePolicy").and_then(Value::as_array).unwrap_or_default();
        let restarts = policies.iter().any(|policy| policy.str_at(&["restartPolicy"]) == "RestartContainer");
        if restarts && old.str_at(&["restartPolicy"]) != "Always" {
            let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.push(FieldError::forbidden(format!("spec.initContainers[{index}]"), detail));
        }
    }
    errors.extend(pod_errors(object));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: &str) -> Value {
        api::json::parse(format!(r#"{{"metadata":{{"name":"p"}},"spec":{{{spec}}}}}"#).as_bytes()).expect("JSON")
    }

    const BEFORE: &str = r#""nodeName":"n","restartPolicy":"Always","dnsPolicy":"ClusterFirst",
        "terminationGracePeriodSeconds":30,"containers":[{"name":"c",
        "image":"i","imagePullPolicy":"Always","terminationMessagePolicy":"File",
        "resources":{"requests":{"cpu":"1","memory":"1Gi"}}}]"#;

    #[test]
    fn resources_change_and_nothing_else() {
        let before = pod(BEFORE);
        let wanted = BEFORE.replace("\"1\"", "\"2\"").replace("\"n\"", "\"m\"").replace("\"i\"", "\"j\"");
        let after = resized(&before, &pod(&wanted), "p").expect("a resize");
        assert_eq!(after, pod(&BEFORE.replace("\"1\"", "\"2\"")), "node and image stay");
    }

    #[test]
    fn what_upstream_refuses() {
        let cases = [
            (BEFORE.replace("\"c\"", "\"d\""), "may not be renamed"),
            (BEFORE.replace("}}}]", "}}},{\"name\":\"d\",\"image\":\"i\"}]"), "may not be added or removed"),
            (BEFORE.replace(",\"memory\":\"1Gi\"", ""), "resource requests cannot be removed"),
            (
                BEFORE.replace("\"memory\":\"1Gi\"", "\"memory\":\"1Gi\",\"ephemeral-storage\":\"1Gi\""),
                "only cpu and memory",
            ),
            (BEFORE.replace("}}}]", "},\"limits\":{\"cpu\":\"1\",\"memory\":\"1Gi\"}}}]"), "QOS Class may not change"),
        ];
        for (wanted, says) in cases {
            let status = resized(&pod(BEFORE), &pod(&wanted), "p").expect_err(says);
            assert!(status.message.contains(says), "{says}: {}", status.message);
        }
    }
}
