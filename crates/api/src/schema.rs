//! Schemas of custom resources: the part of JSON Schema that a CustomResourceDefinition may use. What decoding, defaulting,
//! server-side apply and OpenAPI need of one becomes types of a [`Model`](crate::Model) ([`Schema::model`]); what a value
//! must satisfy beyond its shape is checked here, with upstream's errors ([`Schema::validate`]).

mod check;
mod defaults;
mod embedded;
mod format;
mod keys;
mod lists;
mod messages;
mod number;
mod publish;
mod shape;
mod structural;
mod walk;

use std::{collections::HashSet, sync::OnceLock};

use regex::Regex;

use crate::{
    model::ListKind,
    value::{Map, Value},
};

pub use format::is_known as is_known_format;
pub use keys::Keywords;
pub use publish::Names;

/// A schema, read from the JSON of an `openAPIV3Schema`.
#[derive(Debug, Default)]
pub struct Schema {
    /// `object`, `array`, `string`, …; empty where any type goes.
    pub kind: Box<str>,
    pub nullable: bool,
    pub default: Option<Value>,
    pub is_open: bool,
    pub is_embedded: bool,
    pub is_int_or_string: bool,
    pub list: ListKind,
    pub atomic_map: Option<bool>,
    /// In the order in which they were written.
    pub properties: Vec<(Box<str>, Schema)>,
    pub additional: Additional,
    pub items: Option<Box<Schema>>,
    pub(crate) checks: Checks,
    /// Forbidden below `allOf` and its like, and told apart only for that.
    pub(crate) has_text: [bool; 2],
    pub(crate) has_rules: bool,
}

#[derive(Debug, Default)]
pub enum Additional {
    #[default]
    Unset,
    /// `true` or `false`.
    Any(bool),
    Schema(Box<Schema>),
}

/// What values must satisfy beyond their type.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    format: Box<str>,
    maximum: Option<f64>,
    exclusive_maximum: bool,
    minimum: Option<f64>,
    exclusive_minimum: bool,
    multiple_of: Option<f64>,
    max_length: Option<i64>,
    min_length: Option<i64>,
    pattern: Option<Pattern>,
    max_items: Option<i64>,
    min_items: Option<i64>,
    unique_items: bool,
    max_properties: Option<i64>,
    min_properties: Option<i64>,
    required: Vec<Box<str>>,
    enumeration: Enumeration,
    all_of: Vec<Schema>,
    any_of: Vec<Schema>,
    one_of: Vec<Schema>,
    not: Option<Box<Schema>>,
}

/// The values of `enum`.
#[derive(Debug, Default)]
struct Enumeration {
    keys: HashSet<Value>,
    /// All of them in their order, as errors name them.
    text: Box<str>,
}

