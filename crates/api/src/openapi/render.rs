//! Path items in the words of both dialects.

use super::Dialect;
use super::operation::{self as op, ALL, Body, Operation, Parameter, Place, Response};
use super::paths::PathItem;
use super::schema::group_version_kind;
use super::words;
use crate::model::{Model, TypeId};
use crate::value::{Map, Value, object, strings};

const MEDIA: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const STREAMS: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

pub(super) fn path_item(item: &PathItem, dialect: Dialect, model: &Model) -> Value {
    let mut rendered = Map::new();
    if !item.parameters.is_empty() {
        rendered.insert("parameters", item.parameters.iter().map(|one| parameter(one, dialect)).collect::<Vec<_>>());
    }
    for operation in &item.operations {
        let value = match dialect {
            Dialect::V2 => operation_v2(operation, &item.path, model),
            Dialect::V3 => operation_v3(operation, &item.path, model),
        };
        rendered.insert(operation.method, value);
    }
    rendered.into()
}

/// What version 2 keeps in one place and refers to.
pub(super) fn shared_parameters() -> Value {
    let shared = ALL.iter().filter(|parameter| is_shared(parameter));
    shared.map(|parameter| (reference_name(parameter), parameter_v2(parameter))).collect::<Map>().into()
}

/// kubectl looks for `dryRun` and `fieldValidation` in the operation itself and follows no reference.
fn is_shared(parameter: &Parameter) -> bool {
    ![&op::DRY_RUN, &op::FIELD_VALIDATION, &op::NAME].contains(&parameter)
}

fn reference_name(parameter: &Parameter) -> String {
    match parameter.place {
        Place::Query => parameter.name.to_owned(),
        Place::Path => format!("{}-in-path", parameter.name),
    }
}

fn parameter(parameter: &Parameter, dialect: Dialect) -> Value {
    match dialect {
        Dialect::V2 if is_shared(parameter) => {
            object([("$ref", format!("#/parameters/{}", reference_name(parameter)).into())])
        }
        Dialect::V2 => parameter_v2(parameter),
        Dialect::V3 => {
            let schema = object([("type", parameter.kind.into()), ("uniqueItems", true.into())]);
            let mut rendered = parameter_head(parameter);
            rendered.insert("schema", schema);
            rendered.into()
        }
    }
}

fn parameter_head(parameter: &Parameter) -> Map {
    let place = match parameter.place {
        Place::Query => "query",
        Place::Path => "path",
    };
    let members = [("name", parameter.name), ("in", place), ("description", parameter.description)];
    let mut head: Map = members.into_iter().collect();
    if parameter.place == Place::Path {
        head.insert("required", true);
    }
    head
}

fn parameter_v2(parameter: &Parameter) -> Value {
    let mut rendered = parameter_head(parameter);
    rendered.insert("type", parameter.kind);
    rendered.insert("uniqueItems", true);
    rendered.into()
}

fn parameters(operation: &Operation, dialect: Dialect) -> Vec<Value> {
    let mut sorted = operation.parameters.clone();
    sorted.sort_by_key(|parameter| parameter.name);
    sorted.into_iter().map(|one| parameter(one, dialect)).collect()
}

fn head(operation: &Operation, path: &str) -> Map {
    let mut rendered = Map::new();
    rendered.insert("description", words::describe(operation, path));
    rendered.insert("operationId", &*operation.id);
    rendered.insert("tags", vec![Value::from(&*operation.tag)]);
    rendered
}

fn extensions(operation: &Operation, rendered: &mut Map) {
    if let Some(action) = operation.action {
        rendered.insert("x-kubernetes-action", action);
    }
    if let Some(kind) = &operation.kind {
        rendered.insert("x-kubernetes-group-version-kind", group_version_kind(&kind.group, &kind.version, &kind.kind));
    }
}

fn reference(ty: TypeId, dialect: Dialect, model: &Model) -> Value {
    dialect.reference(&model.get(ty).openapi)
}

