//! What all writes share: reading the client's object, and carrying a change through admission, validation and a
//! compare-and-swap into the store.

use std::{borrow::Cow, sync::Arc};

use api::{
    Resource, Status, Value,
    decode::{self, Defaults},
    json::{self, Parsed, Repeats},
    status::FieldError,
};
use bytes::Bytes;
use store::{Error as StoreError, Revision};

use super::{
    management::{self, Management},
    store_status,
};
use crate::{
    Server,
    admission::{Operation, Review},
    alloc::Fate,
    auth::UserInfo,
    cache::{Object, Shelf, stored_bytes},
    strategy,
};

/// Bodies above this are refused, as upstream refuses them.
pub(crate) const BODY_BYTES_MAX: usize = 3 << 20;

/// How often a change is tried again when others write the same object at the same time.
const RETRIES: usize = 64;

/// What the client wants done about members that the schema does not have or that stand twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    pub(crate) fn parse(text: &str) -> Option<FieldValidation> {
        match text {
            "" | "Warn" => Some(FieldValidation::Warn),
            "Strict" => Some(FieldValidation::Strict),
            "Ignore" => Some(FieldValidation::Ignore),
            _ => None,
        }
    }
}

/// Reads an object of `kind_of` from a client's tree. Gives the warnings that go with the answer.
pub(crate) fn read_object(
    resource: &Resource,
    parsed: Parsed,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let Parsed { value: mut object, repeats } = parsed;
    check_kind(resource, &object)?;
    let findings = decode::decode(resource.model(), resource.ty, &mut object, Defaults::On).map_err(|error| {
        let kind = &resource.kind;
        Status::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: {error}",
            kind.kind, kind.version, kind.kind
        ))
    })?;
    let strict = strictness(resource, &findings.unknown, &repeats);
    match validation {
        FieldValidation::Strict if !strict.is_empty() => Err(Status::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
            resource.kind.kind,
            resource.kind.version,
            resource.kind.kind,
            strict.join(", ")
        ))),
        FieldValidation::Warn => Ok((object, strict)),
        _ => Ok((object, Vec::new())),
    }
}

/// Complaints of a strict decoder. Custom resources are read without a schema first, so that duplicates come before what is
/// unknown, and include it.
fn strictness(resource: &Resource, unknown: &[String], repeats: &Repeats) -> Vec<String> {
    if resource.custom.is_none() {
        return repeats.complaints(unknown);
    }
    let mut complaints = repeats.complaints(&[]);
    complaints.extend(unknown.iter().map(|path| json::unknown_field(path)));
    complaints
}

fn check_kind(resource: &Resource, object: &Value) -> Result<(), Status> {
    if object.as_object().is_none() {
        return Err(Status::bad_request("the object provided is not a JSON object"));
    }
    let (kind, version) = (object.str_at(&["kind"]), object.str_at(&["apiVersion"]));
    let expected = resource.kind.api_version();
    // A typed client may leave both out: the path says what it is.
    if !kind.is_empty() && kind != &*resource.kind.kind {
        return Err(Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {}: no kind \"{kind}\" is registered for this path",
            resource.kind.kind
        )));
    }
    if !version.is_empty() && version != expected {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({expected})"
        )));
    }
    Ok(())
}

/// What has become of an object.
pub(crate) enum Outcome {
    Stored(Object),
    /// Nothing changed: the object as it was.
    Unchanged(Arc<Object>),
    /// The change took the last finalizer of an object that was being deleted.
    Deleted(Arc<Object>),
}

impl Outcome {
    pub(crate) fn is_deleted(&self) -> bool {
        matches!(self, Outcome::Deleted(_))
    }

    pub(crate) fn object(&self) -> &Object {
        match self {
            Outcome::Stored(object) => object,
            Outcome::Unchanged(object) | Outcome::Deleted(object) => object,
        }
    }
}

