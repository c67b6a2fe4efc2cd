//! One object as the watch cache keeps it: its final bytes and what filters look at. Reads never decode.

use std::sync::{Arc, OnceLock};

use api::{
    Model, Resource, ResourceTable, Value,
    decode::{self, Defaults},
    json,
    model::Gvk,
    protobuf::{self, ProtobufError},
};
use bytes::{BufMut, Bytes, BytesMut};
use store::Revision;

use crate::strategy::Selectable;

/// An object of a resource at one revision.
#[derive(Debug)]
pub struct Object {
    /// `namespace/name`, or the name for objects of the cluster.
    pub key: Arc<str>,
    pub revision: Revision,
    /// The final JSON, resourceVersion in place; begins with [`Object::head`].
    pub json: Bytes,
    /// Length of `{"kind":…,"apiVersion":…,`, which list items leave out.
    head: usize,
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Values of the resource's selectable fields, in the order in which the resource names them.
    pub fields: Box<[Box<str>]>,
    /// The protobuf message, made when it is first asked for; see [`Object::message`].
    message: OnceLock<Bytes>,
}

#[derive(Debug, thiserror::Error)]
#[error("stored value of {key} is not an object of its kind: {message}")]
pub struct BadValue {
    pub key: String,
    pub message: String,
}

impl Object {
    /// From what the store holds. `key` is the part behind the resource's prefix.
    pub fn new(
        resource: &Resource,
        fields: &[Selectable],
        key: &str,
        revision: Revision,
        stored: &Bytes,
    ) -> Result<Object, BadValue> {
        Object::of(resource, fields, key, revision, stored, parse(key, stored)?)
    }

    /// The same where the tree of what is stored is at hand.
    pub fn of(
        resource: &Resource,
        fields: &[Selectable],
        key: &str,
        revision: Revision,
        stored: &Bytes,
        mut tree: Value,
    ) -> Result<Object, BadValue> {
        let is_as_stored = resource.custom.is_none() || !complete(resource, &mut tree);
        let json = final_bytes(resource, key, revision, is_as_stored.then_some(stored), &mut tree)?;
        Ok(Object::shown(resource, fields, key, revision, json, &tree))
    }

    /// From what the store has held for long, maybe since a server that knew less wrote it: with what is always there.
    pub fn loaded(
        resource: &Resource,
        fields: &[Selectable],
        key: &str,
        revision: Revision,
        stored: &Bytes,
    ) -> Result<Object, BadValue> {
        let mut tree = parse(key, stored)?;
        convert(resource, &mut tree);
        let is_as_stored = !complete(resource, &mut tree);
        let json = final_bytes(resource, key, revision, is_as_stored.then_some(stored), &mut tree)?;
        Ok(Object::shown(resource, fields, key, revision, json, &tree))
    }

    fn shown(
        resource: &Resource,
        fields: &[Selectable],
        key: &str,
        revision: Revision,
        json: Bytes,
        tree: &Value,
    ) -> Object {
        let labels = tree
            .at(&["metadata", "labels"])
            .and_then(Value::as_object)
            .map(|labels| {
                labels.iter().map(|(name, value)| (name.into(), value.as_str().unwrap_or_default().into())).collect()
            })
            .unwrap_or_default();
        let fields = fields.iter().map(|field| field.of(tree).into()).collect();
        let head = head(resource).len();
        Object { key: key.into(), revision, json, head, labels, fields, message: OnceLock::new() }
    }

    /// The same object with another resourceVersion: the last state, as a deletion shows it.
    pub fn at_revision(&self, revision: Revision) -> Object {
        // The version stands first in the metadata: see `splice`.
        let start = self.head + "\"metadata\":{".len();
        let old = format!("\"resourceVersion\":\"{}\"", self.revision);
        let mut json = BytesMut::with_capacity(self.json.len() + 8);
        json.put_slice(&self.json[..start]);
        json.put_slice(format!("\"resourceVersion\":\"{revision}\"").as_bytes());
        json.put_slice(&self.json[start + old.len()..]);
        Object {
            key: self.key.clone(),
            revision,
            json: json.freeze(),
            head: self.head,
            labels: self.labels.clone(),
            fields: self.fields.clone(),
            message: OnceLock::new(),
        }
    }

