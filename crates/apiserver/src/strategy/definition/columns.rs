//! What a version of a definition names by path: printer columns, selectable fields, and what the scale shows.

use std::collections::HashSet;

use api::{Value, schema::Schema, status::FieldError};

const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const FORMATS: [&str; 9] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "name", "password"];
const SELECTABLE_MAX: usize = 8;

fn simple_path(path: &str, field: String) -> Option<FieldError> {
    let detail = match path {
        "" => "must not be empty",
        _ if !path.starts_with('.') => "must be a simple json path starting with .",
        _ => return None,
    };
    Some(FieldError::invalid(field, path, detail))
}

pub(super) fn scale(version: &Value, path: &str) -> Vec<FieldError> {
    let Some(scale) = version.at(&["subresources", "scale"]).filter(|scale| !scale.is_null()) else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    for (name, places, words, required) in [
        ("specReplicasPath", &[".spec."][..], "under .spec", true),
        ("statusReplicasPath", &[".status."], "under .status", true),
        ("labelSelectorPath", &[".spec.", ".status."], "under either .spec or .status", false),
    ] {
        let (value, field) = (scale.str_at(&[name]), format!("{path}.subresources.scale.{name}"));
        if value.is_empty() {
            if required {
                errors.push(FieldError::required(field, ""));
            }
        } else if let Some(error) = simple_path(value, field.clone()) {
            errors.push(error);
        } else if !places.iter().any(|place| value.starts_with(place)) {
            errors.push(FieldError::invalid(field, value, format!("should be a json path {words}")));
        }
    }
    errors
}

pub(super) fn columns(version: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let columns = version.get("additionalPrinterColumns").and_then(Value::as_array).unwrap_or_default();
    for (index, column) in columns.iter().enumerate() {
        let path = format!("{path}.additionalPrinterColumns[{index}]");
        if column.str_at(&["name"]).is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        }
        let (kind, format) = (column.str_at(&["type"]), column.str_at(&["format"]));
        let types = format!("must be one of {}", TYPES.join(","));
        if kind.is_empty() {
            errors.push(FieldError::required(format!("{path}.type"), types));
        } else if !TYPES.contains(&kind) {
            errors.push(FieldError::invalid(format!("{path}.type"), kind, types));
        }
        if !format.is_empty() && !FORMATS.contains(&format) {
            errors.push(FieldError::invalid(
                format!("{path}.format"),
                format,
                format!("must be one of {}", FORMATS.join(",")),
            ));
        }
        match column.str_at(&["jsonPath"]) {
            "" => errors.push(FieldError::required(format!("{path}.JSONPath"), "")),
            json_path => errors.extend(simple_path(json_path, format!("{path}.JSONPath"))),
        }
    }
    errors
}

pub(super) fn selectable(version: &Value, path: &str) -> Vec<FieldError> {
    let fields = version.get("selectableFields").and_then(Value::as_array).unwrap_or_default();
    let Some(schema) = version.at(&["schema", "openAPIV3Schema"]).map(Schema::read) else { return Vec::new() };
    let mut errors = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    for (index, field) in fields.iter().enumerate() {
        let place = format!("{path}.selectableFields[{index}].jsonPath");
        let json_path = field.str_at(&["jsonPath"]);
        if json_path.is_empty() {
            errors.push(FieldError::required(place, ""));
            continue;
        }
        let found = match find(&schema, json_path) {
            Ok(found) => found,
            Err(why) => {
                errors.push(FieldError::invalid(place, json_path, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if json_path.starts_with(".metadata.") {
            errors.push(FieldError::invalid(place.clone(), json_path, "must not point to fields in metadata"));
        }
        if !matches!(&*found.kind, "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(FieldError::invalid(place.clone(), json_path, detail));
        }
        if !seen.insert(json_path) {
            errors.push(FieldError::duplicate(place, json_path));
        }
    }
    if seen.len() > SELECTABLE_MAX {
        errors.push(FieldError::too_many(format!("{path}.selectableFields"), seen.len(), SELECTABLE_MAX));
    }
    errors
}

/// The schema that a path of member names leads to.
fn find<'s>(schema: &'s Schema, path: &str) -> Result<&'s Schema, String> {
    let rest = path.strip_prefix('.').ok_or_else(|| "must start with a dot".to_owned())?;
    rest.split('.').try_fold(schema, |schema, name| {
        schema.property(name).ok_or_else(|| format!("does not refer to a valid field: {path}"))
    })
}
