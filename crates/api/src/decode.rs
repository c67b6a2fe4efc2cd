//! From a client's tree to an object of a type: unknown members are found and dropped, values checked and brought into
//! canonical form, nulls dropped, defaults filled in, and what upstream's answers always have is added (Go's `omitempty` keeps
//! structs, and fields without it stand even when they are empty). One walk over the model serves every kind.

use crate::{
    model::{Field, Model, Shape, Type, TypeId},
    quantity::Quantity,
    value::{Map, Value},
};

mod custom;
mod defaults;
mod scalar;

/// What the walk found that a client may want to hear of.
#[derive(Debug, Default, PartialEq)]
pub struct Findings {
    /// Paths of members that the schema does not have, as `spec.containers[0].colour`.
    pub unknown: Vec<String>,
}

/// A value that does not fit its field: the request cannot be decoded at all.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    /// Path of the field.
    pub field: String,
    pub message: String,
}

/// Which defaults [`decode`] fills in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defaults {
    /// None: a patch or a fragment.
    Off,
    /// All, as for a whole object of a client; and what upstream always writes.
    On,
}

/// Brings `object` into the form of type `ty`, in place.
pub fn decode(model: &Model, ty: TypeId, object: &mut Value, defaults: Defaults) -> Result<Findings, DecodeError> {
    let mut walk = Walk { model, defaults, is_custom: false, path: Vec::new(), unknown: Vec::new(), dropped: false };
    let ty = model.get(ty);
    walk.object(ty, object)?;
    Ok(Findings { unknown: if ty.custom.is_some() { custom::ordered(walk.unknown) } else { walk.paths() } })
}

enum Step {
    Member(Box<str>),
    Index(usize),
    Key(Box<str>),
}

struct Walk<'m> {
    model: &'m Model,
    defaults: Defaults,
    /// Within a custom resource's own types, whose values are checked later.
    is_custom: bool,
    path: Vec<Step>,
    unknown: Vec<Unknown>,
    /// A field that may be all that an object says was dropped from the one that is walked: without another it goes, too.
    dropped: bool,
}

/// A member that the schema does not have.
struct Unknown {
    path: String,
    /// Of a type that a CustomResourceDefinition's schema makes.
    is_custom: bool,
}

