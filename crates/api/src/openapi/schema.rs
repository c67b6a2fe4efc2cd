//! Schemas of types, in both dialects.

use std::collections::BTreeSet;

use super::{Dialect, describe, describe::describe_list};
use crate::model::{Field, ListKind, Model, Shape, Type, TypeId, Union};
use crate::resource::ResourceTable;
use crate::value::{Map, Value, object, strings};

/// What a document defines by name: the model's types, and the few that are shapes of their own in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Definition {
    Type(TypeId),
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    RawExtension,
    FieldsV1,
    /// Any JSON, which only CustomResourceDefinitions' schemas have.
    Json,
}

impl Definition {
    pub(super) fn name(self, model: &Model) -> &str {
        match self {
            Definition::Type(ty) => &model.get(ty).openapi,
            Definition::Time => "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
            Definition::MicroTime => "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
            Definition::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity",
            Definition::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
            Definition::RawExtension => "io.k8s.apimachinery.pkg.runtime.RawExtension",
            Definition::FieldsV1 => "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
            Definition::Json => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
        }
    }
}

/// A definition's schema, and the definitions that it refers to.
pub(super) fn definition(of: Definition, dialect: Dialect, model: &Model) -> (Map, BTreeSet<Definition>) {
    let mut parts = BTreeSet::new();
    let published = match of {
        Definition::Type(ty) => model.get(ty).custom.as_ref().and_then(|custom| custom.published.as_deref()),
        _ => None,
    };
    if let Some(published) = published {
        let schema = &published[usize::from(dialect == Dialect::V3)];
        parts.extend(model.find("meta.v1.ObjectMeta").map(Definition::Type));
        return (schema.as_object().cloned().unwrap_or_default(), parts);
    }
    let schema = match of {
        Definition::Type(ty) => Writer { dialect, model, parts: &mut parts }.of_type(model.get(ty)),
        _ => {
            let mut schema = of_scalar(of, dialect);
            match describe(of.name(model), "") {
                "" => {}
                text => schema.insert_first("description", text),
            }
            schema
        }
    };
    (schema, parts)
}

fn either(kinds: [&str; 2]) -> Value {
    kinds.map(|kind| object([("type", kind.into())])).to_vec().into()
}

fn of_scalar(of: Definition, dialect: Dialect) -> Map {
    let members: Vec<(&str, Value)> = match (of, dialect) {
        (Definition::Time | Definition::MicroTime, _) => {
            vec![("type", "string".into()), ("format", "date-time".into())]
        }
        (Definition::Quantity, Dialect::V2) => vec![("type", "string".into())],
        (Definition::Quantity, Dialect::V3) => vec![("oneOf", either(["string", "number"]))],
        (Definition::IntOrString, Dialect::V2) => vec![("type", "string".into()), ("format", "int-or-string".into())],
        (Definition::IntOrString, Dialect::V3) => {
            vec![("format", "int-or-string".into()), ("oneOf", either(["integer", "string"]))]
        }
        (Definition::Json, _) => Vec::new(),
        _ => vec![("type", "object".into())],
    };
    members.into_iter().collect()
}

/// Group versions that upstream's scheme still knows though nothing is served in them.
const RETIRED: [(&str, &str); 24] = [
    ("admission.k8s.io", "v1"),
    ("admission.k8s.io", "v1beta1"),
    ("apiextensions.k8s.io", "v1beta1"),
    ("apiregistration.k8s.io", "v1beta1"),
    ("apps", "v1beta1"),
    ("apps", "v1beta2"),
    ("authentication.k8s.io", "v1alpha1"),
    ("authentication.k8s.io", "v1beta1"),
    ("authorization.k8s.io", "v1beta1"),
    ("batch", "v1beta1"),
    ("discovery.k8s.io", "v1beta1"),
    ("events.k8s.io", "v1beta1"),
    ("extensions", "v1beta1"),
    ("flowcontrol.apiserver.k8s.io", "v1beta1"),
    ("flowcontrol.apiserver.k8s.io", "v1beta2"),
    ("flowcontrol.apiserver.k8s.io", "v1beta3"),
    ("imagepolicy.k8s.io", "v1alpha1"),
    ("node.k8s.io", "v1alpha1"),
    ("node.k8s.io", "v1beta1"),
    ("policy", "v1beta1"),
    ("rbac.authorization.k8s.io", "v1alpha1"),
    ("rbac.authorization.k8s.io", "v1beta1"),
    ("scheduling.k8s.io", "v1beta1"),
    ("storage.k8s.io", "v1alpha1"),
];

