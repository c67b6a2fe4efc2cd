//! Versions of a definition: exactly one is stored, each has a schema, and what it adds to it.

use std::collections::HashSet;

use api::{Value, names, status::FieldError};

use super::{columns, flag, schema, version_list};

pub(super) fn check(object: &Value) -> Vec<FieldError> {
    let versions = version_list(object);
    let mut errors = Vec::new();
    for (index, version) in versions.iter().enumerate() {
        if version.at(&["schema", "openAPIV3Schema"]).is_none() {
            errors.push(FieldError::required(format!("spec.versions[{index}].schema.openAPIV3Schema"), ""));
        }
    }
    let list = || object.at(&["spec", "versions"]).cloned().unwrap_or_default();
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}]");
        let name = version.str_at(&["name"]);
        let problems = names::dns1035_label(name);
        if !problems.is_empty() {
            errors.push(FieldError::invalid(format!("{path}.name"), name, problems.join(",")));
        }
        errors.extend(self::version(version, &path));
    }
    let mut known: Vec<&str> = versions.iter().map(|version| version.str_at(&["name"])).collect();
    known.sort_unstable();
    known.dedup();
    if known.len() != versions.len() {
        errors.push(FieldError::invalid("spec.versions", list(), "must contain unique version names"));
    }
    if versions.iter().filter(|version| flag(version, "storage")).count() != 1 {
        errors.push(FieldError::invalid(
            "spec.versions",
            list(),
            "must have exactly one version marked as storage version",
        ));
    }
    errors.extend(conversion(object));
    errors
}

fn version(version: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = deprecation(version, path);
    let has_status = version.at(&["subresources", "status"]).is_some_and(|status| !status.is_null());
    if let Some(schema) = version.at(&["schema", "openAPIV3Schema"]) {
        errors.extend(schema::check(schema, has_status, &format!("{path}.schema.openAPIV3Schema")));
    }
    errors.extend(columns::scale(version, path));
    errors.extend(columns::columns(version, path));
    errors.extend(columns::selectable(version, path));
    errors
}

fn deprecation(version: &Value, path: &str) -> Vec<FieldError> {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else { return Vec::new() };
    let bad = warning.char_indices().find(|(_, character)| character.is_control());
    let detail = match bad {
        _ if !flag(version, "deprecated") => "can only be set for deprecated versions".to_owned(),
        _ if warning.len() > 256 => "must be <= 256 characters long".to_owned(),
        _ if warning.is_empty() => "must not be an empty string".to_owned(),
        Some((at, _)) => {
            format!("must only contain printable UTF-8 characters; non-printable character found at index {at}")
        }
        None => return Vec::new(),
    };
    vec![FieldError::invalid(format!("{path}.deprecationWarning"), warning, detail)]
}

/// Objects are served in all versions as they are; webhooks that convert them are not called yet.
fn conversion(object: &Value) -> Vec<FieldError> {
    let Some(conversion) = object.at(&["spec", "conversion"]) else { return Vec::new() };
    let path = "spec.conversion";
    match conversion.str_at(&["strategy"]) {
        "None" if conversion.get("webhook").is_some() => {
            vec![FieldError::forbidden(
                format!("{path}.webhook"),
                "should not be set when strategy is not set to Webhook",
            )]
        }
        "None" => Vec::new(),
        "Webhook" => {
            let detail = "conversion by webhooks is not supported yet: only None, which serves objects in all versions unchanged";
            vec![FieldError::forbidden(format!("{path}.strategy"), detail)]
        }
        "" => vec![FieldError::required(format!("{path}.strategy"), "")],
        other => vec![FieldError::not_supported(format!("{path}.strategy"), other, &["None", "Webhook"])],
    }
}

/// `status.storedVersions` has the stored version, and only versions that there are.
pub(super) fn stored(object: &Value) -> Vec<FieldError> {
    let path = "status.storedVersions";
    let list = object.at(&["status", "storedVersions"]).and_then(Value::as_array).unwrap_or_default();
    if list.is_empty() {
        return vec![FieldError::invalid(path, Vec::<&str>::new(), "must have at least one stored version")];
    }
    let versions = version_list(object);
    let mut errors = Vec::new();
    // That there is only one is another rule.
    if let Some(version) = versions.iter().find(|version| flag(version, "storage")) {
        let name = version.str_at(&["name"]);
        if !list.iter().any(|stored| stored.as_str() == Some(name)) {
            errors.push(FieldError::invalid(path, list, format!("must have the storage version {name}")));
        }
    }
    let names: HashSet<&str> = versions.iter().map(|version| version.str_at(&["name"])).collect();
    for (index, stored) in list.iter().enumerate() {
        let name = stored.as_str().unwrap_or_default();
        if !names.contains(name) {
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(format!("{path}[{index}]"), name, detail));
        }
    }
    errors
}
