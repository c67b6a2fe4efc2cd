//! A HorizontalPodAutoscaler's targets: for every metric the current value and the one that is aimed at (`formatHPAMetrics`).

use jiff::Timestamp;

use super::cells::{at, first_few, items, text_or};
use crate::value::Value;

/// Metrics that are shown before the others are only counted.
const SHOWN: usize = 2;

pub(super) fn targets(hpa: &Value, _now: Timestamp) -> Value {
    let specs = items(hpa, &["spec", "metrics"]);
    let statuses = items(hpa, &["status", "currentMetrics"]);
    let mut texts: Vec<String> =
        specs.iter().enumerate().map(|(index, spec)| metric(spec, statuses.get(index))).collect();
    // autoscaling/v1 knows one metric only.
    if let Some(target) = at(hpa, "spec.targetCPUUtilizationPercentage") {
        let current = percent(at(hpa, "status.currentCPUUtilizationPercentage"), "<unknown>");
        texts.push(format!("cpu: {current}/{}", percent(Some(target), "<auto>")));
    }
    first_few(texts, SHOWN, ", ", "<none>").into()
}

fn percent(value: Option<&Value>, missing: &str) -> String {
    value.and_then(Value::as_i64).map_or_else(|| missing.to_owned(), |number| format!("{number}%"))
}

fn metric(spec: &Value, status: Option<&Value>) -> String {
    let (member, names_resource) = match spec.str_at(&["type"]) {
        "External" => ("external", false),
        "Object" => ("object", false),
        "Pods" => ("pods", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let target = |field: &str| spec.at(&[member, "target", field]);
    let status = status.and_then(|status| status.get(member));
    let current = |field: &str| status.and_then(|status| status.at(&["current", field]));
    // What upstream prints of a status without the value that is asked for.
    let shown = |field: &str| if status.is_some() { text_or(current(field), "<nil>") } else { "<unknown>".to_owned() };
    if names_resource {
        let name = spec.str_at(&[member, "name"]);
        return match target("averageValue") {
            Some(target) => format!("{name}: {}/{}", shown("averageValue"), text_or(Some(target), "")),
            None => {
                let current = percent(current("averageUtilization"), "<unknown>");
                format!("{name}: {current}/{}", percent(target("averageUtilization"), "<auto>"))
            }
        };
    }
    match target("averageValue") {
        Some(target) if member == "pods" => format!("{}/{}", shown("averageValue"), text_or(Some(target), "")),
        Some(target) => {
            format!("{}/{} (avg)", text_or(current("averageValue"), "<unknown>"), text_or(Some(target), ""))
        }
        None => format!("{}/{}", shown("value"), text_or(target("value"), "<nil>")),
    }
}
