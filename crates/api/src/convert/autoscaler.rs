//! HorizontalPodAutoscalers: v1 has the target for the CPU alone and keeps the rest of v2 in annotations
//! (`pkg/apis/autoscaling/v1/conversion.go`).

use super::{
    Conversion,
    metrics::{seen_as_v1, seen_as_v2, wanted_as_v1, wanted_as_v2},
};
use crate::{
    decode::{self, Defaults},
    json,
    model::Model,
    value::{Map, Value},
};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// All that are the conversion's: a client's own of these names go.
const ANNOTATIONS: [&str; 6] = [
    METRICS,
    CURRENT_METRICS,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];

/// Percent.
const UTILIZATION_DEFAULT: i64 = 80;

pub(super) static V1: Conversion = Conversion::new(to_v2, from_v2);

fn to_v2(autoscaler: &mut Map) {
    let mut whole = Value::Object(std::mem::take(autoscaler));
    let notes = Notes::take(&mut whole);
    let mut metrics = notes.list(METRICS, "autoscaling.v2.MetricSpec", wanted_as_v2).unwrap_or_default();
    if let Some(percent) = whole.take(&["spec", "targetCPUUtilizationPercentage"]) {
        metrics.push(cpu_wanted(percent));
    }
    if metrics.is_empty() {
        metrics.push(cpu_by_default());
    }
    whole.set(&["spec", "metrics"], metrics);
    if let Some(behavior) = notes.behavior() {
        whole.set(&["spec", "behavior"], behavior);
    }
    let percent = whole.take(&["status", "currentCPUUtilizationPercentage"]);
    match (notes.list(CURRENT_METRICS, "autoscaling.v2.MetricStatus", seen_as_v2), percent) {
        (Some(metrics), _) => whole.set(&["status", "currentMetrics"], metrics),
        (None, Some(percent)) => whole.set(&["status", "currentMetrics"], vec![cpu_seen(percent)]),
        (None, None) => false,
    };
    let conditions = notes.list(CONDITIONS, "autoscaling.v2.HorizontalPodAutoscalerCondition", Value::clone);
    if let Some(conditions) = conditions {
        whole.set(&["status", "conditions"], conditions);
    }
    if let Value::Object(map) = whole {
        *autoscaler = map;
    }
}

fn from_v2(autoscaler: &mut Map) {
    let mut whole = Value::Object(std::mem::take(autoscaler));
    Notes::take(&mut whole);
    let mut notes: Vec<(&str, Value)> = Vec::new();
    let metrics = taken(&mut whole, &["spec", "metrics"]);
    if let Some(percent) = metrics.iter().find_map(utilization) {
        whole.set(&["spec", "targetCPUUtilizationPercentage"], percent.clone());
    }
    let others: Vec<Value> = metrics.iter().filter(|metric| utilization(metric).is_none()).map(wanted_as_v1).collect();
    notes.push((METRICS, others.into()));
    let seen = taken(&mut whole, &["status", "currentMetrics"]);
    let percent = seen.iter().rev().filter(|metric| is_cpu(metric));
    if let Some(percent) = percent.filter_map(|metric| metric.at(&["resource", "current", "averageUtilization"])).next()
    {
        whole.set(&["status", "currentCPUUtilizationPercentage"], percent.clone());
    }
    notes.push((CURRENT_METRICS, seen.iter().map(seen_as_v1).collect::<Vec<_>>().into()));
    notes.push((CONDITIONS, taken(&mut whole, &["status", "conditions"]).into()));
    let behavior = whole.take(&["spec", "behavior"]);
    for (name, list) in notes.iter().filter(|(_, list)| list.as_array().is_some_and(|list| !list.is_empty())) {
        whole.set(&["metadata", "annotations", name], list.to_string());
    }
    if let Some(behavior) = behavior {
        whole.set(&["metadata", "annotations", BEHAVIOR], behavior_as_go(&behavior).to_string());
    }
    // The first version writes it even when it is zero.
    if let Some(Value::Object(status)) = whole.get_mut("status") {
        status.entry_or_insert_with("currentReplicas", || 0.into());
    }
    if let Value::Object(map) = whole {
        *autoscaler = map;
    }
}