impl Walk<'_> {
    fn object(&mut self, ty: &Type, value: &mut Value) -> Result<(), DecodeError> {
        let was_custom = std::mem::replace(&mut self.is_custom, ty.custom.is_some());
        let result = self.members(ty, value);
        self.is_custom = was_custom;
        result
    }

    fn members(&mut self, ty: &Type, value: &mut Value) -> Result<(), DecodeError> {
        match &ty.scalar {
            Some(Shape::Any) if !ty.inline.is_empty() => return self.either(ty, value),
            Some(shape) => return self.shape(shape, value),
            None => {}
        }
        let Value::Object(map) = value else {
            return if self.is_custom { Ok(()) } else { Err(self.mismatch(value, &ty.name)) };
        };
        // Upstream fills in custom resources from the outside to the inside: what a default says is completed too.
        if self.is_custom && self.defaults == Defaults::On {
            custom::fill(ty, map);
        }
        let completes = self.defaults == Defaults::On && !self.is_custom;
        if completes {
            add_structs(ty, map);
        }
        let mut failed = None;
        map.retain(|name, member| {
            if failed.is_some() {
                return true;
            }
            match self.member(ty, name, member) {
                Ok(keep) => keep,
                Err(error) => {
                    failed = Some(error);
                    true
                }
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        if completes {
            fill(ty, map);
            defaults::apply(&ty.name, map);
            add_zeros(ty, map);
        }
        Ok(())
    }

    /// A value whose JSON type says which of several shapes it has, as `items` of a schema.
    fn either(&mut self, ty: &Type, value: &mut Value) -> Result<(), DecodeError> {
        let model = self.model;
        let fits = |shape: &&Shape| match shape {
            Shape::Bool => matches!(value, Value::Bool(_)),
            Shape::List(_) => matches!(value, Value::Array(_)),
            _ => matches!(value, Value::Object(_)),
        };
        match ty.inline.iter().map(|inline| &inline.shape).find(fits) {
            Some(Shape::Type(id)) => self.object(model.get(*id), value),
            Some(shape) => self.shape(shape, value),
            None => Err(self.mismatch(value, &ty.name)),
        }
    }

    /// Whether the member stays.
    fn member(&mut self, ty: &Type, name: &str, member: &mut Value) -> Result<bool, DecodeError> {
        if ty.kind.is_some() && matches!(name, "apiVersion" | "kind") {
            if member.as_str().is_none() && !member.is_null() {
                self.path.push(Step::Member(name.into()));
                return Err(self.mismatch(member, "string"));
            }
            return Ok(!member.is_null());
        }
        let Some(field) = ty.field(name) else {
            if ty.is_open() {
                return Ok(true);
            }
            self.path.push(Step::Member(name.into()));
            self.unknown.push(Unknown { path: self.path(), is_custom: self.is_custom });
            self.path.pop();
            return Ok(false);
        };
        if member.is_null() {
            return Ok(field.keeps_null);
        }
        if field.gated && self.defaults == Defaults::On {
            self.dropped |= field.sole;
            return Ok(false);
        }
        self.path.push(Step::Member(name.into()));
        let outer = std::mem::take(&mut self.dropped);
        self.shape(&field.shape, member)?;
        self.path.pop();
        if std::mem::replace(&mut self.dropped, outer) && member.as_object().is_some_and(Map::is_empty) {
            return Ok(false);
        }
        if self.defaults == Defaults::Off || self.is_custom || !self.is_empty(&field.shape, member) {
            return Ok(true);
        }
        // What Go writes although it is empty has been through protobuf in upstream's store, which knows no empty lists.
        let is_collection = matches!(member, Value::Array(_) | Value::Object(_));
        if is_collection && ty.zeros.iter().any(|(at, zero)| zero.is_null() && ty.fields[*at].name == field.name) {
            *member = Value::Null;
        }
        // What an empty list of them says it says of an object, not of one in a template.
        let is_inner = field.kept && self.path.len() > 1 && &*ty.name == "meta.v1.ObjectMeta";
        Ok(!field.omits_empty && !is_inner)
    }

    /// Whether Go's `omitempty` leaves the value out.
    fn is_empty(&self, shape: &Shape, value: &Value) -> bool {
        match (shape, value) {
            (Shape::Type(id), _) => {
                self.model.get(*id).scalar.as_ref().is_some_and(|shape| self.is_empty(shape, value))
            }
            (Shape::List(_), Value::Array(items)) => items.is_empty(),
            (Shape::Map(_), Value::Object(map)) => map.is_empty(),
            (Shape::String | Shape::Bytes, Value::String(text)) => text.is_empty(),
            (Shape::Int32 | Shape::Int64, Value::Int(number)) => *number == 0,
            (Shape::Bool, Value::Bool(value)) => !value,
            _ => false,
        }
    }

    fn shape(&mut self, shape: &Shape, value: &mut Value) -> Result<(), DecodeError> {
        match (shape, &mut *value) {
            (Shape::Type(id), _) => {
                let model = self.model;
                self.object(model.get(*id), value)
            }
            (Shape::List(item), Value::Array(items)) => self.list(item, items),
            (Shape::Map(item), Value::Object(map)) => self.map(item, map),
            _ if self.is_custom => Ok(()),
            (Shape::List(_), _) => Err(self.mismatch(value, "list")),
            (Shape::Map(_), _) => Err(self.mismatch(value, "map")),
            (scalar, _) => scalar::check(scalar, value).map_err(|expected| self.mismatch(value, &expected)),
        }
    }

    fn list(&mut self, item: &Shape, items: &mut [Value]) -> Result<(), DecodeError> {
        for (index, entry) in items.iter_mut().enumerate() {
            self.path.push(Step::Index(index));
            if entry.is_null() {
                *entry = self.in_place_of_null(item);
            }
            if !entry.is_null() {
                self.shape(item, entry)?;
            }
            self.path.pop();
        }
        Ok(())
    }

    fn map(&mut self, item: &Shape, map: &mut Map) -> Result<(), DecodeError> {
        if self.is_custom {
            custom::drop_nulls(self.model, item, map);
        }
        for (name, entry) in map.iter_mut() {
            self.path.push(Step::Key(name.into()));
            if entry.is_null() {
                *entry = self.in_place_of_null(item);
            }
            if !entry.is_null() {
                self.shape(item, entry)?;
            }
            self.path.pop();
        }
        Ok(())
    }

    fn in_place_of_null(&self, item: &Shape) -> Value {
        if self.is_custom { custom::in_place_of_null(self.model, item) } else { zero(item) }
    }

    fn mismatch(&self, value: &Value, expected: &str) -> DecodeError {
        let field = self.path();
        let found = match value {
            Value::String(_) | Value::Int(_) | Value::Float(_) | Value::Bool(_) => {
                let text: String = value.to_string().chars().take(64).collect();
                format!("{} {text}", value.type_name())
            }
            _ => value.type_name().to_owned(),
        };
        let at = if field.is_empty() { String::new() } else { format!(" into field {field}") };
        DecodeError { message: format!("json: cannot unmarshal {found}{at} of type {expected}"), field }
    }

    fn paths(self) -> Vec<String> {
        self.unknown.into_iter().map(|unknown| unknown.path).collect()
    }

    fn path(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Index(index) => text.push_str(&format!("[{index}]")),
                Step::Key(key) | Step::Member(key) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(key);
                }
            }
        }
        text
    }
}