/// A change of one object that exists.
pub(crate) struct Change<'a> {
    pub server: &'a Arc<Server>,
    /// The hub: see [`ResourceTable::hub`](api::ResourceTable::hub).
    pub resource: &'a Arc<Resource>,
    /// The version of the request: what the change is of, and what managers own fields of.
    pub served: &'a Arc<Resource>,
    /// The request's.
    pub verb: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub user: &'a UserInfo,
    pub dry_run: bool,
    /// Who becomes the owner of what the change changes; without, entries of managers are as the change leaves them.
    pub manager: Option<&'a str>,
}

/// The parts of an object that a request may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything but the status.
    Main,
    Status,
    /// Whatever the change function does: used by subresources that know what they touch.
    Free,
}

impl Change<'_> {
    fn key(&self) -> String {
        self.resource.object_key(self.namespace, self.name)
    }

    pub(crate) fn shelf(&self) -> Result<Arc<Shelf>, Status> {
        self.server.cache.shelf(self.resource).ok_or_else(Status::no_such_resource)
    }

    fn not_found(&self) -> Status {
        Status::not_found(&self.resource.group, &self.resource.plural, self.name)
    }

    /// Applies `change` to the newest state until it is stored. `change` gets the present object, in the version of the
    /// request and with its resourceVersion, and gives the one wanted; a resourceVersion in it makes the change conditional on that version.
    pub(crate) async fn run(
        &self,
        scope: Scope,
        change: impl FnMut(&Value) -> Result<Value, Status>,
    ) -> Result<Outcome, Status> {
        self.run_warning(scope, change, &mut Vec::new()).await
    }

    /// The same; `warnings` becomes what admission wants the client told.
    pub(crate) async fn run_warning(
        &self,
        scope: Scope,
        mut change: impl FnMut(&Value) -> Result<Value, Status>,
        warnings: &mut Vec<String>,
    ) -> Result<Outcome, Status> {
        let shelf = self.shelf()?;
        let mut fresh = false;
        let mut current = shelf.get(&self.key());
        for _ in 0..RETRIES {
            let Some(old) = current.clone() else {
                // The cache may only be behind.
                if fresh {
                    return Err(self.not_found());
                }
                fresh = true;
                self.server.cache.wait_until_current().await?;
                current = shelf.get(&self.key());
                continue;
            };
            // What the store had no say in may be true of an older state only: it counts once that is the newest.
            let ended = match self.attempt(&old, scope, &mut change, warnings).await {
                Err(Attempt::Raced) => None,
                Ok(Outcome::Unchanged(object)) if !fresh => Some(Ok(Outcome::Unchanged(object))),
                Err(Attempt::Fail(status)) if !fresh => Some(Err(*status)),
                Err(Attempt::Fail(status)) => return Err(*status),
                Ok(outcome) => return Ok(outcome),
            };
            self.server.cache.wait_until_current().await?;
            fresh = true;
            current = shelf.get(&self.key());
            if let Some(ended) = ended
                && current.as_ref().is_some_and(|newest| newest.revision == old.revision)
            {
                return ended;
            }
        }
        Err(Status::conflict(
            &self.resource.group,
            &self.resource.plural,
            self.name,
            "the object is being changed too often; please try again",
        ))
    }

    async fn attempt(
        &self,
        old: &Arc<Object>,
        scope: Scope,
        change: &mut impl FnMut(&Value) -> Result<Value, Status>,
        warnings: &mut Vec<String>,
    ) -> Result<Outcome, Attempt> {
        let before = old.tree();
        let mut object = self.changed(&before, change)?;
        if scope == Scope::Free && self.subresource.is_empty() {
            // A step of a deletion, which was admitted as such: what is stored must be deletable, valid or not.
            return self.commit(old, &before, object).await;
        }
        let strategy = strategy::of(self.resource);
        management::aside(&mut object, |object| {
            strategy::prepare_update(self.resource, strategy, scope, object, &before, self.server.clock.now())
        });
        let review = self.review(&before);
        self.server.admission.admit(&review, &mut object).await?;
        if scope == Scope::Main {
            strategy::count_generation(self.resource, strategy, &mut object, &before);
        }
        let mut errors = strategy::validate_meta_update(self.resource, &object, &before);
        errors.extend(strategy.validate_change(self.resource, scope, &object, &before));
        errors.extend(strategy.validate_served(&self.served.kind, &object, Some(&before)));
        if !errors.is_empty() {
            return Err(Attempt::from(Status::invalid(
                &self.resource.group,
                &self.resource.kind.kind,
                self.name,
                errors,
            )));
        }
        warnings.clear();
        if scope == Scope::Main {
            warnings.extend(strategy.warnings(self.resource, &object, Some(&before)));
        }
        let admitted = self.server.admission.validate(&review, &object).await;
        warnings.extend(review.warnings.into_inner());
        admitted?;
        let exchange = self.server.before_update(self, &before, &mut object).await?;
        let committed = self.commit(old, &before, object).await;
        let fate = match &committed {
            Ok(_) => Fate::Written,
            Err(Attempt::Raced) => Fate::Failed,
            Err(Attempt::Fail(status)) => Fate::of(status),
        };
        self.server.settle(exchange, fate).await;
        committed
    }

    /// What a request makes of a stored object. It works in its own version; what others see of it is the stored one.
    fn changed(
        &self,
        before: &Value,
        change: &mut impl FnMut(&Value) -> Result<Value, Status>,
    ) -> Result<Value, Status> {
        let mut shown = Cow::Borrowed(before);
        if !self.served.is_storage_version() {
            self.served.from_stored(shown.to_mut());
        }
        let mut object = change(&shown)?;
        self.check_version(before, &object)?;
        if let Some(manager) = self.manager {
            Management::of(self.server, self.served, self.subresource).update(&shown, &mut object, manager);
        }
        self.served.to_stored(&mut object);
        Ok(object)
    }

    async fn commit(&self, old: &Arc<Object>, before: &Value, mut object: Value) -> Result<Outcome, Attempt> {
        if is_finished(&object) {
            return self.delete(old).await;
        }
        if management::is_unchanged(before, &object) && self.is_current().await? {
            return Ok(Outcome::Unchanged(old.clone()));
        }
        let shelf = self.shelf()?;
        let mut bytes = stored_bytes(&shelf.resource, &mut object);
        let revision = match self.put(old, &bytes).await {
            // Better without the entries of managers than not at all.
            Err(StoreError::TooLarge { .. }) if self.manager.is_some() => {
                object.take(&management::MANAGED_FIELDS);
                bytes = stored_bytes(&shelf.resource, &mut object);
                self.put(old, &bytes).await
            }
            result => result,
        };
        let revision = match revision {
            Ok(revision) => revision,
            Err(StoreError::Conflict { .. }) => return Err(Attempt::Raced),
            Err(error) => return Err(store_status(error).into()),
        };
        let stored = Object::of(&shelf.resource, &shelf.fields, &old.key, revision, &bytes, object);
        stored.map(Outcome::Stored).map_err(|error| Status::internal(error).into())
    }

    /// Whether the object is stored as it would be written now: after a rotation of keys it is not.
    async fn is_current(&self) -> Result<bool, Attempt> {
        let key = self.resource.storage_key(self.namespace, self.name);
        self.server.store.is_current(&key).await.map_err(|error| store_status(error).into())
    }

    async fn put(&self, old: &Object, bytes: &Bytes) -> Result<Revision, StoreError> {
        if self.dry_run {
            return Ok(old.revision);
        }
        let key = self.resource.storage_key(self.namespace, self.name);
        self.server.store.update(&key, bytes.clone(), old.revision, self.server.ttl(self.resource)).await
    }

    /// The last step of a deletion.
    pub(crate) async fn delete(&self, old: &Arc<Object>) -> Result<Outcome, Attempt> {
        if self.dry_run {
            return Ok(Outcome::Deleted(old.clone()));
        }
        let key = self.resource.storage_key(self.namespace, self.name);
        match self.server.store.delete(&key, old.revision).await {
            Ok(revision) => {
                let gone = Arc::new(old.at_revision(revision));
                self.server.after_delete(self, &gone).await;
                Ok(Outcome::Deleted(gone))
            }
            Err(StoreError::Conflict { .. }) => Err(Attempt::Raced),
            Err(error) => Err(store_status(error).into()),
        }
    }

    fn review<'r>(&'r self, old: &'r Value) -> Review<'r> {
        Review {
            server: self.server,
            operation: Operation::Update,
            verb: self.verb,
            resource: self.resource,
            subresource: self.subresource,
            namespace: self.namespace,
            name: self.name,
            user: self.user,
            dry_run: self.dry_run,
            old: Some(old),
            warnings: Default::default(),
        }
    }

    /// A change that names a version applies to that version only; one that names a UID to that object only.
    fn check_version(&self, before: &Value, object: &Value) -> Result<(), Status> {
        let path = ["metadata", "resourceVersion"];
        let (have, want) = (before.str_at(&path), object.str_at(&path));
        let conflict = |why: &str| Err(Status::conflict(&self.resource.group, &self.resource.plural, self.name, why));
        let is_whole = matches!(self.subresource, "" | "status");
        if want.is_empty() && is_whole && !strategy::of(self.resource).updates_unconditionally(self.resource) {
            let error = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
            return Err(Status::invalid(&self.resource.group, &self.resource.kind.kind, self.name, vec![error]));
        }
        if !want.is_empty() && want != have {
            if want.parse::<u64>().is_err() {
                return Err(Status::bad_request(format!(
                    "metadata.resourceVersion: Invalid value: \"{want}\": must be a number that a server gave"
                )));
            }
            return conflict(
                "the object has been modified; please apply your changes to the latest version and try again",
            );
        }
        let (have, want) = (before.str_at(&["metadata", "uid"]), object.str_at(&["metadata", "uid"]));
        if !want.is_empty() && want != have {
            return conflict(&format!("Precondition failed: UID in precondition: {want}, UID in object meta: {have}"));
        }
        Ok(())
    }
}

