//! Which keywords a definition's schema may use, and how they go together (apiextensions-apiserver
//! `pkg/apis/apiextensions/validation`, `ValidateCustomResourceDefinitionOpenAPISchema`). Works on the JSON as it was
//! written: what is not supported has no place in [`Schema`](super::Schema).

use super::{flag, shape::is_meta};
use crate::{
    status::FieldError,
    value::{Map, Value},
};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// A walk over a schema that collects its errors.
pub struct Keywords {
    errors: Vec<FieldError>,
    /// Custom rules in CEL (`x-kubernetes-validations`) that were met: they are not supported yet.
    rules: Vec<String>,
}

#[derive(Clone, Copy)]
struct Place<'a> {
    /// Why defaults may not be set here.
    without_defaults: Option<&'a str>,
    in_metadata: bool,
}

impl Keywords {
    /// What is wrong with the schema at `path`.
    pub fn problems(schema: &Value, path: &str) -> Vec<FieldError> {
        let mut walk = Keywords { errors: Vec::new(), rules: Vec::new() };
        walk.schema(schema, path, true, Place { without_defaults: None, in_metadata: false });
        let detail =
            "validation rules in CEL are not supported yet: express the rule by the schema's keywords, or leave it out";
        let rules = walk.rules.into_iter().map(|path| FieldError::forbidden(path, detail));
        walk.errors.extend(rules);
        walk.errors
    }

