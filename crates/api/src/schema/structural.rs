//! Whether a schema is structural: whatever a value may contain follows from types alone, and what stands below `allOf`,
//! `anyOf`, `oneOf` and `not` only restricts it (apiextensions-apiserver `pkg/apiserver/schema/validation.go`).

use super::{Additional, Checks, Schema};
use crate::{model::ListKind, status::FieldError};

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

impl Schema {
    /// The violations of this schema, which stands at `path` of a definition, sorted.
    pub fn violations(&self, path: &str) -> Vec<FieldError> {
        let mut errors = Vec::new();
        invariants(self, Level::Root, path, &mut errors);
        completeness(self, path, &mut errors);
        errors.sort_by_cached_key(ToString::to_string);
        errors
    }
}

fn property(path: &str, name: &str) -> String {
    format!("{path}.properties[{name}]")
}

fn invariants(schema: &Schema, level: Level, path: &str, errors: &mut Vec<FieldError>) {
    if &*schema.kind == "array" && schema.items.is_none() {
        errors.push(FieldError::required(format!("{path}.items"), "must be specified"));
    }
    if let Some(items) = &schema.items {
        invariants(items, Level::Item, &format!("{path}.items"), errors);
    }
    for (name, schema) in &schema.properties {
        invariants(schema, Level::Field, &property(path, name), errors);
    }
    let additional = format!("{path}.additionalProperties");
    if !matches!(schema.additional, Additional::Unset) {
        if level == Level::Root {
            errors.push(FieldError::forbidden(additional.clone(), "must not be used at the root"));
        }
        if schema.is_embedded {
            errors.push(FieldError::forbidden(
                additional.clone(),
                "must not be used if x-kubernetes-embedded-resource is set",
            ));
        }
    }
    if let Some(values) = schema.value() {
        invariants(values, Level::Field, &additional, errors);
    }
    if schema.is_int_or_string {
        for (name, is_set) in [("preserve-unknown-fields", schema.is_open), ("embedded-resource", schema.is_embedded)] {
            if is_set {
                let detail = "must be false if x-kubernetes-int-or-string is true";
                errors.push(FieldError::invalid(format!("{path}.x-kubernetes-{name}"), true, detail));
            }
        }
    }
    let is_pair = |checks: &Checks| is_int_or_string(&checks.any_of);
    let skip_any = is_pair(&schema.checks);
    let skip_first = schema.checks.all_of.first().is_some_and(|first| is_pair(&first.checks));
    junctors(&schema.checks, skip_any, skip_first, path, errors);
    types(schema, level, path, errors);
    metadata(schema, level, path, errors);
}

fn types(schema: &Schema, level: Level, path: &str, errors: &mut Vec<FieldError>) {
    let place = format!("{path}.type");
    let kind = &*schema.kind;
    if schema.is_embedded && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if kind.is_empty() {
            FieldError::required(place.clone(), detail)
        } else {
            FieldError::invalid(place.clone(), kind, detail)
        });
    } else if kind.is_empty() && !schema.is_int_or_string && !schema.is_open {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(place.clone(), detail));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(place, kind, "must be object at the root"));
    }
}

fn metadata(schema: &Schema, level: Level, path: &str, errors: &mut Vec<FieldError>) {
    let is_resource = level == Level::Root || schema.is_embedded;
    for name in ["kind", "apiVersion"] {
        if let Some(found) = schema.property(name).filter(|found| is_resource && &*found.kind != "string") {
            errors.push(FieldError::invalid(format!("{}.type", property(path, name)), &*found.kind, "must be string"));
        }
    }
    if let Some(found) = schema.property("metadata") {
        let place = property(path, "metadata");
        if is_resource && &*found.kind != "object" {
            errors.push(FieldError::invalid(format!("{place}.type"), &*found.kind, "must be object"));
        }
        if level == Level::Root && !names_only(found) {
            let detail =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(FieldError::forbidden(place, detail));
        }
    }
    if schema.is_embedded && !schema.is_open && schema.properties.is_empty() {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(format!("{path}.properties"), detail));
    }
}

/// Metadata at the root may restrict names, and nothing else.
fn names_only(metadata: &Schema) -> bool {
    metadata.properties.iter().all(|(name, _)| matches!(&**name, "name" | "generateName"))
        && matches!(metadata.additional, Additional::Unset)
        && metadata.items.is_none()
        && !metadata.is_open
        && !metadata.is_embedded
        && !metadata.is_int_or_string
        && !metadata.nullable
        && metadata.has_text == [false; 2]
        && metadata.checks.is_empty()
}

impl Checks {
    fn is_empty(&self) -> bool {
        let numbers = [self.maximum, self.minimum, self.multiple_of];
        let sizes = [
            self.max_length,
            self.min_length,
            self.max_items,
            self.min_items,
            self.max_properties,
            self.min_properties,
        ];
        self.format.is_empty()
            && numbers.iter().all(Option::is_none)
            && sizes.iter().all(Option::is_none)
            && self.pattern.is_none()
            && !self.unique_items
            && self.required.is_empty()
            && self.enumeration.is_empty()
            && self.nested().next().is_none()
    }