/// What a null in a list or map stands for, as in Go.
fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::IntOrString => Value::Int(0),
        Shape::Double => Value::Float(0.0),
        Shape::String | Shape::Bytes => "".into(),
        Shape::Quantity => "0".into(),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Type(_) | Shape::Map(_) | Shape::Object | Shape::FieldsV1 | Shape::RawExtension => Value::object(),
        Shape::Any | Shape::Time | Shape::MicroTime => Value::Null,
    }
}

/// Member `name` of an object of type `ty` that says nothing of it, with its defaults; `None` where upstream leaves it out.
pub fn unsaid(model: &Model, ty: TypeId, name: &str) -> Option<Value> {
    let ty = model.get(ty);
    let field = ty.structs.iter().map(|&at| &ty.fields[at]).find(|field| *field.name == *name)?;
    let Shape::Type(id) = &field.shape else { return None };
    let mut value = Value::object();
    // An empty object fits every type.
    decode(model, *id, &mut value, Defaults::On).ok()?;
    Some(value)
}

/// The fields that Go types hold by value are there, empty ones too; what they hold is completed when they are walked.
fn add_structs(ty: &Type, map: &mut Map) {
    for &at in &ty.structs {
        map.entry_or_insert_with(&ty.fields[at].name, Value::object);
    }
}

/// What is written even when it says nothing. A default, where there is one, stands already.
fn add_zeros(ty: &Type, map: &mut Map) {
    for (at, value) in &ty.zeros {
        map.entry_or_insert_with(&ty.fields[*at].name, || value.clone());
    }
}

/// Fills in the model's own defaults. A default that equals Go's zero value is left out, as upstream's output leaves it;
/// behind a pointer it is a value.
fn fill(ty: &Type, map: &mut Map) {
    for field in &ty.fields {
        if let Some(value) = default_of(field)
            && is_unsaid(field, map.get(&field.name))
        {
            map.insert(field.name.clone(), value.clone());
        }
    }
}

/// An empty text is none where Go has no pointer.
fn is_unsaid(field: &Field, member: Option<&Value>) -> bool {
    member.is_none_or(|member| !field.nullable && member.as_str() == Some(""))
}

fn default_of(field: &Field) -> Option<&Value> {
    match &field.default {
        value @ Some(_) if field.nullable => value.as_ref(),
        Some(Value::Bool(false) | Value::Int(0)) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        default => default.as_ref().or(field.implied.as_ref()),
    }
}

/// A quantity in canonical form; `None` where it is none.
fn canonical_quantity(text: &str) -> Option<String> {
    Quantity::canonical(text).ok().map(|canonical| canonical.into_owned())
}
