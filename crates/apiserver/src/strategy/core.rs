//! Strategies of the smaller kinds.

use api::{Resource, Value, model::Gvk, names, status::FieldError};

use super::{NameRule, Strategy, event};

fn strings(value: Option<&Value>) -> impl Iterator<Item = (&str, &Value)> {
    value.and_then(Value::as_object).into_iter().flat_map(|map| map.iter())
}

/// Refuses a change of `path` where `immutable` is set in the old object.
fn keep(object: &Value, old: &Value, path: &[&str], errors: &mut Vec<FieldError>) {
    if object.at(path) != old.at(path) {
        let value = object.at(path).map(Value::to_string).unwrap_or_else(|| "null".into());
        errors.push(FieldError::new(api::status::FieldErrorKind::Invalid, path.join("."), value, "field is immutable"));
    }
}

/// Namespaces carry their own finalizer in the spec, and their name as a label.
pub struct Namespaces;

impl Strategy for Namespaces {
    fn fields(&self) -> &'static [&'static str] {
        &["status.phase"]
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status", "phase"], "Active");
        object.set(&["spec", "finalizers"], vec![Value::from("kubernetes")]);
        label_with_name(object);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        // The spec's finalizers change through the finalize subresource only.
        match old.get("spec") {
            Some(spec) => object.set(&["spec"], spec.clone()),
            None => object.take(&["spec"]).is_some(),
        };
        label_with_name(object);
    }

    fn counts_generations(&self, _resource: &Resource) -> bool {
        false
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }
}

fn label_with_name(object: &mut Value) {
    let name = object.str_at(&["metadata", "name"]).to_owned();
    if !name.is_empty() {
        object.set(&["metadata", "labels", "kubernetes.io/metadata.name"], name);
    }
}

pub struct Nodes;

impl Strategy for Nodes {
    fn fields(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn keeps_status_on_create(&self) -> bool {
        true
    }

    fn counts_generations(&self, _resource: &Resource) -> bool {
        false
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        // A node's pod range is given once.
        if !old.str_at(&["spec", "podCIDR"]).is_empty() {
            keep(object, old, &["spec", "podCIDR"], &mut errors);
        }
        errors
    }
}

/// Kinds with a status whose generation upstream does not count.
pub struct WithoutGeneration;

impl Strategy for WithoutGeneration {
    fn counts_generations(&self, _resource: &Resource) -> bool {
        false
    }
}

/// Data keys and total size, shared by Secrets and ConfigMaps.
fn validate_data(object: &Value, fields: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut total = 0;
    for field in fields {
        for (key, value) in strings(object.get(field)) {
            for problem in names::config_map_key(key) {
                errors.push(FieldError::invalid(format!("{field}[{key}]"), key, problem));
            }
            total += value.as_str().map_or(0, str::len);
        }
    }
    if total > DATA_MAX {
        errors.push(FieldError::too_long("", DATA_MAX));
    }
    errors
}

/// Bytes of data that a ConfigMap or Secret holds at most.
const DATA_MAX: usize = 1 << 20;

fn validate_immutable(object: &Value, old: &Value, fields: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old.get("immutable").and_then(Value::as_bool) == Some(true) {
        if object.get("immutable").and_then(Value::as_bool) != Some(true) {
            errors.push(FieldError::forbidden("immutable", "field is immutable when `immutable` is set"));
        }
        for field in fields {
            if object.get(field) != old.get(field) {
                errors.push(FieldError::forbidden(*field, "field is immutable when `immutable` is set"));
            }
        }
    }
    errors
}

pub struct ConfigMaps;

impl Strategy for ConfigMaps {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = validate_data(object, &["data", "binaryData"]);
        for (key, _) in strings(object.get("data")) {
            if object.at(&["binaryData", key]).is_some() {
                errors.push(FieldError::invalid(format!("data[{key}]"), key, "duplicate of key present in binaryData"));
            }
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        validate_immutable(object, old, &["data", "binaryData"])
    }
}

pub struct Secrets;

impl Strategy for Secrets {
    fn fields(&self) -> &'static [&'static str] {
        &["type"]
    }

    /// `stringData` is for writing only: it goes into `data`.
    fn prepare_create(&self, object: &mut Value) {
        fold_string_data(object);
    }

