//! Behaviour of custom resources: all of it follows from their schema (apiextensions-apiserver
//! `pkg/registry/customresource`).

use api::{CustomResource, Resource, Value, status::FieldError};

use super::Strategy;
use crate::rest::Scope;

impl Strategy for CustomResource {
    fn validate(&self, _resource: &Resource, object: &Value) -> Vec<FieldError> {
        let mut errors = self.schema.validate("", object, None);
        errors.extend(self.replicas_problems(Scope::Main, object));
        errors.extend(self.schema.embedded_problems("", object));
        errors.extend(self.schema.duplicates(object));
        errors
    }

    fn validate_change(&self, _resource: &Resource, scope: Scope, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = match (scope, object.get("status"), self.schema.property("status")) {
            // A write to the status does not answer for the rest.
            (Scope::Status, Some(status), Some(schema)) => schema.validate("status", status, old.get("status")),
            (Scope::Status, ..) => Vec::new(),
            _ => self.schema.validate("", object, Some(old)),
        };
        errors.extend(self.replicas_problems(scope, object));
        if scope != Scope::Status {
            errors.extend(self.schema.embedded_problems("", object));
        }
        let duplicates = self.schema.duplicates(object);
        if !duplicates.is_empty() && self.schema.duplicates(old).is_empty() {
            errors.extend(duplicates);
        }
        errors
    }

    fn warnings(&self, _resource: &Resource, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let finalizers = object.at(&["metadata", "finalizers"]).and_then(Value::as_array).unwrap_or_default();
        let unqualified =
            finalizers.iter().filter_map(Value::as_str).filter(|name| !name.contains('/') && !STANDARD.contains(name));
        let warning = |name: &str| {
            let how = if name.contains('.') { " including a path (/)" } else { "" };
            format!(
                "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name{how} to avoid accidental conflicts with other finalizer writers"
            )
        };
        unqualified.map(warning).collect()
    }

    fn refuses_creation(&self) -> Option<&'static str> {
        self.is_terminating.then_some("create not allowed while custom resource definition is terminating")
    }

    fn updates_unconditionally(&self, _resource: &Resource) -> bool {
        false
    }

    fn counts_generations(&self, _resource: &Resource) -> bool {
        true
    }

    /// Without a status of its own, whatever is called so counts like the rest.
    fn counts_status(&self, resource: &Resource) -> bool {
        !resource.has_status()
    }
}

/// Finalizers that need no domain.
const STANDARD: [&str; 3] = [crate::rest::ORPHAN_FINALIZER, crate::rest::FOREGROUND_FINALIZER, "kubernetes"];

/// The value at member names.
fn at<'v>(object: &'v Value, path: &[Box<str>]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

trait Replicas {
    fn replicas_problems(&self, scope: Scope, object: &Value) -> Vec<FieldError>;
}

impl Replicas for CustomResource {
    /// What the scale shows must be numbers that it can show.
    fn replicas_problems(&self, scope: Scope, object: &Value) -> Vec<FieldError> {
        let Some(scale) = &self.scale else { return Vec::new() };
        let paths = [(scope != Scope::Status).then_some(&scale.spec_replicas), Some(&scale.status_replicas)];
        let mut errors = Vec::new();
        for path in paths.into_iter().flatten() {
            let place = format!(".{}", path.join("."));
            match at(object, path) {
                None => {}
                Some(Value::Int(count)) if *count < 0 => {
                    errors.push(FieldError::invalid(place, *count, "should be a non-negative integer"))
                }
                Some(Value::Int(count)) if *count > i64::from(i32::MAX) => {
                    errors.push(FieldError::invalid(
                        place,
                        *count,
                        format!("should be less than or equal to {}", i32::MAX),
                    ));
                }
                Some(Value::Int(_)) => {}
                Some(other) => {
                    let detail =
                        format!("{place} accessor error: {other} is of the type {}, expected int64", other.type_name());
                    errors.push(FieldError::invalid(place, 0, detail));
                }
            }
        }
        errors
    }
}
