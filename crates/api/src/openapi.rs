//! OpenAPI documents from the model and the resource table: version 2 as one document, version 3 as one for each group
//! version. Documents are written straight to bytes, one definition at a time, so that making one needs little more memory
//! than the text itself; keeping them (compressed, made on first use) is the server's business.

mod describe;
mod gnostic;
mod operation;
mod paths;
mod render;
mod schema;
mod words;

use std::collections::BTreeSet;

pub use describe::describe;
pub use gnostic::v2_protobuf;

use crate::json;
use crate::model::Model;
use crate::resource::{Resource, ResourceTable};
use crate::value::{Map, Value, object};
use paths::PathItem;
use schema::Definition;

/// Which OpenAPI a document speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    V2,
    V3,
}

impl Dialect {
    fn reference(self, name: &str) -> Value {
        let path = match self {
            Dialect::V2 => "#/definitions/",
            Dialect::V3 => "#/components/schemas/",
        };
        object([("$ref", format!("{path}{name}").into())])
    }
}

/// The `x-kubernetes-group-version-kind` of a kind.
pub(crate) fn group_version_kind(kind: &crate::model::Gvk) -> Value {
    schema::group_version_kind(&kind.group, &kind.version, &kind.kind)
}

/// The model that documents about `table` are made from: with the types of custom resources, those of one group version
/// alone where that is all that is needed.
fn model_of(table: &ResourceTable, only: Option<(&str, &str)>) -> Model {
    let mut model = Model::over_builtin();
    let wanted = |resource: &Resource| only.is_none_or(|only| only == (&*resource.group, &*resource.version));
    for resource in table.resources().filter(|resource| wanted(resource)) {
        if let Some(custom) = &resource.custom {
            custom.publish(&resource.kind, &mut model);
        }
    }
    model
}

/// `/openapi/v2`: the whole API as JSON.
pub fn v2(table: &ResourceTable) -> Vec<u8> {
    let model = &model_of(table, None);
    let items = paths::all(table, model);
    let mut out = Vec::with_capacity(2 << 20);
    out.extend_from_slice(br#"{"swagger":"2.0","info":{"title":"Kubernetes","version":"unversioned"},"#);
    let used = write_paths(&items, Dialect::V2, model, &mut out);
    out.extend_from_slice(br#","definitions":"#);
    write_definitions(Dialect::V2, table, model, used, None, &mut out);
    out.extend_from_slice(br#","parameters":"#);
    json::write(&render::shared_parameters(), &mut out);
    out.extend_from_slice(br#","security":[{"BearerToken":[]}],"securityDefinitions":{"BearerToken":"#);
    out.extend_from_slice(BEARER_TOKEN);
    out.extend_from_slice(b"}}");
    out
}

/// One document of `/openapi/v3`: `key` is a path without the leading slash, as `apis/apps/v1`; see [`v3_keys`]. `None` for
/// any other.
pub fn v3(table: &ResourceTable, key: &str) -> Option<Vec<u8>> {
    let group_version = paths::group_version(table, key)?;
    let model = &model_of(table, group_version);
    let items = paths::of_key(table, model, key);
    let mut out = Vec::with_capacity(256 << 10);
    out.extend_from_slice(br#"{"openapi":"3.0.0","info":{"title":"Kubernetes","version":"unversioned"},"#);
    let used = write_paths(&items, Dialect::V3, model, &mut out);
    out.extend_from_slice(br#","components":{"schemas":"#);
    write_definitions(Dialect::V3, table, model, used, group_version, &mut out);
    out.extend_from_slice(br#","securitySchemes":{"BearerToken":"#);
    out.extend_from_slice(BEARER_TOKEN);
    out.extend_from_slice(b"}}}");
    Some(out)
}

const BEARER_TOKEN: &[u8] =
    br#"{"type":"apiKey","description":"Bearer Token authentication","name":"authorization","in":"header"}"#;

/// The keys of all documents of version 3: `api`, `api/v1`, `apis`, `apis/apps`, `apis/apps/v1`, `version` and so on.
pub fn v3_keys(table: &ResourceTable) -> Vec<String> {
    let mut keys = vec!["apis".to_owned()];
    keys.extend(paths::APART.iter().map(|apart| apart.key.to_owned()));
    for group in &table.groups {
        let base = paths::group_key(&group.name);
        keys.extend(group.versions.iter().map(|version| format!("{base}/{}", version.name)));
        keys.push(base);
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// `/openapi/v3`: where each document is. Clients keep a document for as long as its `hash` stays the same.
pub fn v3_index(table: &ResourceTable, hash: impl Fn(&str) -> String) -> Value {
    let entry = |key: String| {
        let url = format!("/openapi/v3/{key}?hash={}", hash(&key));
        (key, object([("serverRelativeURL", url.into())]))
    };
    object([("paths", v3_keys(table).into_iter().map(entry).collect::<Map>().into())])
}

/// Writes `"paths":{...}` and gives back the types that it names.
fn write_paths(items: &[PathItem], dialect: Dialect, model: &Model, out: &mut Vec<u8>) -> BTreeSet<Definition> {
    let mut used = BTreeSet::new();
    out.extend_from_slice(br#""paths":{"#);
    for (index, item) in items.iter().enumerate() {
        write_member(index, &item.path, &render::path_item(item, dialect, model), out);
        used.extend(item.operations.iter().flat_map(|operation| operation.types()).map(Definition::Type));
    }
    out.push(b'}');
    used
}

/// Writes the definitions of `used` types and of all that they are made of. `group_version` narrows the kinds that belong to
/// every group version to the one that the document is about.
fn write_definitions(
    dialect: Dialect,
    table: &ResourceTable,
    model: &Model,
    used: BTreeSet<Definition>,
    group_version: Option<(&str, &str)>,
    out: &mut Vec<u8>,
) {
    let mut done = used.clone();
    let mut waiting: Vec<Definition> = used.into_iter().collect();
    let mut written = Vec::new();
    while let Some(next) = waiting.pop() {
        let (mut schema, parts) = schema::definition(next, dialect, model);
        if let Some(kinds) = schema::shared_kinds(next, table, model, group_version) {
            schema.insert("x-kubernetes-group-version-kind", kinds);
        }
        let mut text = Vec::new();
        json::write(&schema.into(), &mut text);
        written.push((next.name(model), text));
        waiting.extend(parts.into_iter().filter(|part| done.insert(*part)));
    }
    written.sort_unstable();
    out.push(b'{');
    for (index, (name, text)) in written.iter().enumerate() {
        write_name(index, name, out);
        out.extend_from_slice(text);
    }
    out.push(b'}');
}

fn write_name(index: usize, name: &str, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
    json::write(&name.into(), out);
    out.push(b':');
}

fn write_member(index: usize, name: &str, value: &Value, out: &mut Vec<u8>) {
    write_name(index, name, out);
    json::write(value, out);
}
