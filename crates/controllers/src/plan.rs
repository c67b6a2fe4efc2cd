//! What a controller wants done: a list of API writes, printable and free of any client.

use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;
use client::{DeleteParams, EventType, Kind, PatchKind, Propagation, kinds::core::v1::ObjectReference};
use serde_json::Value;

/// Everything one pass over a key asks for. The executor carries the writes out in order and stops at the first failure;
/// neighbouring creations (or deletions) of one kind go out together, in growing batches.
#[derive(Debug, Default)]
pub struct Plan {
    pub writes: Vec<Write>,
    pub events: Vec<PlannedEvent>,
    /// Look at the key again after this long, without anything having changed.
    pub requeue_after: Option<Duration>,
}

/// The resource a write goes to. Owned names, because the garbage collector and the namespace controller write to
/// resources known only from discovery.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    /// Plural name as in the path.
    pub resource: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub namespaced: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub resource: ResourceId,
    pub namespace: String,
    /// Empty for a creation whose name the server generates.
    pub name: String,
}

#[derive(Clone, Debug)]
pub enum Verb {
    Create,
    Update,
    UpdateStatus,
    Patch {
        kind: PatchKind,
        subresource: Option<&'static str>,
    },
    Delete(DeleteParams),
    /// Deletes everything of the resource in the target's namespace.
    DeleteCollection(DeleteParams),
    /// Creates the body under a subresource, as for an eviction.
    CreateSub(&'static str),
    /// Replaces a subresource other than status (`finalize`, `approval`).
    UpdateSub(&'static str),
}

/// Answers that are as good as success for one write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tolerate {
    pub not_found: bool,
    pub already_exists: bool,
    pub conflict: bool,
    /// The pass goes on whatever the answer is; the failure is only logged.
    pub any: bool,
}

#[derive(Debug)]
pub struct Write {
    pub verb: Verb,
    pub target: Target,
    /// JSON; empty for a deletion.
    pub body: Bytes,
    pub tolerate: Tolerate,
    /// Left out unless this object still has this UID and is not being deleted, as the API itself says: an informer that lags
    /// must not make a dying owner adopt what was just set free (upstream `RecheckDeletionTimestamp`).
    pub while_alive: Option<(Target, String)>,
    /// Recorded once the write has succeeded; `{name}` in its message becomes the object's name.
    pub then: Option<PlannedEvent>,
    /// Recorded as a warning when the write fails; the failure's text is appended to the message.
    pub on_failure: Option<PlannedEvent>,
}

#[derive(Clone, Debug)]
pub struct PlannedEvent {
    pub regarding: ObjectReference,
    pub kind: EventType,
    pub reason: &'static str,
    pub message: String,
}

impl PlannedEvent {
    pub fn normal<K: Kind>(object: &K, reason: &'static str, message: impl Into<String>) -> Self {
        PlannedEvent { regarding: client::reference(object), kind: EventType::Normal, reason, message: message.into() }
    }

