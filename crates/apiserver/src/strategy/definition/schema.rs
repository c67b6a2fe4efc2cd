//! The schema of one version of a definition.

use api::{
    Value,
    schema::{Keywords, Schema, is_known_format},
    status::FieldError,
};

use super::version_list;

/// What may stand at the root where the status has a subresource, so that the schema of the status can be taken on its own.
const ALLOWED_AT_ROOT: [(&str, &str); 22] = [
    ("description", "Description"),
    ("type", "Type"),
    ("format", "Format"),
    ("title", "Title"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("required", "Required"),
    ("items", "Items"),
    ("properties", "Properties"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
    ("x-kubernetes-validations", "XValidations"),
];

pub(super) fn check(schema: &Value, has_status: bool, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if has_status {
        errors.extend(root(schema, path));
    }
    if schema.get("nullable") == Some(&Value::Bool(true)) {
        errors.push(FieldError::forbidden(format!("{path}.nullable"), "nullable cannot be true at the root"));
    }
    let read = Schema::read(schema);
    match read.violations(path) {
        violations if violations.is_empty() => errors.extend(read.default_problems(path)),
        violations => errors.extend(violations),
    }
    errors.extend(Keywords::problems(schema, path));
    errors
}

fn root(schema: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = schema.str_at(&["type"]);
    if !kind.is_empty() && kind != "object" {
        let detail =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(FieldError::invalid(format!("{path}.type"), kind, detail));
    }
    let members = schema.as_object().into_iter().flat_map(|map| map.keys());
    let mut others = members.filter(|name| !ALLOWED_AT_ROOT.iter().any(|(allowed, _)| allowed == name));
    if others.next().is_some() {
        let allowed: Vec<&str> = ALLOWED_AT_ROOT.iter().map(|(_, name)| *name).collect();
        let detail = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            allowed.join(" ")
        );
        errors.push(FieldError::invalid(path, schema, detail));
    }
    errors
}

/// A warning for each format that values are not checked against.
pub(super) fn unknown_formats(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for version in version_list(object) {
        if let Some(schema) = version.at(&["schema", "openAPIV3Schema"]) {
            formats(schema, &mut found);
        }
    }
    found.dedup();
    found.into_iter().map(|format| format!("unrecognized format {format:?}")).collect()
}

fn formats<'v>(schema: &'v Value, found: &mut Vec<&'v str>) {
    let format = schema.str_at(&["format"]);
    if !format.is_empty() && !is_known_format(schema.str_at(&["type"]), format) {
        found.push(format);
    }
    for name in ["items", "additionalProperties", "not"] {
        schema.get(name).into_iter().for_each(|schema| formats(schema, found));
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        let schemas = schema.get(name).and_then(Value::as_array).unwrap_or_default();
        schemas.iter().for_each(|schema| formats(schema, found));
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flat_map(|map| map.values()).for_each(|schema| formats(schema, found));
}