/// `DeleteOptions` and `WatchEvent` are kinds of every group version; this lists them.
pub(super) fn shared_kinds(
    of: Definition,
    table: &ResourceTable,
    model: &Model,
    only: Option<(&str, &str)>,
) -> Option<Value> {
    let Definition::Type(ty) = of else { return None };
    let kind = match &*model.get(ty).name {
        "meta.v1.DeleteOptions" => "DeleteOptions",
        "meta.v1.WatchEvent" => "WatchEvent",
        _ => return None,
    };
    let mut kinds = BTreeSet::from([("", "v1")]);
    match only {
        Some(one) => drop(kinds.insert(one)),
        None => {
            let groups = ResourceTable::builtin().groups.iter().chain(&table.groups);
            kinds.extend(groups.flat_map(|group| group.versions.iter().map(|version| (&*group.name, &*version.name))));
            kinds.extend(RETIRED);
        }
    }
    Some(kinds.into_iter().map(|(group, version)| group_version_kind(group, version, kind)).collect::<Vec<_>>().into())
}

pub(super) fn group_version_kind(group: &str, version: &str, kind: &str) -> Value {
    object([("group", group.into()), ("kind", kind.into()), ("version", version.into())])
}

struct Writer<'a> {
    dialect: Dialect,
    model: &'a Model,
    parts: &'a mut BTreeSet<Definition>,
}

