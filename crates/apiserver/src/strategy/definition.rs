//! CustomResourceDefinitions (apiextensions-apiserver `pkg/registry/customresourcedefinition` and
//! `pkg/apis/apiextensions/validation`). What becomes of one once it is stored is in [`definitions`](crate::definitions).

mod columns;
mod names;
mod schema;
mod versions;

use api::{Resource, Value, status::FieldError};
use jiff::Timestamp;

pub(crate) use names::conformance;

use super::Strategy;
use crate::definitions::{self, conditions};

pub struct Definitions;

impl Strategy for Definitions {
    fn prepare_create(&self, object: &mut Value) {
        note_stored_version(object);
    }

    fn prepare_update(&self, object: &mut Value, _old: &Value) {
        note_stored_version(object);
    }

    fn validate(&self, _resource: &Resource, object: &Value) -> Vec<FieldError> {
        let mut errors = names::own_name(object);
        errors.extend(spec(object));
        errors.extend(status(object));
        errors.extend(names::approval(object, None));
        errors
    }

    fn validate_change(
        &self,
        _resource: &Resource,
        scope: crate::rest::Scope,
        object: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        if scope != crate::rest::Scope::Main {
            return names::check(object.at(&["status", "acceptedNames"]), "status.acceptedNames");
        }
        let mut errors = spec(object);
        errors.extend(status(object));
        errors.extend(names::approval(object, Some(old)));
        errors.extend(names::immutable(object, old));
        errors
    }

    fn warnings(&self, _resource: &Resource, object: &Value, _old: Option<&Value>) -> Vec<String> {
        schema::unknown_formats(object)
    }

    fn mark_deleted(&self, object: &mut Value, now: Timestamp) {
        let Some(metadata) = object.make_object(&["metadata"]) else { return };
        let finalizers = metadata.entry_or_insert_with("finalizers", || Value::Array(Vec::new()));
        if let Some(finalizers) = finalizers.as_array_mut()
            && !finalizers.iter().any(|name| name.as_str() == Some(definitions::FINALIZER))
        {
            finalizers.push(definitions::FINALIZER.into());
        }
        metadata.remove("deletionGracePeriodSeconds");
        conditions::set(object, conditions::PENDING_DELETION, now);
    }

    fn updates_unconditionally(&self, _resource: &Resource) -> bool {
        false
    }
}

/// The versions of a definition.
fn version_list(object: &Value) -> &[Value] {
    object.at(&["spec", "versions"]).and_then(Value::as_array).unwrap_or_default()
}

fn flag(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool) == Some(true)
}

/// Whatever has once been the stored version stays listed until somebody has migrated the objects.
fn note_stored_version(object: &mut Value) {
    let stored = version_list(object).iter().find(|version| flag(version, "storage"));
    let Some(name) = stored.map(|version| version.str_at(&["name"]).to_owned()) else { return };
    let Some(status) = object.make_object(&["status"]) else { return };
    let versions = status.entry_or_insert_with("storedVersions", || Value::Array(Vec::new()));
    if let Some(versions) = versions.as_array_mut()
        && !versions.iter().any(|version| version.as_str() == Some(&*name))
    {
        versions.push(name.into());
    }
}

fn spec(object: &Value) -> Vec<FieldError> {
    let mut errors = names::spec(object);
    errors.extend(versions::check(object));
    errors
}

fn status(object: &Value) -> Vec<FieldError> {
    let mut errors = names::check(object.at(&["status", "acceptedNames"]), "status.acceptedNames");
    errors.extend(versions::stored(object));
    errors
}