/// Why an attempt to change an object ended.
pub(crate) enum Attempt {
    /// Somebody else was quicker: look again.
    Raced,
    Fail(Box<Status>),
}

impl From<Status> for Attempt {
    fn from(status: Status) -> Attempt {
        Attempt::Fail(Box::new(status))
    }
}

/// An object that was to be deleted and that nothing holds any more.
pub(crate) fn is_finished(object: &Value) -> bool {
    let Some(metadata) = object.get("metadata") else { return false };
    let held = |value: Option<&Value>| value.and_then(Value::as_array).is_some_and(|held| !held.is_empty());
    // Without a grace period it is only finalizers that delay a deletion; a namespace has its own in the spec.
    metadata.get("deletionTimestamp").is_some()
        && metadata.get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) == 0
        && !held(metadata.get("finalizers"))
        && !(object.str_at(&["kind"]) == "Namespace" && held(object.at(&["spec", "finalizers"])))
}

/// Writes `object` into the store as new.
pub(crate) async fn insert(
    server: &Arc<Server>,
    resource: &Arc<Resource>,
    namespace: &str,
    name: &str,
    mut object: Value,
    dry_run: bool,
) -> Result<Object, Status> {
    let shelf = server.cache.shelf(resource).ok_or_else(Status::no_such_resource)?;
    let bytes = stored_bytes(&shelf.resource, &mut object);
    let key = resource.storage_key(namespace, name);
    let short = resource.object_key(namespace, name);
    let exists = || {
        let mut status = Status::already_exists(&resource.group, &resource.plural, name);
        if shelf.get(&short).is_some_and(|present| present.tree().at(&["metadata", "deletionTimestamp"]).is_some()) {
            status.message = format!("object is being deleted: {}", status.message);
        }
        status
    };
    let revision = if dry_run {
        server.cache.wait_until_current().await?;
        if shelf.get(&short).is_some() {
            return Err(exists());
        }
        Revision(0)
    } else {
        match server.store.create(&key, bytes.clone(), server.ttl(resource)).await {
            Ok(revision) => revision,
            Err(StoreError::Exists { .. }) => return Err(exists()),
            Err(error) => return Err(store_status(error)),
        }
    };
    Object::of(&shelf.resource, &shelf.fields, &short, revision, &bytes, object).map_err(Status::internal)
}
