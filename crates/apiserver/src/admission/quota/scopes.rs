//! Which objects a quota with scopes is about.

use std::collections::BTreeSet;

use api::Value;

use super::usage::Evaluator;

/// Whether the object is within all of the quota's scopes; kinds without scopes are in none.
pub(super) fn contain(quota: &Value, evaluator: &Evaluator, object: &Value) -> bool {
    let named = quota.at(&["spec", "scopes"]).and_then(Value::as_array).unwrap_or_default();
    let selected =
        quota.at(&["spec", "scopeSelector", "matchExpressions"]).and_then(Value::as_array).unwrap_or_default();
    let has = |scope: &str, operator: &str, values: &[Value]| match evaluator {
        Evaluator::Pods => pod_in(scope, operator, values, object),
        Evaluator::Claims => claim_in(scope, operator, values, object),
        Evaluator::Services | Evaluator::Count(_) => false,
    };
    named.iter().all(|scope| has(scope.as_str().unwrap_or_default(), "Exists", &[]))
        && selected.iter().all(|requirement| {
            let values = requirement.get("values").and_then(Value::as_array).unwrap_or_default();
            has(requirement.str_at(&["scopeName"]), requirement.str_at(&["operator"]), values)
        })
}

fn pod_in(scope: &str, operator: &str, values: &[Value], pod: &Value) -> bool {
    match scope {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => crate::strategy::qos_class(pod) == "BestEffort",
        "NotBestEffort" => crate::strategy::qos_class(pod) != "BestEffort",
        "PriorityClass" => selects(operator, values, [pod.str_at(&["spec", "priorityClassName"])].into_iter()),
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

fn claim_in(scope: &str, operator: &str, values: &[Value], claim: &Value) -> bool {
    scope == "VolumeAttributesClass" && selects(operator, values, volume_classes(claim).into_iter())
}

/// Whether one of the object's classes meets the requirement; no class at all meets what asks for absence.
fn selects<'a>(operator: &str, values: &[Value], classes: impl Iterator<Item = &'a str>) -> bool {
    let classes: Vec<&str> = classes.filter(|class| !class.is_empty()).collect();
    let listed = |class: &&str| values.iter().any(|value| value.as_str() == Some(*class));
    match operator {
        "In" => classes.iter().any(listed),
        "NotIn" => classes.is_empty() || classes.iter().any(|class| !listed(class)),
        "Exists" => !classes.is_empty(),
        "DoesNotExist" => classes.is_empty(),
        _ => false,
    }
}

pub(super) fn is_terminating(pod: &Value) -> bool {
    pod.at(&["spec", "activeDeadlineSeconds"]).and_then(Value::as_i64).is_some_and(|seconds| seconds >= 0)
}

/// The classes of volume attributes that a claim has, had or is getting.
pub(super) fn volume_classes(claim: &Value) -> BTreeSet<&str> {
    let paths: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    paths.into_iter().map(|path| claim.str_at(path)).filter(|class| !class.is_empty()).collect()
}

fn crosses_namespaces(pod: &Value) -> bool {
    let crosses = |term: &Value| {
        let named = term.get("namespaces").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        named || term.get("namespaceSelector").is_some()
    };
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let terms =
            |when: &str| pod.at(&["spec", "affinity", kind, when]).and_then(Value::as_array).unwrap_or_default();
        terms("requiredDuringSchedulingIgnoredDuringExecution").iter().any(crosses)
            || terms("preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .any(|weighted| weighted.get("podAffinityTerm").is_some_and(crosses))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_select_pods() {
        let cases = [
            (r#"{}"#, r#"{}"#, true),
            (r#"{"scopes":["Terminating"]}"#, r#"{"activeDeadlineSeconds":1}"#, true),
            (r#"{"scopes":["NotTerminating"]}"#, r#"{"activeDeadlineSeconds":1}"#, false),
            (r#"{"scopes":["BestEffort"]}"#, r#"{"containers":[{}]}"#, true),
            (
                r#"{"scopes":["NotBestEffort","Terminating"]}"#,
                r#"{"activeDeadlineSeconds":1,"containers":[{}]}"#,
                false,
            ),
            (
                r#"{"scopeSelector":{"matchExpressions":[{"scopeName":"PriorityClass","operator":"In","values":["high"]}]}}"#,
                r#"{"priorityClassName":"high"}"#,
                true,
            ),
            (
                r#"{"scopeSelector":{"matchExpressions":[{"scopeName":"PriorityClass","operator":"NotIn","values":["high"]}]}}"#,
                r#"{"priorityClassName":"high"}"#,
                false,
            ),
            (
                r#"{"scopeSelector":{"matchExpressions":[{"scopeName":"PriorityClass","operator":"DoesNotExist"}]}}"#,
                r#"{}"#,
                true,
            ),
            (
                r#"{"scopes":["CrossNamespacePodAffinity"]}"#,
                r#"{"affinity":{"podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"podAffinityTerm":{"namespaces":["x"]}}]}}}"#,
                true,
            ),
        ];
        for (quota, spec, wanted) in cases {
            let parse = |text: &str| api::json::parse(format!(r#"{{"spec":{text}}}"#).as_bytes()).expect("json");
            assert_eq!(contain(&parse(quota), &Evaluator::Pods, &parse(spec)), wanted, "{quota} {spec}");
        }
    }
}