    /// What stands below `allOf`, `anyOf`, `oneOf` and `not`.
    fn nested(&self) -> impl Iterator<Item = &Schema> {
        self.all_of.iter().chain(&self.any_of).chain(&self.one_of).chain(self.not.as_deref())
    }
}

/// The one use of `type` below `anyOf`: integer or string.
fn is_int_or_string(any_of: &[Schema]) -> bool {
    let [first, second] = any_of else { return false };
    let is_plain = |schema: &Schema, kind: &str| {
        &*schema.kind == kind && schema.properties.is_empty() && schema.items.is_none() && schema.checks.is_empty()
    };
    is_plain(first, "integer") && is_plain(second, "string")
}

fn junctors(checks: &Checks, skip_any: bool, skip_first: bool, path: &str, errors: &mut Vec<FieldError>) {
    if !skip_any {
        for (index, schema) in checks.any_of.iter().enumerate() {
            nested(schema, false, &format!("{path}.anyOf[{index}]"), errors);
        }
    }
    for (index, schema) in checks.all_of.iter().enumerate() {
        nested(schema, skip_first && index == 0, &format!("{path}.allOf[{index}]"), errors);
    }
    for (index, schema) in checks.one_of.iter().enumerate() {
        nested(schema, false, &format!("{path}.oneOf[{index}]"), errors);
    }
    if let Some(schema) = &checks.not {
        nested(schema, false, &format!("{path}.not"), errors);
    }
    if let Some(pattern) = &checks.pattern
        && let Err(error) = pattern.regex()
    {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(FieldError::invalid(format!("{path}.pattern"), &*pattern.text, detail));
    }
}

fn nested(schema: &Schema, skip_any: bool, path: &str, errors: &mut Vec<FieldError>) {
    junctors(&schema.checks, skip_any, false, path, errors);
    if let Some(items) = &schema.items {
        nested(items, false, &format!("{path}.items"), errors);
    }
    for (name, schema) in &schema.properties {
        nested(schema, false, &property(path, name), errors);
    }
    let [has_title, has_description] = schema.has_text;
    let has_keys = matches!(&schema.list, ListKind::Map(keys) if !keys.is_empty());
    let forbidden = [
        (!schema.kind.is_empty(), "type", "must be empty to be structural"),
        (
            matches!(schema.additional, Additional::Schema(_) | Additional::Any(true)),
            "additionalProperties",
            "must be undefined to be structural",
        ),
        (schema.default.is_some(), "default", "must be undefined to be structural"),
        (has_title, "title", "must be empty to be structural"),
        (has_description, "description", "must be empty to be structural"),
        (schema.nullable, "nullable", "must be false to be structural"),
        (schema.is_open, "x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        (schema.is_embedded, "x-kubernetes-embedded-resource", "must be false to be structural"),
        (schema.is_int_or_string, "x-kubernetes-int-or-string", "must be false to be structural"),
        (has_keys, "x-kubernetes-list-map-keys", "must be empty to be structural"),
        (schema.list != ListKind::Unset, "x-kubernetes-list-type", "must be undefined to be structural"),
        (schema.atomic_map.is_some(), "x-kubernetes-map-type", "must be undefined to be structural"),
        (schema.has_rules, "x-kubernetes-validations", "must be empty to be structural"),
    ];
    for (_, name, detail) in forbidden.into_iter().filter(|(is_set, ..)| *is_set) {
        errors.push(FieldError::forbidden(format!("{path}.{name}"), detail));
    }
    if schema.property("metadata").is_some() {
        errors.push(FieldError::forbidden(property(path, "metadata"), "must not be specified in a nested context"));
    }
}

/// Whatever is named below `allOf` and its like of the whole must be named outside of them too.
fn completeness(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    nested_covered(&schema.checks, schema, path, path, errors);
}

fn nested_covered(checks: &Checks, schema: &Schema, path: &str, at: &str, errors: &mut Vec<FieldError>) {
    if let Some(not) = &checks.not {
        covered(not, Some(schema), path, &format!("{at}.not"), errors);
    }
    for (name, schemas) in [("allOf", &checks.all_of), ("anyOf", &checks.any_of), ("oneOf", &checks.one_of)] {
        for (index, nested) in schemas.iter().enumerate() {
            covered(nested, Some(schema), path, &format!("{at}.{name}[{index}]"), errors);
        }
    }
}

/// `path`: where the schema stands; `at`: where what restricts it does.
fn covered(restricting: &Schema, schema: Option<&Schema>, path: &str, at: &str, errors: &mut Vec<FieldError>) {
    let Some(schema) = schema else {
        return errors.push(FieldError::required(path, format!("because it is defined in {at}")));
    };
    nested_covered(&restricting.checks, schema, path, at, errors);
    if let Some(items) = &restricting.items {
        covered(items, schema.items.as_deref(), &format!("{path}.items"), &format!("{at}.items"), errors);
    }
    for (name, restricting) in &restricting.properties {
        covered(restricting, schema.property(name), &property(path, name), &property(at, name), errors);
    }
}
