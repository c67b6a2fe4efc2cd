//! HorizontalPodAutoscalers of v2 (`pkg/apis/autoscaling/validation`).

use api::names;

use super::{at::At, resources};

const STABILIZATION_MAX: i64 = 3600;
const PERIOD_MAX: i64 = 1800;

pub(super) fn check(at: &At) {
    let spec = at.get("spec");
    let (least, most) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    // Scaling to zero is behind a gate that is off.
    if least.int().is_some_and(|least| least < 1) {
        least.invalid("must be greater than or equal to 1");
    }
    match most.int().unwrap_or(0) {
        0 => most.required("must be set and greater than 0"),
        number if number < 0 => most.invalid("must be greater than or equal to 1"),
        _ => {}
    }
    if least.int().is_some_and(|least| most.int().unwrap_or(0) < least) {
        most.invalid_value(most.int().unwrap_or(0), "must be greater than or equal to `minReplicas`");
    }
    let target = spec.get("scaleTargetRef");
    reference(&target, target.get("kind").text() == "ReplicationController");
    let metrics = spec.get("metrics");
    metrics.items().for_each(|metric| metric_spec(&metric));
    let counts_from_zero = |metric: &At| matches!(metric.get("type").text(), "Object" | "External");
    if least.int() == Some(0) && !metrics.items().any(|metric| counts_from_zero(&metric)) {
        metrics.forbidden("must specify at least one Object or External metric to support scaling to zero replicas");
    }
    let behavior = spec.get("behavior");
    for name in ["scaleUp", "scaleDown"] {
        scaling_rules(&behavior.get(name));
    }
}

/// Only ReplicationControllers, and what metrics describe, may be of the core group.
fn reference(at: &At, may_be_core: bool) {
    at.get("kind").need_named(names::path_segment_name);
    at.get("name").need_named(names::path_segment_name);
    let version = at.get("apiVersion");
    if version.text().matches('/').count() > 1 {
        version.invalid(format!("unexpected GroupVersion string: {}", version.text()));
    } else if !may_be_core && !version.text().contains('/') {
        version.invalid_value(version.text(), "apiVersion must specify API group");
    }
}

fn scaling_rules(at: &At) {
    if !at.is_set() {
        return;
    }
    let window = at.get("stabilizationWindowSeconds");
    if window.int().is_some_and(|seconds| seconds < 0) {
        window.invalid("must be greater than or equal to zero");
    }
    if window.int().is_some_and(|seconds| seconds > STABILIZATION_MAX) {
        window.invalid(format!("must be less than or equal to {STABILIZATION_MAX}"));
    }
    at.get("selectPolicy").one_of_if_set(&["Disabled", "Max", "Min"]);
    at.get("policies").need_because("must specify at least one Policy");
    for policy in at.get("policies").items() {
        policy.get("type").one_of(&["Percent", "Pods"]);
        policy.get("value").positive();
        let period = policy.get("periodSeconds");
        period.positive();
        if period.int().is_some_and(|seconds| seconds > PERIOD_MAX) {
            period.invalid(format!("must be less than or equal to {PERIOD_MAX}"));
        }
    }
    resources::non_negative_quantity(&at.get("tolerance"));
}

/// Each type of metric, and the member that says which one.
const METRICS: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

fn metric_spec(at: &At) {
    let kind = at.get("type");
    kind.need_because("must specify a metric source type");
    let expected = METRICS.iter().find(|(name, _)| *name == kind.text()).map(|(_, member)| *member);
    match expected {
        // Upstream says it twice.
        None => [(); 2].iter().for_each(|()| kind.not_supported(&TYPES)),
        Some(member) if !at.get(member).is_set() => {
            at.get(member).required("must populate information for the given metric source");
        }
        Some(_) => {}
    }
    let present: Vec<&str> =
        METRICS.iter().map(|(_, member)| *member).filter(|member| at.get(member).is_set()).collect();
    if let Some(first) = present.first() {
        source(&at.get(first), first);
    }
    for member in present.iter().filter(|member| present.len() != 1 && Some(**member) != expected) {
        at.get(member).forbidden("must populate the given metric source only");
    }
}

fn source(at: &At, kind: &str) {
    let target = at.get("target");
    if kind == "object" {
        reference(&at.get("describedObject"), true);
    }
    if matches!(kind, "object" | "external" | "pods") {
        let metric = at.get("metric");
        if metric.get("name").need_because("must specify a metric name") {
            metric.get("name").named(names::path_segment_name);
        }
    } else {
        let name = at.get("name");
        let named = name.need_because("must specify a resource name");
        if kind == "containerResource" {
            if named {
                resources::container_resource_name(&name, name.text());
            }
            if at.get("container").need_because("must specify a container") {
                at.get("container").named(names::dns1123_label);
            }
        }
    }
    metric_target(&target);
    let (value, average, share) = (target.get("value"), target.get("averageValue"), target.get("averageUtilization"));
    match kind {
        "pods" if !average.is_set() => average.required("must specify a positive target averageValue"),
        "object" if !value.is_set() && !average.is_set() => {
            average.required("must set either a target value or averageValue");
        }
        "external" if value.is_set() && average.is_set() => {
            value.forbidden("may not set both a target value for metric and a per-pod target");
        }
        "external" if !value.is_set() && !average.is_set() => {
            average.required("must set either a target value for metric or a per-pod target");
        }
        "resource" | "containerResource" if share.is_set() && average.is_set() => {
            average.forbidden("may not set both a target raw value and a target utilization");
        }
        "resource" | "containerResource" if !share.is_set() && !average.is_set() => {
            share.required("must set either a target raw value or a target utilization");
        }
        _ => {}
    }
}

fn metric_target(at: &At) {
    let kind = at.get("type");
    kind.need_because("must specify a metric target type");
    if !matches!(kind.text(), "Utilization" | "Value" | "AverageValue") {
        kind.invalid_value(kind.text(), "must be either Utilization, Value, or AverageValue");
    }
    for name in ["value", "averageValue"] {
        if at.get(name).quantity().is_some_and(|quantity| !quantity.is_positive()) {
            at.get(name).invalid("must be positive");
        }
    }
    if at.get("averageUtilization").int().is_some_and(|share| share < 1) {
        at.get("averageUtilization").invalid("must be greater than 0");
    }
}

pub(super) fn status(at: &At, _old: &At) {
    let status = at.get("status");
    for name in ["currentReplicas", "desiredReplicas"] {
        status.get(name).non_negative();
    }
}
