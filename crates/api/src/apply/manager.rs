//! Field management of one kind at one endpoint: what a request's handler asks for (`managedfields/internal/fieldmanager.go`
//! and the managers it is made of).

use super::{
    conflict::ApplyError,
    last_applied,
    managed::{Entry, Managed, ManagedError, Operation},
    path::Path,
    set::Set,
    updater::Updater,
    validate::{Duplicates, validate},
    versions::Versions,
};
use crate::{
    model::{Gvk, Model, TypeId},
    resource::Resource,
    value::Value,
};

const MANAGED_FIELDS: [&str; 2] = ["metadata", "managedFields"];
/// Who owns what was there before anyone kept count.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

pub struct FieldManager<'a> {
    pub model: &'a Model,
    pub ty: TypeId,
    /// As the request names it.
    pub kind: &'a Gvk,
    /// What the kind is of, where entries may be of versions with another schema.
    pub resource: Option<&'a Resource>,
    /// Empty for the main resource.
    pub subresource: &'a str,
    /// See [`FieldManager::unowned`].
    pub skip: &'a Set,
    /// Whether a version, as `apps/v1`, is still served.
    pub knows: &'a dyn Fn(&str) -> bool,
    /// RFC 3339.
    pub now: &'a str,
}

impl FieldManager<'_> {
    /// The paths that nobody owns: the server's part of the metadata, and `reset`, which writes to this endpoint cannot
    /// change.
    pub fn unowned(reset: &[&[&str]]) -> Set {
        const SERVERS: [&str; 9] = [
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        ];
        let servers = SERVERS.iter().map(|name| Path::of(&["metadata", name]));
        let kind = ["apiVersion", "kind"].iter().map(|name| Path::of(&[name]));
        servers.chain(kind).chain(reset.iter().map(|path| Path::of(path))).collect()
    }

    /// Brings the entries of `object`, which is to replace `live`, up to date. An empty `live` is a create.
    ///
    /// Never fails: where the entries cannot be read the object goes without.
    pub fn update(&self, live: &Value, object: &mut Value, manager: &str) {
        let present = self.present(live, object);
        let list = self.updated(live, object, present, manager).unwrap_or_default();
        put(object, list);
    }

    fn updated(
        &self,
        live: &Value,
        object: &Value,
        mut managed: Managed,
        manager: &str,
    ) -> Result<Vec<Value>, ManagedError> {
        let is_create = live.str_at(&["metadata", "uid"]).is_empty();
        // What was never counted, or is no longer, stays so until the first apply.
        if !managed.is_empty() || is_create {
            let me = self.entry(manager, Operation::Update);
            self.updater().update(live, object, &mut managed, Entry { time: Some(self.now.into()), ..me })?;
            managed.cap()?;
        }
        Ok(managed.into_list())
    }

    /// The entries that an update starts from: those of the object itself, so that clients can change them, unless they
    /// make no sense or come through a subresource. They leave the object.
    fn present(&self, live: &Value, object: &mut Value) -> Managed {
        let given = object.take(&MANAGED_FIELDS);
        let stored = live.at(&MANAGED_FIELDS);
        let of_live = || stored.cloned().and_then(|list| Managed::stored(list).ok()).unwrap_or_default();
        match given {
            None => of_live(),
            // The usual case: the client gives back what it got.
            Some(list) if Some(&list) == stored => Managed::stored(list).unwrap_or_default(),
            Some(_) if !self.subresource.is_empty() => of_live(),
            Some(list) if is_reset(&list) => Managed::default(),
            Some(list) => match Managed::given(list) {
                Ok(managed) if !managed.is_empty() => managed,
                _ => of_live(),
            },
        }
    }

    /// What `live` becomes when `manager` applies `config`, with its entries. Fields may be null: they still have to be
    /// decoded, and defaults filled in. An empty `live` is a create.
    pub fn apply(&self, live: &Value, config: &Value, manager: &str, force: bool) -> Result<Value, ApplyError> {
        self.check(config)?;
        let mut managed = Managed::stored(live.at(&MANAGED_FIELDS).cloned().unwrap_or_default())?;
        let updater = self.updater();
        if managed.is_empty() {
            let before = self.entry(BEFORE_FIRST_APPLY, Operation::Update);
            let before = Entry { time: Some(self.now.into()), ..before };
            updater.update(&Value::object(), live, &mut managed, before)?;
            managed.cap()?;
        }
        let me = self.entry(manager, Operation::Apply);
        let mut after = managed.clone();
        let mut object = match updater.apply(live, config, &mut after, &me, force) {
            Err(ApplyError::Conflicts(conflicts)) if manager == last_applied::KUBECTL => {
                last_applied::excuse(&updater, live, &self.kind.api_version(), conflicts)?;
                after = managed;
                updater.apply(live, config, &mut after, &me, true)?
            }
            result => result?,
        };
        if object != *live
            && let Some(at) = after.position(&me)
        {
            after.entries[at].time = Some(self.now.into());
        }
        put(&mut object, after.into_list());
        if manager == last_applied::KUBECTL {
            last_applied::follow(&mut object, config);
        }
        Ok(object)
    }

    /// The configuration is of this kind and version, and fits its schema.
    fn check(&self, config: &Value) -> Result<(), ApplyError> {
        let gvk = Gvk::of(config.str_at(&["apiVersion"]), config.str_at(&["kind"]));
        if gvk != *self.kind {
            return Err(ApplyError::Kind(format!("{}, Kind={}", slashed(&gvk), gvk.kind)));
        }
        if config.at(&MANAGED_FIELDS).is_some_and(|list| !list.is_null()) {
            return Err(ApplyError::ManagedFields);
        }
        validate(self.model, self.ty, config, Duplicates::Refused).map_err(|error| {
            let (namespace, name) = (config.str_at(&["metadata", "namespace"]), config.str_at(&["metadata", "name"]));
            ApplyError::Config { object: format!("{namespace}/{name}; {}, Kind={}", slashed(&gvk), gvk.kind), error }
        })
    }

    fn updater(&self) -> Updater<'_> {
        Updater {
            model: self.model,
            ty: self.ty,
            versions: Versions { ty: self.ty, resource: self.resource },
            skip: self.skip,
            knows: self.knows,
        }
    }

    fn entry(&self, manager: &str, operation: Operation) -> Entry {
        let manager = if manager.is_empty() { "unknown" } else { manager };
        Entry::new(manager, operation, &self.kind.api_version(), self.subresource, Set::new())
    }
}

/// `apps/v1`, `/v1`: as Go prints a kind.
fn slashed(gvk: &Gvk) -> String {
    format!("{}/{}", gvk.group, gvk.version)
}

/// A client asks for all entries to be forgotten by an empty list, or by one empty entry.
fn is_reset(list: &Value) -> bool {
    match list.as_array() {
        Some([]) => true,
        Some([entry]) => entry.as_object().is_some_and(|entry| entry.values().all(is_zero)),
        _ => false,
    }
}

fn is_zero(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

fn put(object: &mut Value, list: Vec<Value>) {
    if list.is_empty() {
        object.take(&MANAGED_FIELDS);
    } else {
        object.set(&MANAGED_FIELDS, list);
    }
}

impl From<super::fields::FieldsError> for ApplyError {
    fn from(error: super::fields::FieldsError) -> ApplyError {
        ApplyError::Live(error.into())
    }
}