    pub fn warning<K: Kind>(object: &K, reason: &'static str, message: impl Into<String>) -> Self {
        PlannedEvent { regarding: client::reference(object), kind: EventType::Warning, reason, message: message.into() }
    }
}

impl ResourceId {
    pub fn of<K: Kind>() -> Self {
        ResourceId {
            group: K::GROUP.into(),
            version: K::VERSION.into(),
            resource: K::URL_PATH_SEGMENT.into(),
            kind: K::KIND.into(),
            namespaced: K::NAMESPACED,
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        match &*self.group {
            "" => self.version.to_string(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The path of the collection, in `namespace` or (where that is empty) in all.
    pub fn path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() { "/api/" } else { "/apis/" };
        let api_version = self.api_version();
        match self.namespaced && !namespace.is_empty() {
            true => format!("{root}{api_version}/namespaces/{namespace}/{}", self.resource),
            false => format!("{root}{api_version}/{}", self.resource),
        }
    }
}

impl Write {
    pub fn new(verb: Verb, target: Target, body: impl Into<Bytes>) -> Self {
        Write {
            verb,
            target,
            body: body.into(),
            tolerate: Tolerate::default(),
            while_alive: None,
            then: None,
            on_failure: None,
        }
    }

    pub fn ignore_not_found(&mut self) -> &mut Self {
        self.tolerate.not_found = true;
        self
    }

    pub fn ignore_already_exists(&mut self) -> &mut Self {
        self.tolerate.already_exists = true;
        self
    }

    pub fn ignore_conflict(&mut self) -> &mut Self {
        self.tolerate.conflict = true;
        self
    }

    pub fn ignore_failure(&mut self) -> &mut Self {
        self.tolerate.any = true;
        self
    }

    pub fn while_alive<K: Kind>(&mut self, owner: &K) -> &mut Self {
        self.while_alive = Some((target_of(owner), owner.uid().to_owned()));
        self
    }

    pub fn then(&mut self, event: PlannedEvent) -> &mut Self {
        self.then = Some(event);
        self
    }

    pub fn on_failure(&mut self, event: PlannedEvent) -> &mut Self {
        self.on_failure = Some(event);
        self
    }
}

fn target<K: Kind>(namespace: &str, name: &str) -> Target {
    Target { resource: ResourceId::of::<K>(), namespace: namespace.into(), name: name.into() }
}

fn target_of<K: Kind>(object: &K) -> Target {
    target::<K>(object.namespace(), object.name())
}

impl Plan {
    pub fn push(&mut self, write: Write) -> &mut Write {
        let at = self.writes.len();
        self.writes.push(write);
        &mut self.writes[at]
    }

    pub fn create<K: Kind>(&mut self, object: &K) -> &mut Write {
        self.push(Write::new(Verb::Create, target_of(object), object.encode()))
    }

    pub fn update<K: Kind>(&mut self, object: &K) -> &mut Write {
        self.push(Write::new(Verb::Update, target_of(object), object.encode()))
    }

    pub fn update_status<K: Kind>(&mut self, object: &K) -> &mut Write {
        self.push(Write::new(Verb::UpdateStatus, target_of(object), object.encode()))
    }

    pub fn update_sub<K: Kind>(&mut self, object: &K, subresource: &'static str) -> &mut Write {
        self.push(Write::new(Verb::UpdateSub(subresource), target_of(object), object.encode()))
    }

    pub fn patch<K: Kind>(&mut self, object: &K, kind: PatchKind, patch: &Value) -> &mut Write {
        self.push(Write::new(Verb::Patch { kind, subresource: None }, target_of(object), patch.to_string()))
    }

    pub fn patch_status<K: Kind>(&mut self, object: &K, kind: PatchKind, patch: &Value) -> &mut Write {
        let verb = Verb::Patch { kind, subresource: Some("status") };
        self.push(Write::new(verb, target_of(object), patch.to_string()))
    }

    /// Deletes exactly this object (by UID), its dependents in the background; already gone is as good.
    pub fn delete<K: Kind>(&mut self, object: &K) -> &mut Write {
        let params = DeleteParams {
            uid: Some(object.uid().to_owned()),
            propagation: Some(Propagation::Background),
            ..DeleteParams::default()
        };
        self.delete_with(object, params)
    }

    pub fn delete_with<K: Kind>(&mut self, object: &K, params: DeleteParams) -> &mut Write {
        self.push(Write::new(Verb::Delete(params), target_of(object), Bytes::new())).ignore_not_found()
    }

    pub fn event(&mut self, event: PlannedEvent) {
        self.events.push(event);
    }

    /// Keeps the earliest of the times asked for.
    pub fn requeue_after(&mut self, delay: Duration) {
        self.requeue_after = Some(self.requeue_after.map_or(delay, |earlier| earlier.min(delay)));
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.events.is_empty()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "<generated>" } else { &self.name };
        match self.namespace.as_str() {
            "" => write!(f, "{} {name}", self.resource.kind),
            namespace => write!(f, "{} {namespace}/{name}", self.resource.kind),
        }
    }
}

/// One line: verb, target, and what is written.
impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = &self.target;
        let body = || String::from_utf8_lossy(&self.body);
        match &self.verb {
            Verb::Create => write!(f, "create {target} {}", body()),
            Verb::Update => write!(f, "update {target} {}", body()),
            Verb::UpdateStatus => {
                let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
                write!(f, "update status of {target} {}", body.get("status").unwrap_or(&Value::Null))
            }
            Verb::Patch { subresource: None, .. } => write!(f, "patch {target} {}", body()),
            Verb::Patch { subresource: Some(sub), .. } => write!(f, "patch {sub} of {target} {}", body()),
            Verb::Delete(params) => {
                write!(f, "delete {target}")?;
                match params.grace_period_seconds {
                    Some(seconds) => write!(f, " grace {seconds}s"),
                    None => Ok(()),
                }
            }
            Verb::DeleteCollection(_) => write!(f, "delete all {} in {}", target.resource.resource, target.namespace),
            Verb::CreateSub(sub) => write!(f, "create {sub} of {target} {}", body()),
            Verb::UpdateSub(sub) => write!(f, "update {sub} of {target} {}", body()),
        }
    }
}

impl fmt::Display for PlannedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {:?} {} {}", self.kind, self.reason, self.message)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for write in &self.writes {
            writeln!(f, "{write}")?;
            if let Some(event) = &write.then {
                writeln!(f, "  then {event}")?;
            }
        }
        for event in &self.events {
            writeln!(f, "{event}")?;
        }
        match self.requeue_after {
            Some(delay) => writeln!(f, "again after {delay:?}"),
            None => Ok(()),
        }
    }
}
