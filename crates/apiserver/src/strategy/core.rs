//! Strategies of the smaller kinds.

use std::collections::HashSet;

use api::{Resource, Value, model::Gvk, names, status::FieldError};
use jiff::Timestamp;

use super::{NameRule, Strategy, validate};

/// Namespaces carry their own finalizer in the spec, and their name as a label.
pub struct Namespaces;

impl Strategy for Namespaces {
    fn fields(&self) -> &'static [&'static str] {
        &["status.phase"]
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status", "phase"], "Active");
        let mut finalizers = object.at(&["spec", "finalizers"]).and_then(Value::as_array).unwrap_or_default().to_vec();
        if !finalizers.iter().any(|name| name.as_str() == Some("kubernetes")) {
            finalizers.push("kubernetes".into());
        }
        object.set(&["spec", "finalizers"], finalizers);
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

    /// Configuration by the API is gone: only nodes that have some keep it.
    fn prepare_create(&self, object: &mut Value) {
        object.take(&["spec", "configSource"]);
        object.take(&["status", "config"]);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        if old.at(&["spec", "configSource"]).is_none() {
            object.take(&["spec", "configSource"]);
        }
    }

    fn prepare_status(&self, object: &mut Value, old: &Value, _now: Timestamp) {
        if old.at(&["status", "config"]).is_none() {
            object.take(&["status", "config"]);
        }
    }

    fn counts_generations(&self, _resource: &Resource) -> bool {
        false
    }
}

/// Kinds whose generations upstream counts although they have no status, or does not although they have one.
pub struct Generations(pub bool);

impl Strategy for Generations {
    fn counts_generations(&self, _resource: &Resource) -> bool {
        self.0
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
}

fn fold_string_data(object: &mut Value) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let Some(Value::Object(plain)) = object.take(&["stringData"]) else { return };
    for (key, value) in plain {
        object.set(&["data", &key], STANDARD.encode(value.as_str().unwrap_or_default()));
    }
}

/// Their generation stays what it was first.
pub struct PriorityClasses;

impl Strategy for PriorityClasses {
    fn prepare_create(&self, object: &mut Value) {
        object.set(&["metadata", "generation"], 1);
    }

    fn counts_generations(&self, _resource: &Resource) -> bool {
        false
    }
}

/// References to Secrets are names.
pub struct ServiceAccounts;

impl Strategy for ServiceAccounts {
    fn prepare_create(&self, object: &mut Value) {
        clean_secrets(object);
    }

    fn prepare_update(&self, object: &mut Value, _old: &Value) {
        clean_secrets(object);
    }
}

fn clean_secrets(object: &mut Value) {
    for secret in object.at_mut(&["secrets"]).and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(secret) = secret.as_object_mut() {
            secret.retain(|name, _| name == "name");
        }
    }
}

/// Topologies of endpoints are from before v1, which takes none: only the node's name of one comes over into the field that
/// is for it now (`dropTopologyOnV1`).
pub struct EndpointSlices;

impl Strategy for EndpointSlices {
    fn prepare_create(&self, object: &mut Value) {
        drop_topologies(object, None);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        if object.get("endpoints") != old.get("endpoints") {
            drop_topologies(object, Some(old));
        }
    }

    fn counts_generations(&self, _resource: &Resource) -> bool {
        true
    }
}

fn drop_topologies(object: &mut Value, old: Option<&Value>) {
    const NODE: [&str; 2] = ["deprecatedTopology", "kubernetes.io/hostname"];
    let before = old.and_then(|old| old.get("endpoints")?.as_array()).unwrap_or_default();
    let known: HashSet<&str> = before.iter().map(|endpoint| endpoint.str_at(&NODE)).collect();
    for endpoint in object.at_mut(&["endpoints"]).and_then(Value::as_array_mut).into_iter().flatten() {
        let node = endpoint.str_at(&NODE).to_owned();
        let is_known = known.contains(&*node) && names::dns1123_subdomain(&node).is_empty();
        if is_known && endpoint.get("nodeName").is_none() {
            endpoint.set(&["nodeName"], node);
        }
        endpoint.take(&["deprecatedTopology"]);
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

    fn validate_served(&self, served: &Gvk, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        validate::event(served, object, old)
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }
}

pub struct Rbac;

impl Strategy for Rbac {
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