    pub fn namespace(&self) -> &str {
        self.key.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.key.split_once('/').map_or(&*self.key, |(_, name)| name)
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(key, _)| **key == *name).map(|(_, value)| &**value)
    }

    /// The JSON behind kind and apiVersion: `"metadata":{…}…}`. An item of a list is `{` and this.
    pub fn item(&self) -> Bytes {
        self.json.slice(self.head..)
    }

    /// The same of the object in another version of its kind.
    pub fn item_of(&self, resource: &Resource) -> Bytes {
        match resource.conversion {
            None => self.item(),
            Some(_) => self.as_version(resource).slice(head(resource).len()..),
        }
    }

    /// The whole object in another version of its kind.
    pub fn as_version(&self, resource: &Resource) -> Bytes {
        if self.is_of(resource) {
            return self.json.clone();
        }
        if resource.conversion.is_some() {
            return self.tree_of(resource).to_json().into();
        }
        let head = head(resource);
        let mut out = BytesMut::with_capacity(head.len() + self.json.len());
        out.put_slice(head.as_bytes());
        out.put_slice(&self.json[self.head..]);
        out.freeze()
    }

    /// Whether this version of its kind is the one that it is stored as.
    fn is_of(&self, resource: &Resource) -> bool {
        let after = |json, part: &str| <[u8]>::strip_prefix(json, part.as_bytes());
        head_parts(resource).into_iter().try_fold(&*self.json, after).is_some()
    }

    /// The object as a protobuf message without its envelope, under a version of its kind. That of the version it is stored
    /// as is kept.
    pub fn message(&self, resource: &Resource) -> Result<Bytes, ProtobufError> {
        let make = || protobuf::message(Model::builtin(), resource.ty, &self.tree_of(resource)).map(Bytes::from);
        if !self.is_of(resource) {
            return make();
        }
        match self.message.get() {
            Some(message) => Ok(message.clone()),
            None => make().map(|message| self.message.get_or_init(|| message).clone()),
        }
    }

    /// The object as a whole protobuf message.
    pub fn protobuf(&self, resource: &Resource) -> Result<Bytes, ProtobufError> {
        Ok(protobuf::envelope(&resource.kind.api_version(), &resource.kind.kind, &self.message(resource)?).into())
    }

    /// The object as a tree, to be changed or looked into, in the version that it is stored as.
    pub fn tree(&self) -> Value {
        // The bytes were written by us or parsed once already.
        json::parse(&self.json).unwrap_or_default()
    }

    /// The same in another version of its kind.
    fn tree_of(&self, resource: &Resource) -> Value {
        let mut tree = self.tree();
        resource.from_stored(&mut tree);
        tree
    }
}

/// Brings an object that another server stored in another version into the form that it is stored in here.
fn convert(resource: &Resource, tree: &mut Value) {
    let version = tree.str_at(&["apiVersion"]);
    if resource.custom.is_some() || version.is_empty() || version == resource.kind.api_version() {
        return;
    }
    let entry = ResourceTable::builtin().by_kind(&Gvk::of(version, &resource.kind.kind));
    if let Some(entry) = entry.filter(|entry| entry.storage == resource.storage) {
        entry.to_stored(tree);
    }
}

/// Brings a stored object into the form that its kind has now, as upstream's decoder does. For a custom resource that is the
/// one of its definition: what has become unknown goes, new defaults come (apiextensions-apiserver
/// `customresource_handler.go`). Whether that changed anything.
fn complete(resource: &Resource, tree: &mut Value) -> bool {
    let mut decoded = tree.clone();
    let result = decode::decode(resource.model(), resource.ty, &mut decoded, Defaults::On);
    if result.is_err() || decoded == *tree {
        return false;
    }
    *tree = decoded;
    true
}

