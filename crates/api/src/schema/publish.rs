//! Schemas of custom resources as OpenAPI documents show them (apiextensions-apiserver `pkg/controller/openapi`).

use std::sync::Arc;

use super::shape::is_meta;
use crate::{
    model::{Custom, Field, Gvk, Model, Shape, Type},
    openapi,
    value::{Map, Value},
};

/// The names under which a resource is published.
pub struct Names<'a> {
    pub kind: &'a Gvk,
    pub list_kind: &'a str,
    /// Paths of the fields that selectors may name.
    pub selectable: &'a [Arc<str>],
}

impl Names<'_> {
    /// `stable.example.com/v1, CronTab` as `com.example.stable.v1.CronTab`.
    fn openapi(&self, kind: &str) -> Box<str> {
        let group: Vec<&str> = self.kind.group.rsplit('.').collect();
        format!("{}.{}.{kind}", group.join("."), self.kind.version).into()
    }

    /// Adds the types of the objects and of their lists to a model that documents are made from. `schema` is the definition's
    /// `openAPIV3Schema`.
    pub fn publish(&self, schema: &Value, model: &mut Model) {
        let published: Arc<[Value; 2]> = [self.schema(schema, true), self.schema(schema, false)].into();
        let name = self.openapi(&self.kind.kind);
        let object = model.add(Type {
            name: name.clone(),
            openapi: name,
            kind: Some(self.kind.clone()),
            custom: Some(Custom { published: Some(published), ..Custom::default() }),
            ..Type::default()
        });
        let Some(meta) = model.find("meta.v1.ListMeta") else { return };
        let name = self.openapi(self.list_kind);
        let items = Field { required: true, ..Field::new("items", Shape::List(Box::new(Shape::Type(object)))) };
        model.add(Type {
            name: name.clone(),
            openapi: name,
            kind: Some(Gvk { kind: self.list_kind.into(), ..self.kind.clone() }),
            fields: vec![items, Field::new("metadata", Shape::Type(meta))],
            ..Type::default()
        });
    }

    fn schema(&self, schema: &Value, is_v2: bool) -> Value {
        let root = schema.as_object().cloned().unwrap_or_default();
        let is_open = root.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        let mut out = match is_v2 {
            true if is_open => [("type", "object")].into_iter().collect(),
            true => for_v2(root),
            false => root,
        };
        if !(is_v2 && is_open) {
            resource(&mut out, is_v2);
            embedded(&mut out, is_v2);
        }
        out.insert("x-kubernetes-group-version-kind", vec![openapi::group_version_kind(self.kind)]);
        if !self.selectable.is_empty() {
            let field = |path: &Arc<str>| Value::Object([("fieldPath", &**path)].into_iter().collect());
            out.insert("x-kubernetes-selectable-fields", self.selectable.iter().map(field).collect::<Vec<_>>());
        }
        out.into()
    }
}

/// Gives a schema what every resource has.
fn resource(schema: &mut Map, is_v2: bool) {
    let properties = schema.entry_or_insert_with("properties", Value::object);
    if properties.is_null() {
        *properties = Value::object();
    }
    let Some(properties) = properties.as_object_mut() else { return };
    for name in ["apiVersion", "kind"] {
        let text = openapi::describe("core.v1.Pod", name);
        let property: Map = [("description", text), ("type", "string")].into_iter().collect();
        properties.insert(name, property);
    }
    let reference = |prefix: &str| -> Map {
        [("$ref", format!("{prefix}io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"))].into_iter().collect()
    };
    let mut metadata: Map = match is_v2 {
        true => reference("#/definitions/"),
        false => [("allOf", vec![Value::Object(reference("#/components/schemas/"))])].into_iter().collect(),
    };
    metadata.insert_first("description", openapi::describe("core.v1.Pod", "metadata"));
    properties.insert("metadata", metadata);
}

fn each_child(schema: &mut Map, mut work: impl FnMut(&mut Map)) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties.iter_mut() {
            if !(is_meta(name) && property.get("$ref").is_some()) {
                property.as_object_mut().into_iter().for_each(&mut work);
            }
        }
    }
    for name in ["items", "additionalProperties"] {
        schema.get_mut(name).and_then(Value::as_object_mut).into_iter().for_each(&mut work);
    }
}

fn embedded(schema: &mut Map, is_v2: bool) {
    each_child(schema, |child| {
        embedded(child, is_v2);
        let is_resource = child.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
        if is_resource && child.get("type").is_some() {
            resource(child, is_v2);
        }
    });
}

/// What version 2 cannot say, or kubectl of old cannot read there, is left out.
fn for_v2(mut schema: Map) -> Map {
    for name in ["allOf", "oneOf", "anyOf", "not", "default"] {
        schema.remove(name);
    }
    let is = |schema: &Map, name: &str| schema.get(name) == Some(&Value::Bool(true));
    let (is_nullable, is_open) = (is(&schema, "nullable"), is(&schema, "x-kubernetes-preserve-unknown-fields"));
    if is_nullable || is_open {
        for name in ["nullable", "type", "items", "properties"] {
            schema.remove(name);
        }
    }
    if schema.get("type").and_then(Value::as_str) == Some("array") && !schema.contains_key("items") {
        schema.remove("type");
    }
    let nullable: Vec<String> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
        .filter(|(_, property)| property.get("nullable") == Some(&Value::Bool(true)))
        .map(|(name, _)| name.to_owned())
        .collect();
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !nullable.iter().any(|known| name.as_str() == Some(known)));
        if required.is_empty() {
            schema.remove("required");
        }
    }
    each_child(&mut schema, |child| *child = for_v2(std::mem::take(child)));
    schema
}
