//! Resources within resources: `x-kubernetes-embedded-resource` (apiextensions-apiserver `pkg/apiserver/schema/objectmeta`).

use super::Schema;
use crate::{names, status::FieldError, value::Value};

impl Schema {
    /// What is wrong with the kinds and metadata of the resources embedded in `value`, which stands at `path`.
    pub fn embedded_problems(&self, path: &str, value: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        below(self, path, value, &mut errors);
        errors
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn below(schema: &Schema, path: &str, value: &Value, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            if schema.is_embedded {
                resource(path, value, errors);
            }
            for (name, member) in map.iter() {
                if let Some(property) = schema.property(name) {
                    below(property, &join(path, name), member, errors);
                } else if let Some(values) = schema.value() {
                    below(values, &format!("{path}[{name}]"), member, errors);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            for (index, item) in items.iter().enumerate() {
                below(schema, &format!("{path}[{index}]"), item, errors);
            }
        }
        _ => {}
    }
}

fn resource(path: &str, value: &Value, errors: &mut Vec<FieldError>) {
    for name in ["apiVersion", "kind"] {
        let place = join(path, name);
        match value.get(name) {
            None => errors.push(FieldError::required(place, "")),
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(place, "", "must not be empty"))
            }
            Some(Value::String(text)) if name == "kind" => {
                let problems = names::dns1035_label(&text.to_lowercase());
                if !problems.is_empty() {
                    let detail = format!("may have mixed case, but should otherwise match: {}", problems.join(","));
                    errors.push(FieldError::invalid(place, &**text, detail));
                }
            }
            Some(Value::String(text)) if text.matches('/').count() > 1 => {
                errors.push(FieldError::invalid(place, &**text, format!("unexpected GroupVersion string: {text}")));
            }
            Some(Value::String(_)) => {}
            Some(other) => errors.push(FieldError::invalid(place, other, "must be a string")),
        }
    }
    let Some(metadata) = value.get("metadata") else { return };
    let name = metadata.str_at(&["name"]);
    if !name.is_empty() {
        let problems = names::path_segment_name(name);
        let place = join(path, "metadata.name");
        errors.extend(problems.into_iter().map(|problem| FieldError::invalid(place.clone(), name, problem)));
    }
    let pairs = |name: &str| -> Vec<(&str, &str)> {
        let map = metadata.get(name).and_then(Value::as_object);
        map.into_iter()
            .flat_map(|map| map.iter())
            .map(|(key, value)| (key, value.as_str().unwrap_or_default()))
            .collect()
    };
    errors.extend(names::labels(pairs("labels"), &join(path, "metadata.labels")));
    errors.extend(names::annotations(pairs("annotations"), &join(path, "metadata.annotations")));
}
