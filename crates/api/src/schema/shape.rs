//! From a schema to types of a model: what decoding, defaulting and server-side apply go by.

use super::{Additional, Schema};
use crate::model::{Custom, Field, Gvk, ListKind, Model, Shape, Type, TypeId};

impl Schema {
    /// Makes the types of a resource of kind `gvk`; gives back the model with them and the type of its objects.
    pub fn model(&self, gvk: &Gvk) -> (Model, TypeId) {
        let mut model = Model::over_builtin();
        let ty = Maker { model: &mut model }.object(self, &gvk.kind, Some(gvk), None);
        (model, ty)
    }
}

struct Maker<'m> {
    model: &'m mut Model,
}

impl Maker<'_> {
    /// `name` tells where in the resource the type stands. The root of a resource has a kind of its own.
    fn object(&mut self, schema: &Schema, name: &str, kind: Option<&Gvk>, item: Option<Box<Field>>) -> TypeId {
        let is_resource = kind.is_some() || schema.is_embedded;
        let own = schema.properties.iter().filter(|(key, _)| !(is_resource && is_meta(key)));
        let mut fields: Vec<Field> =
            own.map(|(key, schema)| self.field(schema, key, &format!("{name}.{key}"))).collect();
        if is_resource {
            let metadata = self.model.find("meta.v1.ObjectMeta");
            fields.extend(metadata.map(|ty| Field { nullable: true, ..Field::new("metadata", Shape::Type(ty)) }));
        }
        if schema.is_embedded && kind.is_none() {
            fields
                .extend(["apiVersion", "kind"].map(|name| Field { nullable: true, ..Field::new(name, Shape::String) }));
        }
        self.model.add(Type {
            name: name.into(),
            kind: kind.cloned(),
            fields,
            atomic: schema.atomic_map == Some(true),
            custom: Some(Custom { open: schema.is_open, item, published: None }),
            ..Type::default()
        })
    }

    fn field(&mut self, schema: &Schema, key: &str, name: &str) -> Field {
        let shape = self.shape(schema, name, None);
        Field { required: false, ..merging(schema, key, shape) }
    }

    fn shape(&mut self, schema: &Schema, name: &str, item: Option<Box<Field>>) -> Shape {
        if schema.is_int_or_string {
            return Shape::IntOrString;
        }
        match (&*schema.kind, &schema.additional) {
            ("string", _) => Shape::String,
            ("integer", _) => Shape::Int64,
            ("number", _) => Shape::Double,
            ("boolean", _) => Shape::Bool,
            ("array", _) => Shape::List(Box::new(self.item(schema.items.as_deref(), &format!("{name}[]")))),
            (_, Additional::Schema(values)) if schema.properties.is_empty() => {
                Shape::Map(Box::new(self.item(Some(values), &format!("{name}{{}}"))))
            }
            (_, Additional::Any(true)) if schema.properties.is_empty() && !schema.is_open => {
                Shape::Map(Box::new(self.item(None, &format!("{name}{{}}"))))
            }
            ("object", _) => Shape::Type(self.object(schema, name, None, item)),
            _ if schema.properties.is_empty() => Shape::Any,
            _ => Shape::Type(self.object(schema, name, None, item)),
        }
    }

    /// The shape of the items of a list or the values of a map. Where they have a default, may be null or merge in a way of
    /// their own, they get a type that says so.
    fn item(&mut self, schema: Option<&Schema>, name: &str) -> Shape {
        // Without a schema whatever is in an item goes.
        let empty = Schema::default();
        let Some(schema) = schema else { return Shape::Type(self.object(&empty, name, None, None)) };
        let stands = merging(schema, "", Shape::Any);
        let shape = self.shape(schema, name, Some(Box::new(stands.clone())));
        let says_more = schema.nullable
            || schema.default.is_some()
            || schema.list != ListKind::Unset
            || schema.atomic_map.is_some();
        if matches!(shape, Shape::Type(_)) || !says_more {
            return shape;
        }
        Shape::Type(self.model.add(Type {
            name: name.into(),
            scalar: Some(shape),
            custom: Some(Custom { item: Some(Box::new(stands)), ..Custom::default() }),
            ..Type::default()
        }))
    }
}

fn merging(schema: &Schema, key: &str, shape: Shape) -> Field {
    Field {
        list: schema.list.clone(),
        atomic_map: schema.atomic_map,
        default: schema.default.clone(),
        keeps_null: schema.nullable,
        // A zero value is not the same as none.
        nullable: true,
        ..Field::new(key, shape)
    }
}

/// What every resource has.
pub(super) fn is_meta(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}