/// `{"kind":"Pod","apiVersion":"v1",`
fn head(resource: &Resource) -> String {
    head_parts(resource).concat()
}

fn head_parts(resource: &Resource) -> [&str; 7] {
    let Gvk { group, version, kind } = &resource.kind;
    let slash = if group.is_empty() { "" } else { "/" };
    ["{\"kind\":\"", kind, "\",\"apiVersion\":\"", group, slash, version, "\","]
}

fn parse(key: &str, stored: &[u8]) -> Result<Value, BadValue> {
    stored_tree(stored).map_err(|message| BadValue { key: key.to_owned(), message })
}

/// What upstream's API server puts before a value that it stores as protobuf.
const ENVELOPE: &[u8] = b"k8s\0";

/// The object that a store's value is: JSON as this server writes it, or protobuf as upstream's does.
pub(crate) fn stored_tree(stored: &[u8]) -> Result<Value, String> {
    if stored.starts_with(ENVELOPE) {
        return protobuf::decode(Model::builtin(), None, stored).map_err(|error| error.to_string());
    }
    json::parse(stored).map_err(|error| error.to_string())
}

/// The JSON of an object, resourceVersion in place. Stored bytes that we wrote begin canonically and are spliced; others
/// (another server wrote them, or the tree is no longer theirs) are written anew.
fn final_bytes(
    resource: &Resource,
    key: &str,
    revision: Revision,
    stored: Option<&Bytes>,
    tree: &mut Value,
) -> Result<Bytes, BadValue> {
    let opening = head(resource) + "\"metadata\":{";
    if let Some(stored) = stored.filter(|stored| stored.starts_with(opening.as_bytes())) {
        return Ok(splice(stored, opening.len(), revision));
    }
    convert(resource, tree);
    let written = stored_bytes(resource, tree);
    if !written.starts_with(opening.as_bytes()) {
        return Err(BadValue { key: key.to_owned(), message: "no metadata".into() });
    }
    Ok(splice(&written, opening.len(), revision))
}

fn splice(stored: &[u8], at: usize, revision: Revision) -> Bytes {
    // What was written as a try has no version.
    if revision == Revision::default() {
        return Bytes::copy_from_slice(stored);
    }
    let version = format!("\"resourceVersion\":\"{revision}\"");
    let mut out = BytesMut::with_capacity(stored.len() + version.len() + 1);
    out.put_slice(&stored[..at]);
    out.put_slice(version.as_bytes());
    if stored.get(at) != Some(&b'}') {
        out.put_u8(b',');
    }
    out.put_slice(&stored[at..]);
    out.freeze()
}

/// Brings an object into the order in which it is stored: kind, apiVersion, metadata, then the rest; no resourceVersion.
fn canonicalize(resource: &Resource, object: &mut Value) {
    let Value::Object(map) = object else { return };
    let metadata = map.remove("metadata").unwrap_or_else(Value::object);
    map.insert_first("metadata", metadata);
    map.insert_first("apiVersion", resource.kind.api_version());
    map.insert_first("kind", &*resource.kind.kind);
    if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
        metadata.remove("selfLink");
    }
}

/// The bytes that go into the store, of an object that is then in their order.
pub fn stored_bytes(resource: &Resource, object: &mut Value) -> Bytes {
    canonicalize(resource, object);
    object.to_json().into()
}

/// Bytes that are made at most once, from something that is shared.
#[derive(Debug, Default)]
pub struct Once(OnceLock<Bytes>);

impl Once {
    pub fn get(&self, make: impl FnOnce() -> Bytes) -> Bytes {
        self.0.get_or_init(make).clone()
    }
}