fn taken(object: &mut Value, path: &[&str]) -> Vec<Value> {
    match object.take(path) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn is_cpu(metric: &Value) -> bool {
    metric.str_at(&["type"]) == "Resource" && metric.str_at(&["resource", "name"]) == "cpu"
}

/// What v1 has a field for.
fn utilization(metric: &Value) -> Option<&Value> {
    metric.at(&["resource", "target", "averageUtilization"]).filter(|_| is_cpu(metric))
}

/// The CPU as a metric, without its amount.
fn cpu() -> Value {
    let mut metric = Value::object();
    metric.set(&["type"], "Resource");
    metric.set(&["resource", "name"], "cpu");
    metric
}

fn cpu_wanted(percent: Value) -> Value {
    let mut metric = cpu();
    metric.set(&["resource", "target", "type"], "Utilization");
    metric.set(&["resource", "target", "averageUtilization"], percent);
    metric
}

fn cpu_seen(percent: Value) -> Value {
    let mut metric = cpu();
    metric.set(&["resource", "current", "averageUtilization"], percent);
    metric
}

/// What is aimed at where nothing is asked for.
pub(crate) fn cpu_by_default() -> Value {
    cpu_wanted(UTILIZATION_DEFAULT.into())
}

/// Takes off v2 what it has fields for (`pkg/apis/autoscaling/v2/conversion.go`).
pub(crate) fn drop_notes(autoscaler: &mut Map) {
    if let Some(annotations) = autoscaler.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"))
        && let Some(annotations) = annotations.as_object_mut()
    {
        annotations.retain(|name, _| !ANNOTATIONS.contains(&name));
    }
}

/// The annotations that carry what v1 has no fields for.
struct Notes(Vec<(&'static str, String)>);

impl Notes {
    /// Takes them off an object.
    fn take(object: &mut Value) -> Notes {
        const PATH: [&str; 2] = ["metadata", "annotations"];
        let Some(annotations) = object.at_mut(&PATH).and_then(Value::as_object_mut) else { return Notes(Vec::new()) };
        let before = annotations.len();
        let take = |name: &&'static str| Some((*name, annotations.remove(name)?.as_str()?.to_owned()));
        let notes = ANNOTATIONS.iter().filter_map(take).collect();
        if annotations.is_empty() && before > 0 {
            object.take(&PATH);
        }
        Notes(notes)
    }

    fn get(&self, name: &str) -> Option<Value> {
        let (_, text) = self.0.iter().find(|(known, _)| *known == name)?;
        json::parse(text.as_bytes()).ok()
    }

    /// A list of v2's type `ty` out of one; `None` where there is none, or something else than such a list.
    fn list(&self, name: &str, ty: &str, convert: fn(&Value) -> Value) -> Option<Vec<Value>> {
        let model = Model::builtin();
        let ty = model.find(ty)?;
        let list = self.get(name)?;
        let complete = |item: &Value| {
            item.as_object()?;
            let mut item = convert(item);
            decode::decode(model, ty, &mut item, Defaults::Off).ok()?;
            Some(item)
        };
        list.as_array()?.iter().map(complete).collect()
    }

    fn behavior(&self) -> Option<Value> {
        let model = Model::builtin();
        let mut behavior = behavior_from_go(&self.get(BEHAVIOR)?);
        decode::decode(
            model,
            model.find("autoscaling.v2.HorizontalPodAutoscalerBehavior")?,
            &mut behavior,
            Defaults::Off,
        )
        .ok()?;
        behavior.as_object().filter(|map| !map.is_empty())?;
        Some(behavior)
    }
}

/// Go's names of the members of an internal type, which upstream writes into the annotation as they are.
const GO_RULES: [(&str, &str); 4] = [
    ("StabilizationWindowSeconds", "stabilizationWindowSeconds"),
    ("SelectPolicy", "selectPolicy"),
    ("Policies", "policies"),
    ("Tolerance", "tolerance"),
];
const GO_POLICY: [(&str, &str); 3] = [("Type", "type"), ("Value", "value"), ("PeriodSeconds", "periodSeconds")];
const GO_DIRECTIONS: [(&str, &str); 2] = [("ScaleUp", "scaleUp"), ("ScaleDown", "scaleDown")];

fn behavior_as_go(behavior: &Value) -> Value {
    let policy = |policy: &Value| -> Value {
        GO_POLICY.iter().map(|(go, own)| (*go, policy.get(own).cloned().unwrap_or_default())).collect::<Map>().into()
    };
    let rules = |rules: &Value| -> Value {
        let member = |own: &str| match rules.get(own) {
            Some(Value::Array(policies)) => policies.iter().map(policy).collect::<Vec<_>>().into(),
            value => value.cloned().unwrap_or_default(),
        };
        GO_RULES.iter().map(|(go, own)| (*go, member(own))).collect::<Map>().into()
    };
    let directions = GO_DIRECTIONS.iter();
    directions.map(|(go, own)| (*go, behavior.get(own).map_or(Value::Null, rules))).collect::<Map>().into()
}

/// Go reads names whatever their case.
fn behavior_from_go(behavior: &Value) -> Value {
    match behavior {
        Value::Object(map) => {
            let names = || GO_RULES.iter().chain(&GO_POLICY).chain(&GO_DIRECTIONS);
            let own = |name: &str| names().find(|(go, _)| go.eq_ignore_ascii_case(name)).map(|(_, own)| *own);
            let member = |(name, value): (&str, &Value)| Some((own(name)?, behavior_from_go(value)));
            map.iter().filter(|(_, value)| !value.is_null()).filter_map(member).collect::<Map>().into()
        }
        Value::Array(items) => items.iter().map(behavior_from_go).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}