impl Enumeration {
    fn of(values: &[Value]) -> Enumeration {
        let quoted = |value: &Value| match value {
            Value::String(text) => format!("{text:?}"),
            other => format!("{:?}", other.to_string()),
        };
        Enumeration {
            keys: values.iter().map(|value| number::key(value).into_owned()).collect(),
            text: values.iter().map(quoted).collect::<Vec<_>>().join(", ").into(),
        }
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn has(&self, value: &Value) -> bool {
        self.keys.contains(&*number::key(value))
    }
}

/// A regular expression, compiled when a value is first matched against it.
#[derive(Debug)]
struct Pattern {
    text: Box<str>,
    compiled: OnceLock<Result<Regex, regex::Error>>,
}

impl Pattern {
    fn regex(&self) -> &Result<Regex, regex::Error> {
        self.compiled.get_or_init(|| Regex::new(&self.text))
    }
}

fn number(map: &Map, name: &str) -> Option<f64> {
    match map.get(name)? {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

fn integer(map: &Map, name: &str) -> Option<i64> {
    number(map, name).map(|number| number as i64)
}

fn texts(map: &Map, name: &str) -> Vec<Box<str>> {
    let items = map.get(name).and_then(Value::as_array).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(Into::into).collect()
}

fn flag(map: &Map, name: &str) -> bool {
    map.get(name).and_then(Value::as_bool) == Some(true)
}

impl Schema {
    /// Reads a schema that has been decoded as a `JSONSchemaProps`; what is no schema reads as an empty one.
    pub fn read(value: &Value) -> Schema {
        let empty = Map::new();
        let map = value.as_object().unwrap_or(&empty);
        let text = |name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default();
        let properties = map.get("properties").and_then(Value::as_object);
        let additional = match map.get("additionalProperties") {
            Some(Value::Bool(allowed)) => Additional::Any(*allowed),
            Some(schema @ Value::Object(_)) => Additional::Schema(Box::new(Schema::read(schema))),
            _ => Additional::Unset,
        };
        Schema {
            kind: text("type").into(),
            nullable: flag(map, "nullable"),
            default: map.get("default").filter(|default| !default.is_null()).cloned(),
            is_open: flag(map, "x-kubernetes-preserve-unknown-fields"),
            is_embedded: flag(map, "x-kubernetes-embedded-resource"),
            is_int_or_string: flag(map, "x-kubernetes-int-or-string"),
            list: match text("x-kubernetes-list-type") {
                "atomic" => ListKind::Atomic,
                "set" => ListKind::Set,
                "map" => ListKind::Map(texts(map, "x-kubernetes-list-map-keys")),
                _ => ListKind::Unset,
            },
            atomic_map: match text("x-kubernetes-map-type") {
                "atomic" => Some(true),
                "granular" => Some(false),
                _ => None,
            },
            properties: properties
                .map(|map| map.iter().map(|(name, schema)| (name.into(), Schema::read(schema))).collect())
                .unwrap_or_default(),
            additional,
            items: map
                .get("items")
                .filter(|items| items.as_object().is_some())
                .map(|items| Box::new(Schema::read(items))),
            checks: Checks::read(map),
            has_text: ["title", "description"].map(|name| !text(name).is_empty()),
            has_rules: map
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .is_some_and(|rules| !rules.is_empty()),
        }
    }

    pub fn property(&self, name: &str) -> Option<&Schema> {
        self.properties.iter().find(|(key, _)| **key == *name).map(|(_, schema)| schema)
    }

    /// The schema of the values of a map, where it has one.
    pub fn value(&self) -> Option<&Schema> {
        match &self.additional {
            Additional::Schema(schema) => Some(schema),
            _ => None,
        }
    }
}

impl Checks {
    fn read(map: &Map) -> Checks {
        let schemas = |name: &str| -> Vec<Schema> {
            let items = map.get(name).and_then(Value::as_array).unwrap_or_default();
            items.iter().map(Schema::read).collect()
        };
        let text = |name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default();
        let pattern = Some(text("pattern")).filter(|pattern| !pattern.is_empty());
        Checks {
            format: text("format").into(),
            maximum: number(map, "maximum"),
            exclusive_maximum: flag(map, "exclusiveMaximum"),
            minimum: number(map, "minimum"),
            exclusive_minimum: flag(map, "exclusiveMinimum"),
            multiple_of: number(map, "multipleOf"),
            max_length: integer(map, "maxLength"),
            min_length: integer(map, "minLength"),
            pattern: pattern.map(|text| Pattern { text: text.into(), compiled: OnceLock::new() }),
            max_items: integer(map, "maxItems"),
            min_items: integer(map, "minItems"),
            unique_items: flag(map, "uniqueItems"),
            max_properties: integer(map, "maxProperties"),
            min_properties: integer(map, "minProperties"),
            required: texts(map, "required"),
            enumeration: Enumeration::of(map.get("enum").and_then(Value::as_array).unwrap_or_default()),
            all_of: schemas("allOf"),
            any_of: schemas("anyOf"),
            one_of: schemas("oneOf"),
            not: map.get("not").filter(|not| not.as_object().is_some()).map(|not| Box::new(Schema::read(not))),
        }
    }
}
