//! Metadata of every object: what the server sets, what it keeps, and what it checks (apiserver `pkg/registry/rest`
//! create.go and update.go, apimachinery `pkg/api/validation/objectmeta.go`).

use std::collections::HashSet;

use api::{Map, Resource, Status, Value, decode, names, status::FieldError};
use jiff::Timestamp;

use super::{NameRule, Strategy, gates};
use crate::rest::{management, write::Scope};

/// Fills in what the server decides about a new object.
pub fn prepare_create(
    resource: &Resource,
    strategy: &dyn Strategy,
    object: &mut Value,
    namespace: &str,
    now: Timestamp,
) -> Result<(), Status> {
    if resource.has_status() && !strategy.keeps_status_on_create() {
        reset_status(resource, object, None);
    }
    if !object.str_at(&["metadata", "resourceVersion"]).is_empty() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let Some(metadata) = object.make_object(&["metadata"]) else {
        return Err(Status::bad_request("metadata must be an object"));
    };
    if resource.namespaced {
        match metadata.get("namespace").and_then(Value::as_str).unwrap_or_default() {
            "" => {
                metadata.insert("namespace", namespace);
            }
            other if other != namespace => {
                return Err(Status::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            _ => {}
        }
    } else if metadata.get("namespace").and_then(Value::as_str).is_some_and(str::is_empty) {
        metadata.remove("namespace");
    }
    generate_name(metadata);
    for name in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
        metadata.remove(name);
    }
    metadata.insert("uid", new_uid());
    metadata.insert("creationTimestamp", api::time::format(now));
    if strategy.counts_generations(resource) {
        metadata.insert("generation", 1);
    } else {
        metadata.remove("generation");
    }
    gates::drop_disabled(resource, object, None);
    strategy.prepare_create(object);
    strategy.stamp(object, None, now);
    Ok(())
}

/// Puts the status back to what it was; an object always has one, where upstream's Go type holds it by value.
fn reset_status(resource: &Resource, object: &mut Value, old: Option<&Value>) {
    match old.cloned().or_else(|| decode::unsaid(resource.model(), resource.ty, "status")) {
        Some(status) => object.set(&["status"], status),
        None => object.take(&["status"]).is_some(),
    };
}

/// Names end in five characters without vowels, so that no words come out (apiserver `pkg/storage/names`).
fn generate_name(metadata: &mut Map) {
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (name, prefix) = (text("name"), text("generateName"));
    if !name.is_empty() || prefix.is_empty() {
        return;
    }
    let prefix: String = prefix.chars().take(names::LABEL_MAX - 5).collect();
    metadata.insert("name", format!("{prefix}{}", random_suffix()));
}

pub(crate) fn random_suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5).map(|_| ALPHABET[rand::random_range(0..ALPHABET.len())] as char).collect()
}

