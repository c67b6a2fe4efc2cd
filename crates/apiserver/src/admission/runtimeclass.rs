//! RuntimeClass: a pod takes on the overhead and the scheduling constraints of the class that it names
//! (upstream `plugin/pkg/admission/runtimeclass`).

use api::{Status, Value};
use async_trait::async_trait;

use super::{Operation, Plugin, Review, amounts};

pub struct RuntimeClass;

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    async fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
        if review.operation != Operation::Create || !review.is("", "pods") {
            return Ok(());
        }
        let Some(class) = find(review, object).await? else { return Ok(()) };
        if let Some(fixed) = overhead(&class) {
            let own = object.at(&["spec", "overhead"]);
            let is_empty = own.and_then(Value::as_object).is_none_or(|own| own.is_empty());
            if !is_empty && amounts::read(own) != amounts::read(Some(fixed)) {
                return Err(review.forbidden(MISMATCH));
            }
            object.set(&["spec", "overhead"], fixed.clone());
        }
        if let Some(scheduling) = class.get("scheduling") {
            let own = object.at(&["spec", "nodeSelector"]);
            let selector =
                merge_selectors(own, scheduling.get("nodeSelector")).map_err(|why| review.forbidden(&why))?;
            let tolerations = merge_tolerations(object.at(&["spec", "tolerations"]), scheduling.get("tolerations"));
            if let Some(selector) = selector {
                object.set(&["spec", "nodeSelector"], selector);
            }
            if !tolerations.is_empty() {
                object.set(&["spec", "tolerations"], tolerations);
            }
        }
        Ok(())
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<(), Status> {
        if review.operation != Operation::Create || !review.is("", "pods") {
            return Ok(());
        }
        let class = find(review, object).await?;
        let own = object.at(&["spec", "overhead"]);
        match class.as_ref().and_then(overhead) {
            Some(fixed) if amounts::read(own) != amounts::read(Some(fixed)) => Err(review.forbidden(MISMATCH)),
            None if own.is_some() => {
                Err(review
                    .forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
            }
            _ => Ok(()),
        }
    }
}

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

fn overhead(class: &Value) -> Option<&Value> {
    class.at(&["overhead", "podFixed"])
}

/// The class that the pod names; `None` where it names none.
async fn find(review: &Review<'_>, pod: &Value) -> Result<Option<Value>, Status> {
    let Some(name) = pod.at(&["spec", "runtimeClassName"]).and_then(Value::as_str) else { return Ok(None) };
    let class = review.find("runtimeclasses", name).await?;
    let class = class.ok_or_else(|| review.forbidden(&format!("pod rejected: RuntimeClass \"{name}\" not found")))?;
    Ok(Some(class.tree()))
}

fn merge_selectors(own: Option<&Value>, class: Option<&Value>) -> Result<Option<Value>, String> {
    let Some(Value::Object(class)) = class else { return Ok(None) };
    let Some(Value::Object(own)) = own else { return Ok(Some(Value::Object(class.clone()))) };
    let mut merged = own.clone();
    for (key, value) in class.iter() {
        if let Some(present) = own.get(key).filter(|present| *present != value) {
            let (present, value) = (present.as_str().unwrap_or_default(), value.as_str().unwrap_or_default());
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {present}"
            ));
        }
        merged.insert(key, value.clone());
    }
    Ok(Some(Value::Object(merged)))
}

/// Both lists, without what another entry bears already (`pkg/util/tolerations`, MergeTolerations).
fn merge_tolerations(own: Option<&Value>, class: Option<&Value>) -> Vec<Value> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).unwrap_or_default().to_vec();
    let all: Vec<Value> = list(own).into_iter().chain(list(class)).collect();
    let mut merged: Vec<Value> = Vec::new();
    for (index, toleration) in all.iter().enumerate() {
        let is_borne = merged.iter().any(|other| bears(other, toleration))
            || all[index + 1..].iter().any(|later| later != toleration && bears(later, toleration));
        if !is_borne {
            merged.push(toleration.clone());
        }
    }
    merged
}

/// Whether `wide` tolerates everything that `narrow` does.
fn bears(wide: &Value, narrow: &Value) -> bool {
    if wide == narrow {
        return true;
    }
    let (key, operator, effect) = (wide.str_at(&["key"]), wide.str_at(&["operator"]), wide.str_at(&["effect"]));
    if key != narrow.str_at(&["key"]) && (!key.is_empty() || operator != "Exists") {
        return false;
    }
    if !effect.is_empty() && effect != narrow.str_at(&["effect"]) {
        return false;
    }
    let seconds = |toleration: &Value| toleration.get("tolerationSeconds").and_then(Value::as_i64);
    if let (true, Some(most)) = (effect == "NoExecute", seconds(wide))
        && seconds(narrow).is_none_or(|seconds| seconds > most)
    {
        return false;
    }
    match operator {
        "Exists" => true,
        "" | "Equal" => narrow.str_at(&["operator"]) == "Equal" && narrow.str_at(&["value"]) == wide.str_at(&["value"]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_that_another_covers_go() {
        let parse = |text: &str| api::json::parse(text.as_bytes()).expect("json");
        let cases = [
            (r#"[]"#, r#"[{"key":"a","operator":"Exists"}]"#, 1),
            (r#"[{"key":"a","operator":"Exists"}]"#, r#"[{"key":"a","operator":"Exists"}]"#, 1),
            (r#"[{"key":"a","operator":"Equal","value":"1"}]"#, r#"[{"key":"a","operator":"Exists"}]"#, 1),
            (
                r#"[{"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":5}]"#,
                r#"[{"operator":"Exists"}]"#,
                1,
            ),
            (
                r#"[{"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":5}]"#,
                r#"[{"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":3}]"#,
                1,
            ),
            (r#"[{"key":"a","operator":"Equal","value":"1"}]"#, r#"[{"key":"b","operator":"Exists"}]"#, 2),
        ];
        for (own, class, left) in cases {
            assert_eq!(merge_tolerations(Some(&parse(own)), Some(&parse(class))).len(), left, "{own} {class}");
        }
    }
}