    fn schema(&mut self, schema: &Value, path: &str, is_root: bool, place: Place<'_>) {
        let Some(map) = schema.as_object() else { return };
        self.keywords(map, path, place);
        self.flags(map, path);
        self.lists(map, path);
        self.map_keys(map, path);
        if map.get("x-kubernetes-validations").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty()) {
            self.rules.push(format!("{path}.x-kubernetes-validations"));
        }
        self.children(map, path, is_root, place);
    }

    fn forbid(&mut self, path: &str, name: &str, detail: impl Into<String>) {
        self.errors.push(FieldError::forbidden(format!("{path}.{name}"), detail));
    }

    fn keywords(&mut self, map: &Map, path: &str, place: Place<'_>) {
        let kind = text(map, "type");
        if !kind.is_empty() && !TYPES.contains(&kind) {
            self.errors.push(FieldError::not_supported(format!("{path}.type"), kind, &TYPES));
        }
        if let Some(reason) =
            place.without_defaults.filter(|_| map.get("default").is_some_and(|default| !default.is_null()))
        {
            self.forbid(path, "default", format!("must not be set {reason}"));
        }
        if !text(map, "id").is_empty() {
            self.forbid(path, "id", "id is not supported");
        }
        for name in ["additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
            if map.contains_key(name) {
                self.forbid(path, name, format!("{name} is not supported"));
            }
        }
        if kind == "null" {
            self.forbid(path, "type", "type cannot be set to null, use nullable as an alternative");
        }
        if matches!(map.get("items"), Some(Value::Array(_))) {
            self.forbid(path, "items", "items must be a schema object and not an array");
        }
        if place.in_metadata && flag(map, "x-kubernetes-embedded-resource") {
            self.forbid(path, "x-kubernetes-embedded-resource", "must not be used inside of resource meta");
        }
    }

    fn flags(&mut self, map: &Map, path: &str) {
        if flag(map, "uniqueItems") {
            self.forbid(
                path,
                "uniqueItems",
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            );
        }
        let has_properties = map.get("properties").and_then(Value::as_object).is_some_and(|map| !map.is_empty());
        if has_properties && matches!(map.get("additionalProperties"), Some(Value::Bool(false) | Value::Object(_))) {
            self.forbid(path, "additionalProperties", "additionalProperties and properties are mutual exclusive");
        }
        if map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            let place = format!("{path}.x-kubernetes-preserve-unknown-fields");
            self.errors.push(FieldError::invalid(place, false, "must be true or undefined"));
        }
    }

    /// `x-kubernetes-list-type` and `x-kubernetes-map-type` go with one type each.
    fn lists(&mut self, map: &Map, path: &str) {
        let kind = text(map, "type");
        for (name, wanted, known) in
            [("map", "object", &["atomic", "granular"][..]), ("list", "array", &["atomic", "set", "map"])]
        {
            let Some(value) = map.get(&format!("x-kubernetes-{name}-type")).and_then(Value::as_str) else { continue };
            if kind != wanted {
                let detail = format!("must be {wanted} if x-kubernetes-{name}-type is specified");
                let place = format!("{path}.type");
                self.errors.push(if kind.is_empty() {
                    FieldError::required(place, detail)
                } else {
                    FieldError::invalid(place, kind, detail)
                });
            }
            if !known.contains(&value) {
                self.errors.push(FieldError::not_supported(format!("{path}.x-kubernetes-{name}-type"), value, known));
            }
        }
        let empty = Map::new();
        let items = map.get("items").and_then(Value::as_object).unwrap_or(&empty);
        if kind == "array" && text(map, "x-kubernetes-list-type") == "set" {
            let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
            let list = items.get("x-kubernetes-list-type").and_then(Value::as_str);
            match text(items, "type") {
                "array" if list.is_some_and(|list| list != "atomic") => {
                    self.errors.push(FieldError::invalid(format!("{path}.items.x-kubernetes-list-type"), list, detail));
                }
                "object" if text(items, "x-kubernetes-map-type") != "atomic" => {
                    self.errors.push(FieldError::invalid(format!("{path}.items.x-kubernetes-map-type"), list, detail));
                }
                _ => {}
            }
        }
    }

    fn map_keys(&mut self, map: &Map, path: &str) {
        let keys: Vec<&str> = map
            .get("x-kubernetes-list-map-keys")
            .and_then(Value::as_array)
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let list = map.get("x-kubernetes-list-type").and_then(Value::as_str);
        let place = format!("{path}.x-kubernetes-list-type");
        match list {
            None if !keys.is_empty() => {
                self.errors.push(FieldError::required(place, "must be map if x-kubernetes-list-map-keys is non-empty"))
            }
            Some(other) if other != "map" && !keys.is_empty() => {
                self.errors.push(FieldError::invalid(
                    place,
                    other,
                    "must be map if x-kubernetes-list-map-keys is non-empty",
                ));
            }
            _ => {}
        }
        let empty = Map::new();
        let items = map.get("items").and_then(Value::as_object).unwrap_or(&empty);
        if let Some(list @ ("set" | "map")) = list
            && flag(items, "nullable")
        {
            self.forbid(path, "items.nullable", format!("cannot be nullable when x-kubernetes-list-type is {list}"));
        }
        if list == Some("map") {
            self.list_map(map, items, &keys, path);
        }
    }

    fn list_map(&mut self, map: &Map, items: &Map, keys: &[&str], path: &str) {
        let place = format!("{path}.x-kubernetes-list-map-keys");
        if keys.is_empty() {
            self.errors.push(FieldError::required(place.clone(), "must not be empty if x-kubernetes-list-type is map"));
        }
        if !map.contains_key("items") {
            let detail = "must have a schema if x-kubernetes-list-type is map";
            self.errors.push(FieldError::required(format!("{path}.items"), detail));
            return;
        }
        let kind = text(items, "type");
        if kind != "object" {
            let detail = "must be object if parent array's x-kubernetes-list-type is map";
            self.errors.push(FieldError::invalid(format!("{path}.items.type"), kind, detail));
        }
        let required = items.get("required").and_then(Value::as_array).unwrap_or_default();
        for (index, key) in keys.iter().enumerate() {
            let property =
                items.get("properties").and_then(|properties| properties.get(key)).and_then(Value::as_object);
            let at = format!("{path}.items.properties[{key}]");
            if keys[..index].contains(key) {
                self.errors.push(FieldError::invalid(place.clone(), keys, "must not contain duplicate entries"));
            }
            let Some(property) = property else {
                self.errors.push(FieldError::invalid(
                    place.clone(),
                    keys,
                    "entries must all be names of item properties",
                ));
                continue;
            };
            if matches!(text(property, "type"), "array" | "object") {
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                self.errors.push(FieldError::invalid(format!("{at}.type"), kind, detail));
            }
            if !required.iter().any(|name| name.as_str() == Some(key)) && !property.contains_key("default") {
                let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                self.errors.push(FieldError::required(format!("{at}.default"), detail));
            }
            if flag(property, "nullable") {
                self.forbid(
                    &at,
                    "nullable",
                    "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
                );
            }
        }
    }

    fn children(&mut self, map: &Map, path: &str, is_root: bool, place: Place<'_>) {
        if let Some(values) = map.get("additionalProperties") {
            let reason = "inside additionalProperties applying to object metadata";
            let below = if place.in_metadata { Place { without_defaults: Some(reason), ..place } } else { place };
            self.schema(values, &format!("{path}.additionalProperties"), false, below);
        }
        let is_resource = is_root || flag(map, "x-kubernetes-embedded-resource");
        for (name, schema) in map.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::iter) {
            let reason = format!("in top-level {name}");
            let below = match is_resource && is_meta(name) {
                true => Place {
                    in_metadata: true,
                    without_defaults: if is_root { Some(&*reason) } else { place.without_defaults },
                },
                false => place,
            };
            self.schema(schema, &format!("{path}.properties[{name}]"), false, below);
        }
        if let Some(not) = map.get("not") {
            self.schema(not, &format!("{path}.not"), false, place);
        }
        for name in ["allOf", "oneOf", "anyOf"] {
            for (index, schema) in map.get(name).and_then(Value::as_array).unwrap_or_default().iter().enumerate() {
                self.schema(schema, &format!("{path}.{name}[{index}]"), false, place);
            }
        }
        if let Some(items) = map.get("items") {
            self.schema(items, &format!("{path}.items"), false, place);
        }
    }
}

fn text<'m>(map: &'m Map, name: &str) -> &'m str {
    map.get(name).and_then(Value::as_str).unwrap_or_default()
}
