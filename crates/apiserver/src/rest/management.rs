//! Field management at the endpoints: which fields writes to a resource or subresource can own, and the reading of applied
//! configurations. What ownership means is in `api::apply`.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use api::{
    Model, Resource, ResourceTable, Status, Value,
    apply::{FieldManager, Set, equal_but_for_times},
    json::{self, Parsed},
    model::{Gvk, TypeId},
    yaml,
};

use super::Call;
use crate::Server;

/// The manager of what the server itself writes.
pub(crate) const SERVER: &str = "kube-apiserver";
pub(crate) const MANAGED_FIELDS: [&str; 2] = ["metadata", "managedFields"];

/// Field management of one kind at one endpoint.
pub(crate) struct Management<'a> {
    pub server: &'a Arc<Server>,
    /// The model that `ty` is of.
    pub model: &'a Model,
    pub ty: TypeId,
    pub kind: &'a Gvk,
    /// `None` where the kind is not that of the resource's objects, as of a scale.
    pub resource: Option<&'a Resource>,
    pub subresource: &'a str,
    pub skip: &'static Set,
}

impl<'a> Management<'a> {
    pub(crate) fn of(server: &'a Arc<Server>, resource: &'a Resource, subresource: &'a str) -> Management<'a> {
        Management {
            server,
            model: resource.model(),
            ty: resource.ty,
            kind: &resource.kind,
            resource: Some(resource),
            subresource,
            skip: unowned(resource, subresource),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&FieldManager<'_>) -> T) -> T {
        let resources = self.server.resources.load();
        let knows = |version: &str| {
            let gvk = Gvk::of(version, &self.kind.kind);
            // Whether it is served now does not matter, only whether it is known.
            gvk == *self.kind || resources.by_kind(&gvk).or_else(|| ResourceTable::builtin().by_kind(&gvk)).is_some()
        };
        let now = api::time::format(self.server.clock.now());
        work(&FieldManager {
            model: self.model,
            ty: self.ty,
            kind: self.kind,
            resource: self.resource,
            subresource: self.subresource,
            skip: self.skip,
            knows: &knows,
            now: &now,
        })
    }

    /// Makes `manager` the owner of what it changed in `object`. An empty `live` is a create.
    pub(crate) fn update(&self, live: &Value, object: &mut Value, manager: &str) {
        self.with(|fields| fields.update(live, object, manager));
    }

    /// `live` with `config` applied. An empty `live` is a create.
    pub(crate) fn apply(&self, live: &Value, config: &Value, manager: &str, force: bool) -> Result<Value, Status> {
        self.with(|fields| fields.apply(live, config, manager, force)).map_err(|error| error.status())
    }
}

/// What writes through an endpoint cannot change: upstream's `GetResetFields` of the strategies.
pub(crate) fn reset(resource: &Resource, subresource: &str) -> &'static [&'static [&'static str]] {
    let (group, plural) = (&*resource.group, &*resource.plural);
    match (subresource, group, plural) {
        ("status", ..) if resource.custom.is_some() => &[&["spec"], &["metadata"]],
        ("", "certificates.k8s.io", "certificatesigningrequests") => &[&["spec"], &["status"]],
        ("", ..) if resource.has_status() => &[&["status"]],
        ("status", "apps", "deployments") => &[&["spec"], &["metadata", "labels"]],
        ("status", "", "pods") => &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]],
        ("status", "certificates.k8s.io", "certificatesigningrequests") => &[&["spec"], &["status", "conditions"]],
        ("approval", ..) => &[&["spec"], &["status", "certificate"]],
        ("finalize", ..) => &[&["status"]],
        (
            "status",
            "admissionregistration.k8s.io"
            | "internal.apiserver.k8s.io"
            | "flowcontrol.apiserver.k8s.io"
            | "resource.k8s.io"
            | "scheduling.k8s.io"
            | "storage.k8s.io"
            | "storagemigration.k8s.io",
            _,
        )
        | ("status", "networking.k8s.io", "servicecidrs") => &[&["spec"], &["metadata"]],
        ("status", ..) => &[&["spec"]],
        _ => &[],
    }
}

/// Whether a write to the status may change this part of the metadata too.
pub(crate) fn status_changes(resource: &Resource, name: &str) -> bool {
    let reset = reset(resource, "status");
    !reset.iter().any(|path| matches!(path, ["metadata"]) || *path == ["metadata", name].as_slice())
}

fn unowned(resource: &Resource, subresource: &str) -> &'static Set {
    shared(reset(resource, subresource))
}

pub(crate) fn unowned_of_scale() -> &'static Set {
    shared(&[])
}

/// One set for each list of [`reset`]: there are few, and every write needs one.
fn shared(paths: &'static [&'static [&'static str]]) -> &'static Set {
    type Sets = parking_lot::RwLock<HashMap<(usize, usize), &'static Set>>;
    static SETS: LazyLock<Sets> = LazyLock::new(Sets::default);
    let address = (paths.as_ptr() as usize, paths.len());
    if let Some(set) = SETS.read().get(&address) {
        return set;
    }
    let make = || Box::leak(Box::new(FieldManager::unowned(paths)));
    SETS.write().entry(address).or_insert_with(|| make())
}

/// Whether a write left an object as it was. That entries of managers got new times is no change.
pub(crate) fn is_unchanged(before: &Value, object: &Value) -> bool {
    let (Some(old), Some(new)) = (before.as_object(), object.as_object()) else { return false };
    let others = |value: &'_ Value, ignored: &[&str]| {
        value.as_object().map_or(0, |map| map.keys().filter(|name| !ignored.contains(name)).count())
    };
    const HEAD: [&str; 3] = ["kind", "apiVersion", "metadata"];
    const OWN: [&str; 3] = ["resourceVersion", "selfLink", "managedFields"];
    let same = |old: &Value, new: &Value, ignored: &[&str]| {
        let members = old.as_object().into_iter().flat_map(|map| map.iter());
        others(old, ignored) == others(new, ignored)
            && members.filter(|(name, _)| !ignored.contains(name)).all(|(name, value)| new.get(name) == Some(value))
    };
    let empty = Value::object();
    let (old_meta, new_meta) = (old.get("metadata").unwrap_or(&empty), new.get("metadata").unwrap_or(&empty));
    let (was, is) = (old_meta.get("managedFields"), new_meta.get("managedFields"));
    same(before, object, &HEAD) && same(old_meta, new_meta, &OWN) && (was == is || equal_but_for_times(was, is))
}

/// An applied configuration: YAML, of which JSON is a part. Members that stand twice are named, the last one counts.
pub(crate) fn read_config(call: &Call<'_>) -> Result<Parsed, Status> {
    if call.body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
        && let Ok(parsed) = json::parse_noting_repeats(&call.body)
    {
        return Ok(parsed);
    }
    yaml::parse(&call.body)
        .map_err(|error| Status::bad_request(format!("error decoding YAML: error converting YAML to JSON: {error}")))
}

/// Entries of managers pass by a strategy untouched.
pub(crate) fn aside<T>(object: &mut Value, work: impl FnOnce(&mut Value) -> T) -> T {
    let list = object.take(&MANAGED_FIELDS);
    let result = work(object);
    match list {
        Some(list) => object.set(&MANAGED_FIELDS, list),
        None => object.take(&MANAGED_FIELDS).is_some(),
    };
    result
}