fn media(response: Response) -> Vec<&'static str> {
    match response {
        Response::Object(_) => MEDIA.to_vec(),
        Response::Json(_) => vec![MEDIA[0]],
        Response::Stream(_) => MEDIA.into_iter().chain(STREAMS).collect(),
        Response::Log => ["text/plain"].into_iter().chain(MEDIA).collect(),
        Response::Text => vec!["*/*"],
        Response::Document(media) => vec![media],
    }
}

fn answer(operation: &Operation, dialect: Dialect, model: &Model) -> Value {
    match operation.response {
        Response::Object(ty) | Response::Json(ty) | Response::Stream(ty) => reference(ty, dialect, model),
        Response::Text | Response::Log | Response::Document(_) => object([("type", "string".into())]),
    }
}

fn reason(code: u16) -> &'static str {
    match code {
        201 => "Created",
        202 => "Accepted",
        _ => "OK",
    }
}

fn responses(operation: &Operation, content: impl Fn() -> (&'static str, Value)) -> Value {
    let success = operation.codes.iter().map(|code| {
        let (name, value) = content();
        (code.to_string(), object([("description", reason(*code).into()), (name, value)]))
    });
    let denied = ("401".to_owned(), object([("description", "Unauthorized".into())]));
    success.chain([denied]).collect::<Map>().into()
}

fn operation_v2(operation: &Operation, path: &str, model: &Model) -> Value {
    let dialect = Dialect::V2;
    let mut rendered = head(operation, path);
    let consumes = match (operation.body, operation.action) {
        (Body::Patch(_), _) => strings(PATCHES),
        (_, None) => strings(media(operation.response)),
        _ => strings(["*/*"]),
    };
    if !matches!(operation.response, Response::Document(_)) {
        rendered.insert("consumes", consumes);
    }
    rendered.insert("produces", strings(media(operation.response)));
    rendered.insert("schemes", strings(["https"]));
    let mut all = parameters(operation, dialect);
    let body = match operation.body {
        Body::None => None,
        Body::Object(ty) | Body::Patch(ty) => Some((ty, true)),
        Body::Options(ty) => Some((ty, false)),
    };
    if let Some((ty, is_required)) = body {
        let mut body: Map = [("name", "body"), ("in", "body")].into_iter().collect();
        if is_required {
            body.insert("required", true);
        }
        body.insert("schema", reference(ty, dialect, model));
        all.insert(0, body.into());
    }
    if !all.is_empty() {
        rendered.insert("parameters", all);
    }
    rendered.insert("responses", responses(operation, || ("schema", answer(operation, dialect, model))));
    extensions(operation, &mut rendered);
    rendered.into()
}

fn operation_v3(operation: &Operation, path: &str, model: &Model) -> Value {
    let dialect = Dialect::V3;
    let mut rendered = head(operation, path);
    let all = parameters(operation, dialect);
    if !all.is_empty() {
        rendered.insert("parameters", all);
    }
    let body = match operation.body {
        Body::None => None,
        Body::Object(ty) => Some((ty, ["*/*"].as_slice(), true)),
        Body::Options(ty) => Some((ty, ["*/*"].as_slice(), false)),
        Body::Patch(ty) => Some((ty, PATCHES.as_slice(), true)),
    };
    if let Some((ty, media, is_required)) = body {
        let mut body = Map::new();
        body.insert("content", content(media, &reference(ty, dialect, model)));
        if is_required {
            body.insert("required", true);
        }
        rendered.insert("requestBody", body);
    }
    let media = media(operation.response);
    let schema = answer(operation, dialect, model);
    rendered.insert("responses", responses(operation, || ("content", content(&media, &schema))));
    extensions(operation, &mut rendered);
    rendered.into()
}

fn content(media: &[&str], schema: &Value) -> Value {
    media.iter().map(|media| (*media, object([("schema", schema.clone())]))).collect::<Map>().into()
}
