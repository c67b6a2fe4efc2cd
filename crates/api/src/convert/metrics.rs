//! The metrics of autoscalers, as autoscaling/v1 writes them into annotations and as v2 has them: the same values at other
//! places.

use crate::value::{Map, Value};

/// The members of one source of metrics, in the order in which Go writes v1's.
type Members = &'static [Member];

/// A member of v1 and where v2 has it.
struct Member {
    v1: &'static str,
    v2: &'static [&'static str],
    /// v1 cannot leave it out: a quantity of zero where v2 has none.
    is_always_there: bool,
}

const fn member(v1: &'static str, v2: &'static [&'static str]) -> Member {
    Member { v1, v2, is_always_there: false }
}

const fn always(v1: &'static str, v2: &'static [&'static str]) -> Member {
    Member { v1, v2, is_always_there: true }
}

/// What is wanted of a source (`MetricSpec`).
const WANTED: [(&str, Members); 5] = [
    (
        "object",
        &[
            member("target", &["describedObject"]),
            member("metricName", &["metric", "name"]),
            always("targetValue", &["target", "value"]),
            member("selector", &["metric", "selector"]),
            member("averageValue", &["target", "averageValue"]),
        ],
    ),
    (
        "pods",
        &[
            member("metricName", &["metric", "name"]),
            always("targetAverageValue", &["target", "averageValue"]),
            member("selector", &["metric", "selector"]),
        ],
    ),
    (
        "resource",
        &[
            member("name", &["name"]),
            member("targetAverageUtilization", &["target", "averageUtilization"]),
            member("targetAverageValue", &["target", "averageValue"]),
        ],
    ),
    (
        "containerResource",
        &[
            member("name", &["name"]),
            member("targetAverageUtilization", &["target", "averageUtilization"]),
            member("targetAverageValue", &["target", "averageValue"]),
            member("container", &["container"]),
        ],
    ),
    (
        "external",
        &[
            member("metricName", &["metric", "name"]),
            member("metricSelector", &["metric", "selector"]),
            member("targetValue", &["target", "value"]),
            member("targetAverageValue", &["target", "averageValue"]),
        ],
    ),
];

/// What was seen of it (`MetricStatus`).
const SEEN: [(&str, Members); 5] = [
    (
        "object",
        &[
            member("target", &["describedObject"]),
            member("metricName", &["metric", "name"]),
            always("currentValue", &["current", "value"]),
            member("selector", &["metric", "selector"]),
            member("averageValue", &["current", "averageValue"]),
        ],
    ),
    (
        "pods",
        &[
            member("metricName", &["metric", "name"]),
            always("currentAverageValue", &["current", "averageValue"]),
            member("selector", &["metric", "selector"]),
        ],
    ),
    (
        "resource",
        &[
            member("name", &["name"]),
            member("currentAverageUtilization", &["current", "averageUtilization"]),
            always("currentAverageValue", &["current", "averageValue"]),
        ],
    ),
    (
        "containerResource",
        &[
            member("name", &["name"]),
            member("currentAverageUtilization", &["current", "averageUtilization"]),
            always("currentAverageValue", &["current", "averageValue"]),
            member("container", &["container"]),
        ],
    ),
    (
        "external",
        &[
            member("metricName", &["metric", "name"]),
            member("metricSelector", &["metric", "selector"]),
            always("currentValue", &["current", "value"]),
            member("currentAverageValue", &["current", "averageValue"]),
        ],
    ),
];

/// v2's `MetricSpec` as v1 writes it.
pub(super) fn wanted_as_v1(metric: &Value) -> Value {
    as_v1(metric, &WANTED)
}

/// v2's `MetricStatus` as v1 writes it.
pub(super) fn seen_as_v1(metric: &Value) -> Value {
    as_v1(metric, &SEEN)
}

/// v1's `MetricSpec` as v2 has it.
pub(super) fn wanted_as_v2(metric: &Value) -> Value {
    let mut out = as_v2(metric, &WANTED);
    for (source, _) in &WANTED {
        let Some(target) = out.at_mut(&[source, "target"]).and_then(Value::as_object_mut) else { continue };
        let has = |name: &str| target.contains_key(name);
        let kind = match *source {
            "object" if has("averageValue") => {
                // v1 wrote a zero for nothing.
                target.retain(|name, value| name != "value" || value.as_str() != Some("0"));
                "AverageValue"
            }
            "resource" | "containerResource" if has("averageUtilization") => "Utilization",
            "object" => "Value",
            "external" if has("value") => "Value",
            _ => "AverageValue",
        };
        target.insert("type", kind);
    }
    out
}

/// v1's `MetricStatus` as v2 has it.
pub(super) fn seen_as_v2(metric: &Value) -> Value {
    as_v2(metric, &SEEN)
}

fn as_v1(metric: &Value, sources: &[(&str, Members)]) -> Value {
    let mut out = Map::new();
    out.insert("type", metric.str_at(&["type"]));
    for (source, members) in sources {
        let Some(from) = metric.get(source) else { continue };
        let value = |member: &Member| match from.at(member.v2) {
            None if member.is_always_there => Some("0".into()),
            value => value.cloned(),
        };
        let members = members.iter().filter_map(|member| Some((member.v1, value(member)?)));
        out.insert(*source, members.collect::<Map>());
    }
    out.into()
}

fn as_v2(metric: &Value, sources: &[(&str, Members)]) -> Value {
    let mut out = Value::object();
    out.set(&["type"], metric.str_at(&["type"]));
    for (source, members) in sources {
        let Some(from) = metric.get(source).filter(|from| !from.is_null()) else { continue };
        if from.as_object().is_none() {
            // Who decodes it finds that it makes no sense.
            out.set(&[source], from.clone());
            continue;
        }
        let mut to = Value::object();
        for member in *members {
            match from.get(member.v1).filter(|value| !value.is_null()) {
                Some(value) => to.set(member.v2, value.clone()),
                None if member.is_always_there => to.set(member.v2, "0"),
                // The object that it would stand in is there all the same.
                None => to.make_object(&member.v2[..member.v2.len() - 1]).is_some(),
            };
        }
        out.set(&[source], to);
    }
    out
}