    fn prepare_update(&self, object: &mut Value, _old: &Value) {
        fold_string_data(object);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = validate_data(object, &["data"]);
        let required: &[&str] = match object.str_at(&["type"]) {
            "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
            "kubernetes.io/dockercfg" => &[".dockercfg"],
            "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
            "kubernetes.io/tls" => &["tls.crt", "tls.key"],
            _ => &[],
        };
        for key in required {
            if object.at(&["data", key]).is_none() {
                errors.push(FieldError::required(format!("data[{key}]"), ""));
            }
        }
        if object.str_at(&["type"]) == "kubernetes.io/service-account-token"
            && object.at(&["metadata", "annotations", "kubernetes.io/service-account.name"]).is_none()
        {
            errors.push(FieldError::required("metadata.annotations[kubernetes.io/service-account.name]", ""));
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = validate_immutable(object, old, &["data"]);
        keep(object, old, &["type"], &mut errors);
        errors
    }
}

fn fold_string_data(object: &mut Value) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let Some(Value::Object(plain)) = object.take(&["stringData"]) else { return };
    for (key, value) in plain {
        object.set(&["data", &key], STANDARD.encode(value.as_str().unwrap_or_default()));
    }
}

pub struct Events;

impl Strategy for Events {
    fn fields(&self) -> &'static [&'static str] {
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]
    }

    fn field_sources(&self, field: &str) -> &'static [&'static str] {
        if field == "source" { &["source.component", "reportingComponent"] } else { &[] }
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn validate_served(&self, served: &Gvk, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        event::validate(served, object, old)
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }
}

pub struct Endpoints;

impl Strategy for Endpoints {
    fn creates_on_update(&self) -> bool {
        true
    }
}

pub struct EndpointSlices;

impl Strategy for EndpointSlices {
    fn counts_generations(&self, _resource: &Resource) -> bool {
        true
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        keep(object, old, &["addressType"], &mut errors);
        errors
    }
}

/// Leases: a PUT makes what is missing.
pub struct CreatesOnUpdate;

impl Strategy for CreatesOnUpdate {
    fn creates_on_update(&self) -> bool {
        true
    }

    fn updates_unconditionally(&self) -> bool {
        false
    }
}

pub struct Rbac;

impl Strategy for Rbac {
    fn creates_on_update(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let Some(role) = object.get("roleRef") else { return Vec::new() };
        let mut errors = Vec::new();
        let allowed: &[&str] =
            if object.at(&["metadata", "namespace"]).is_some() { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
        let kind = role.str_at(&["kind"]);
        if !allowed.contains(&kind) {
            errors.push(FieldError::not_supported("roleRef.kind", kind, allowed));
        }
        if role.str_at(&["name"]).is_empty() {
            errors.push(FieldError::required("roleRef.name", ""));
        }
        for (index, subject) in object.get("subjects").and_then(Value::as_array).unwrap_or_default().iter().enumerate()
        {
            let kinds = ["ServiceAccount", "User", "Group"];
            if !kinds.contains(&subject.str_at(&["kind"])) {
                errors.push(FieldError::not_supported(
                    format!("subjects[{index}].kind"),
                    subject.str_at(&["kind"]),
                    &kinds,
                ));
            }
            if subject.str_at(&["name"]).is_empty() {
                errors.push(FieldError::required(format!("subjects[{index}].name"), ""));
            }
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        if object.get("roleRef") != old.get("roleRef") {
            let value = object.get("roleRef").map(Value::to_string).unwrap_or_default();
            let detail = "cannot change roleRef";
            return vec![FieldError::new(api::status::FieldErrorKind::Invalid, "roleRef", value, detail)];
        }
        Vec::new()
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }
}

/// The addresses of Services: an object is named after the address that it reserves.
pub struct IpAddresses;

impl Strategy for IpAddresses {
    fn name_rule(&self) -> NameRule {
        NameRule::IpAddress
    }
}

pub struct SigningRequests;

impl Strategy for SigningRequests {
    fn fields(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn counts_generations(&self, _resource: &Resource) -> bool {
        false
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        if let Some(spec) = old.get("spec") {
            object.set(&["spec"], spec.clone());
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for field in ["request", "signerName"] {
            if object.str_at(&["spec", field]).is_empty() {
                errors.push(FieldError::required(format!("spec.{field}"), ""));
            }
        }
        if object.at(&["spec", "usages"]).and_then(Value::as_array).unwrap_or_default().is_empty() {
            errors.push(FieldError::required("spec.usages", "usages must be provided"));
        }
        errors
    }
}