/// A random (version 4) UUID.
pub(crate) fn new_uid() -> String {
    let random: u128 = rand::random();
    let (version, variant) = (0xf << 76, 0b11 << 62);
    let hex = format!("{:032x}", (random & !version & !variant) | (0x4 << 76) | (0b10 << 62));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Metadata that no client changes.
const SERVER_OWNED: [&str; 4] = ["uid", "creationTimestamp", "selfLink", "generation"];

/// Keeps what this request may not change.
pub(crate) fn prepare_update(
    resource: &Resource,
    strategy: &dyn Strategy,
    scope: Scope,
    object: &mut Value,
    old: &Value,
    now: Timestamp,
) {
    if scope == Scope::Free {
        return strategy.prepare_part(object, old, now);
    }
    if scope == Scope::Status {
        keep_all_but_status(resource, object, old);
        gates::drop_disabled(resource, object, Some(old));
        strategy.prepare_status(object, old, now);
        return;
    }
    if resource.has_status() {
        reset_status(resource, object, old.get("status"));
    }
    keep_metadata(object, old);
    gates::drop_disabled(resource, object, Some(old));
    strategy.prepare_update(object, old);
    strategy.stamp(object, Some(old), now);
}

/// Counts a change through the main resource, once admission has had its say.
pub(crate) fn count_generation(resource: &Resource, strategy: &dyn Strategy, object: &mut Value, old: &Value) {
    let annotations = ["metadata", "annotations"];
    let is_change = differs_beyond_metadata(object, old, strategy.counts_status(resource))
        || strategy.counts_annotations() && object.at(&annotations) != old.at(&annotations);
    if strategy.counts_generations(resource) && is_change {
        let generation = old.at(&["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
        object.set(&["metadata", "generation"], generation + 1);
    }
}

fn keep_metadata(object: &mut Value, old: &Value) {
    for name in SERVER_OWNED {
        match old.at(&["metadata", name]) {
            Some(value) => object.set(&["metadata", name], value.clone()),
            None => object.take(&["metadata", name]).is_some(),
        };
    }
    // Nobody takes a deletion back; who says another one, or one of an object that lives, is refused.
    for (name, may_differ) in [("deletionTimestamp", false), ("deletionGracePeriodSeconds", true)] {
        if let Some(value) = old.at(&["metadata", name])
            && !(may_differ && object.at(&["metadata", name]).is_some())
        {
            object.set(&["metadata", name], value.clone());
        }
    }
    // A generateName tells where a name came from; leaving it out of an update does not unset it.
    if object.at(&["metadata", "generateName"]).is_none()
        && let Some(value) = old.at(&["metadata", "generateName"])
    {
        object.set(&["metadata", "generateName"], value.clone());
    }
}

fn keep_all_but_status(resource: &Resource, object: &mut Value, old: &Value) {
    let status = object.take(&["status"]);
    let metadata = object.take(&["metadata"]);
    *object = old.clone();
    match status {
        Some(status) => object.set(&["status"], status),
        None => object.take(&["status"]).is_some(),
    };
    let Some(mut metadata) = metadata else { return };
    // The version is what makes the update conditional; labels and annotations may come along where upstream lets them.
    for name in ["resourceVersion", "uid"] {
        match metadata.take(&[name]) {
            Some(value) => object.set(&["metadata", name], value),
            None => object.take(&["metadata", name]).is_some(),
        };
    }
    if object.at(&["metadata", "uid"]).is_none()
        && let Some(uid) = old.at(&["metadata", "uid"])
    {
        object.set(&["metadata", "uid"], uid.clone());
    }
    let changeable = ["labels", "annotations", "finalizers", "ownerReferences"];
    for name in changeable.into_iter().filter(|name| management::status_changes(resource, name)) {
        match metadata.take(&[name]) {
            Some(value) => object.set(&["metadata", name], value),
            None => object.take(&["metadata", name]).is_some(),
        };
    }
}

fn differs_beyond_metadata(object: &Value, old: &Value, with_status: bool) -> bool {
    let (Some(new), Some(old)) = (object.as_object(), old.as_object()) else { return true };
    // Served in several versions, the same object has several of them.
    let counts = |name: &str| !matches!(name, "metadata" | "apiVersion" | "kind") && (with_status || name != "status");
    let rest = |map: &Map| map.keys().filter(|name| counts(name)).count();
    rest(new) != rest(old)
        || new.iter().filter(|(name, _)| counts(name)).any(|(name, value)| old.get(name) != Some(value))
}

fn pairs<'m>(metadata: &'m Value, name: &str) -> impl Iterator<Item = (&'m str, &'m str)> {
    let map = metadata.get(name).and_then(Value::as_object);
    map.into_iter().flat_map(|map| map.iter()).map(|(key, value)| (key, value.as_str().unwrap_or_default()))
}

fn name_problems(rule: NameRule, name: &str) -> Vec<String> {
    match rule {
        NameRule::Subdomain => names::dns1123_subdomain(name),
        NameRule::Label => names::dns1123_label(name),
        NameRule::Label1035 => names::dns1035_label(name),
        NameRule::PathSegment => names::path_segment_name(name),
        NameRule::IpAddress => names::ip_address(name),
    }
}

/// Everything that is wrong with an object's metadata.
pub fn validate_meta(resource: &Resource, strategy: &dyn Strategy, object: &Value) -> Vec<FieldError> {
    let Some(metadata) = object.get("metadata") else {
        return vec![FieldError::required("metadata.name", "name or generateName is required")];
    };
    let mut errors = Vec::new();
    let prefix = metadata.str_at(&["generateName"]);
    if !prefix.is_empty() {
        let problems = name_problems(strategy.name_rule(), &names::masked_prefix(prefix));
        errors.extend(problems.into_iter().map(|why| FieldError::invalid("metadata.generateName", prefix, why)));
    }
    let name = metadata.str_at(&["name"]);
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        let problems = name_problems(strategy.name_rule(), name);
        errors.extend(problems.into_iter().map(|problem| FieldError::invalid("metadata.name", name, problem)));
    }
    let namespace = metadata.str_at(&["namespace"]);
    if resource.namespaced {
        let problems = names::dns1123_label(namespace);
        errors
            .extend(problems.into_iter().map(|problem| FieldError::invalid("metadata.namespace", namespace, problem)));
    } else if !namespace.is_empty() {
        errors.push(FieldError::forbidden("metadata.namespace", "not allowed on this type"));
    }
    errors.extend(names::labels(pairs(metadata, "labels"), "metadata.labels"));
    errors.extend(names::annotations(pairs(metadata, "annotations"), "metadata.annotations"));
    errors.extend(validate_finalizers(metadata));
    errors.extend(validate_owners(metadata));
    if names_finalizers(resource) {
        errors.extend(finalizers_of_no_domain(metadata));
    }
    errors
}

/// Whether upstream checks metadata of the kind with the core group's rules, which know Kubernetes' own finalizers.
fn names_finalizers(resource: &Resource) -> bool {
    const OTHERS: [&str; 5] =
        ["admissionregistration.k8s.io", "apiextensions.k8s.io", "coordination.k8s.io", "node.k8s.io", "policy"];
    resource.custom.is_none() && !OTHERS.contains(&&*resource.group) && &*resource.plural != "events"
}

/// Of such kinds, finalizers without a domain are Kubernetes' own (`validateKubeFinalizerName`).
fn finalizers_of_no_domain(metadata: &Value) -> impl Iterator<Item = FieldError> {
    let is_own = |name: &str| name == "kubernetes" || is_propagation(name);
    let foreign = finalizers(metadata).enumerate().filter(move |(_, name)| !name.contains('/') && !is_own(name));
    foreign.map(|(index, name)| {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        FieldError::invalid(format!("metadata.finalizers[{index}]"), name, detail)
    })
}

fn validate_finalizers(metadata: &Value) -> Vec<FieldError> {
    let finalizers: Vec<&str> = finalizers(metadata).collect();
    let mut errors = Vec::new();
    for &finalizer in &finalizers {
        let problems = names::qualified_name(finalizer);
        errors
            .extend(problems.into_iter().map(|problem| FieldError::invalid("metadata.finalizers", finalizer, problem)));
    }
    let has = |name: &str| finalizers.contains(&name);
    if has(crate::rest::ORPHAN_FINALIZER) && has(crate::rest::FOREGROUND_FINALIZER) {
        errors.push(FieldError::invalid(
            "metadata.finalizers",
            &finalizers,
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
    errors
}

fn validate_owners(metadata: &Value) -> Vec<FieldError> {
    let owners = metadata.get("ownerReferences").and_then(Value::as_array).unwrap_or_default();
    let mut errors = Vec::new();
    let mut controllers = 0;
    for owner in owners {
        // Without its place in the list, as upstream says it.
        let field = |name: &str| format!("metadata.ownerReferences.{name}");
        let version = owner.str_at(&["apiVersion"]);
        let has_version = match version.split_once('/') {
            Some((_, version)) => !version.is_empty() && !version.contains('/'),
            None => !version.is_empty(),
        };
        if !has_version {
            errors.push(FieldError::invalid(field("apiVersion"), version, "version must not be empty"));
        }
        for name in ["kind", "name", "uid"].into_iter().filter(|name| owner.str_at(&[name]).is_empty()) {
            errors.push(FieldError::invalid(field(name), "", "must not be empty"));
        }
        if version == "v1" && owner.str_at(&["kind"]) == "Event" {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid("metadata.ownerReferences", owner, detail));
        }
        controllers += usize::from(owner.get("controller").and_then(Value::as_bool) == Some(true));
    }
    if controllers > 1 {
        errors.push(FieldError::invalid(
            "metadata.ownerReferences",
            controllers,
            "Only one reference can have Controller set to true",
        ));
    }
    errors
}

/// What an update may not do to metadata.
pub fn validate_meta_update(resource: &Resource, object: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate_meta(resource, super::of(resource), object);
    let fixed = ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];
    for name in fixed {
        let (new, old) = (object.at(&["metadata", name]), old.at(&["metadata", name]));
        if new != old {
            let shown = new.cloned().unwrap_or_default();
            errors.push(FieldError::invalid(format!("metadata.{name}"), shown, "field is immutable"));
        }
    }
    // Once an object is being deleted, finalizers can only go.
    if old.at(&["metadata", "deletionTimestamp"]).is_some() {
        let before: HashSet<&str> = old.get("metadata").into_iter().flat_map(finalizers).collect();
        let now = object.get("metadata").into_iter().flat_map(finalizers);
        let added: Vec<&str> = now.filter(|name| !before.contains(name) && !is_propagation(name)).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", detail));
        }
    }
    errors
}

fn finalizers(metadata: &Value) -> impl Iterator<Item = &str> {
    let list = metadata.get("finalizers").and_then(Value::as_array).unwrap_or_default();
    list.iter().filter_map(Value::as_str)
}

fn is_propagation(name: &str) -> bool {
    name == crate::rest::ORPHAN_FINALIZER || name == crate::rest::FOREGROUND_FINALIZER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_random_uuids_of_version_4() {
        for _ in 0..64 {
            let uid = new_uid();
            let parts: Vec<usize> = uid.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{uid}");
            assert_eq!(&uid[14..15], "4", "{uid}");
            assert!(matches!(&uid[19..20], "8" | "9" | "a" | "b"), "{uid}");
        }
        assert_ne!(new_uid(), new_uid());
    }
}