impl Writer<'_> {
    fn of_type(&mut self, ty: &Type) -> Map {
        let mut schema = Map::new();
        let text = description(ty, "");
        if !text.is_empty() {
            schema.insert("description", text);
        }
        if let Some(scalar) = &ty.scalar {
            // These types are themselves what is free in form.
            let members = if *scalar == Shape::Any { Map::new() } else { self.of_shape(scalar) };
            for (name, value) in members {
                schema.insert(name, value);
            }
            return schema;
        }
        schema.insert("type", "object");
        let mut required: Vec<&Field> = ty.fields.iter().filter(|field| field.required).collect();
        if !required.is_empty() {
            // In the order of upstream's declarations, which is nearly always that of the tags.
            required.sort_by_key(|field| field.tag);
            schema.insert("required", strings(required.iter().map(|field| &*field.name)));
        }
        let mut properties: Map =
            ty.fields.iter().map(|field| (field.name.clone(), self.of_field(ty, field))).collect();
        if ty.kind.is_some() {
            for name in ["apiVersion", "kind"] {
                let text = description(ty, name);
                properties.insert(name, object([("description", text.into()), ("type", "string".into())]));
            }
        }
        if !properties.is_empty() {
            schema.insert("properties", properties);
        }
        if let Some(kind) = &ty.kind {
            let kind = group_version_kind(&kind.group, &kind.version, &kind.kind);
            schema.insert("x-kubernetes-group-version-kind", vec![kind]);
        }
        if ty.atomic {
            schema.insert("x-kubernetes-map-type", "atomic");
        }
        if !ty.unions.is_empty() {
            schema.insert("x-kubernetes-unions", ty.unions.iter().map(union).collect::<Vec<_>>());
        }
        schema
    }

    fn of_field(&mut self, ty: &Type, field: &Field) -> Value {
        let mut schema = self.of_shape(&field.shape);
        let text = description(ty, &field.name);
        if !text.is_empty() {
            schema.insert_first("description", text);
        }
        // Upstream publishes defaults in version 3 only.
        if let (Dialect::V3, Some(default)) = (self.dialect, published_default(field)) {
            schema.insert("default", default);
        }
        match &field.list {
            ListKind::Unset => {}
            ListKind::Atomic => drop(schema.insert("x-kubernetes-list-type", "atomic")),
            ListKind::Set => drop(schema.insert("x-kubernetes-list-type", "set")),
            ListKind::Map(keys) => {
                schema.insert("x-kubernetes-list-type", "map");
                schema.insert("x-kubernetes-list-map-keys", strings(keys.iter().map(|key| &**key)));
            }
        }
        if let Some(atomic) = field.atomic_map {
            // Bytes are a list to upstream.
            let name = if field.shape == Shape::Bytes { "x-kubernetes-list-type" } else { "x-kubernetes-map-type" };
            schema.insert(name, if atomic { "atomic" } else { "granular" });
        }
        let patch = &field.patch;
        if let Some(key) = &patch.merge_key {
            schema.insert("x-kubernetes-patch-merge-key", &**key);
        }
        let strategies = [(patch.merge, "merge"), (patch.replace, "replace"), (patch.retain_keys, "retainKeys")];
        let strategies: Vec<&str> =
            strategies.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect();
        if !strategies.is_empty() {
            schema.insert("x-kubernetes-patch-strategy", strategies.join(","));
        }
        // A reference has no siblings in OpenAPI 3.
        if self.dialect == Dialect::V3
            && schema.len() > 1
            && let Some(reference) = schema.remove("$ref")
        {
            schema.insert_first("allOf", vec![object([("$ref", reference)])]);
        }
        schema.into()
    }

    fn of_shape(&mut self, shape: &Shape) -> Map {
        let plain = |kind: &'static str, format: &'static str| {
            let members = [("type", kind), ("format", format)];
            members.into_iter().filter(|(_, text)| !text.is_empty()).collect()
        };
        match shape {
            Shape::Bool => plain("boolean", ""),
            Shape::Int32 => plain("integer", "int32"),
            Shape::Int64 => plain("integer", "int64"),
            Shape::Double => plain("number", "double"),
            Shape::String => plain("string", ""),
            Shape::Bytes => plain("string", "byte"),
            Shape::Object => plain("object", ""),
            Shape::Any => self.reference(Definition::Json),
            Shape::Time => self.reference(Definition::Time),
            Shape::MicroTime => self.reference(Definition::MicroTime),
            Shape::Quantity => self.reference(Definition::Quantity),
            Shape::IntOrString => self.reference(Definition::IntOrString),
            Shape::FieldsV1 => self.reference(Definition::FieldsV1),
            Shape::RawExtension => self.reference(Definition::RawExtension),
            Shape::Type(ty) => self.reference(Definition::Type(*ty)),
            Shape::List(items) => self.container("array", "items", items),
            Shape::Map(values) => self.container("object", "additionalProperties", values),
        }
    }

    fn container(&mut self, kind: &str, member: &str, inner: &Shape) -> Map {
        let inner = self.of_shape(inner);
        [("type", Value::from(kind)), (member, inner.into())].into_iter().collect()
    }

    fn reference(&mut self, to: Definition) -> Map {
        self.parts.insert(to);
        match self.dialect.reference(to.name(self.model)) {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

/// What a type or one of its fields is.
fn description(ty: &Type, field: &str) -> String {
    let is_list = ty.kind.is_some() && ty.name.ends_with("List") && ty.field("items").is_some();
    match describe(&ty.openapi, "") {
        "" if is_list => describe_list(ty, field),
        _ => describe(&ty.openapi, field).to_owned(),
    }
}

/// The default that version 3 names: where nothing else is said the zero value, for what Go writes even when it is zero.
fn published_default(field: &Field) -> Option<Value> {
    if field.default.is_some() || field.nullable {
        return field.default.clone();
    }
    let is_always_there = field.empty.unwrap_or(field.required);
    match &field.shape {
        Shape::Type(_) => Some(Value::object()),
        Shape::Bool if is_always_there => Some(false.into()),
        Shape::Int32 | Shape::Int64 | Shape::Double if is_always_there => Some(0.into()),
        Shape::String if is_always_there => Some("".into()),
        _ => None,
    }
}

/// The members of a union under the names that its discriminator gives them: their own, capitalized.
fn union(union: &Union) -> Value {
    let capitalized = |name: &str| {
        let mut chars = name.chars();
        chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
    };
    let fields: Map = union.fields.iter().map(|name| (name.clone(), capitalized(name))).collect();
    let mut schema = Map::new();
    if let Some(discriminator) = &union.discriminator {
        schema.insert("discriminator", &**discriminator);
    }
    schema.insert("fields-to-discriminateBy", fields);
    schema.into()
}
