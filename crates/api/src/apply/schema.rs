//! What the typed walks need of the model: how a value at some place merges, and how the items of its lists are told apart.
//! Follows kube-openapi `pkg/schemaconv`, which derives the same from OpenAPI.

use super::path::{PathElement, Scalar};
use crate::{
    model::{Field, ListKind, Model, Shape, Type, TypeId},
    value::{Map, Value},
};

/// A place in a schema.
#[derive(Clone, Copy)]
pub(super) enum Spot<'m> {
    Field(&'m Field),
    Shape(&'m Shape),
    Type(TypeId),
    /// apiVersion and kind.
    Text,
    /// No schema: objects merge member by member, lists are atomic.
    Deduced,
    /// No schema and one value, whatever it is.
    Untyped,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarKind {
    Numeric,
    String,
    Boolean,
    Any,
}

#[derive(Clone, Copy)]
pub(super) enum Form<'m> {
    Scalar(ScalarKind),
    List(ListForm<'m>),
    Map(MapForm<'m>),
    /// Whatever the value is.
    Any(Spot<'m>),
}

#[derive(Clone, Copy)]
pub(super) struct ListForm<'m> {
    pub item: Spot<'m>,
    pub items: Items<'m>,
}

#[derive(Clone, Copy)]
pub(super) enum Items<'m> {
    Atomic,
    Set,
    Keys(&'m [Box<str>]),
}

#[derive(Clone, Copy)]
pub(super) struct MapForm<'m> {
    pub atomic: bool,
    /// Named fields, where there are any.
    pub ty: Option<&'m Type>,
    /// What members without a field are.
    pub element: Option<Spot<'m>>,
}

impl<'m> MapForm<'m> {
    /// Where a member leads; whether it is a named field.
    pub fn member(&self, name: &str) -> Option<(Spot<'m>, bool)> {
        if let Some(ty) = self.ty {
            if ty.kind.is_some() && matches!(name, "apiVersion" | "kind") {
                return Some((Spot::Text, true));
            }
            if let Some(field) = ty.field(name) {
                return Some((Spot::Field(field), true));
            }
        }
        self.element.map(|element| (element, false))
    }

    /// The same for walks that tolerate what the schema does not know.
    pub fn member_or_deduced(&self, name: &str) -> (Spot<'m>, bool) {
        self.member(name).unwrap_or((Spot::Deduced, false))
    }

    /// Fields that are there wherever their parent is, and what they are then: see [`unsaid`].
    pub fn unsaid(&self) -> impl Iterator<Item = (&'m Field, &'static Value)> {
        let fields = self.ty.map(|ty| ty.fields.as_slice()).unwrap_or_default();
        fields.iter().filter_map(|field| Some((field, unsaid(field)?)))
    }
}

/// What upstream's Go types say of a field that nobody mentioned, once its parent is there: an object held by value is
/// empty, a list or map that is always written is null.
pub(super) fn unsaid(field: &Field) -> Option<&'static Value> {
    static EMPTY: Value = Value::Object(Map::new());
    static NULL: Value = Value::Null;
    match field.shape {
        Shape::Type(_) if !field.nullable => Some(&EMPTY),
        Shape::List(_) | Shape::Map(_) if field.required => Some(&NULL),
        _ => None,
    }
}

impl Form<'_> {
    pub fn is_atomic(&self) -> bool {
        match self {
            Form::Scalar(_) => true,
            Form::List(list) => matches!(list.items, Items::Atomic),
            Form::Map(map) => map.atomic,
            Form::Any(_) => false,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Schema<'m> {
    pub model: &'m Model,
}

impl<'m> Schema<'m> {
    /// The form of values at a place, whatever they are.
    pub fn form(&self, spot: Spot<'m>) -> Form<'m> {
        match spot {
            Spot::Text => Form::Scalar(ScalarKind::String),
            Spot::Deduced | Spot::Untyped => Form::Any(spot),
            Spot::Type(id) => self.of_type(id, None),
            Spot::Shape(shape) => self.of_shape(shape, None),
            Spot::Field(field) => self.of_shape(&field.shape, Some(field)),
        }
    }

    /// The form of a value: where several are possible, its own.
    pub fn form_of(&self, spot: Spot<'m>, value: &Value) -> Form<'m> {
        let form = self.form(spot);
        let Form::Any(spot) = form else { return form };
        let inner = Spot::Untyped;
        let is_deduced = matches!(spot, Spot::Deduced);
        match value {
            Value::Array(_) => Form::List(ListForm { item: inner, items: Items::Atomic }),
            // Null goes with any form; upstream then tries that of a map.
            Value::Object(_) | Value::Null => Form::Map(MapForm { atomic: !is_deduced, ty: None, element: Some(spot) }),
            _ => Form::Scalar(ScalarKind::Any),
        }
    }

    fn of_type(&self, id: TypeId, field: Option<&'m Field>) -> Form<'m> {
        let ty = self.model.get(id);
        let field = field.or_else(|| ty.custom.as_ref()?.item.as_deref());
        match &ty.scalar {
            Some(shape) => self.of_shape(shape, field),
            None => {
                let atomic = field.and_then(|field| field.atomic_map).unwrap_or(ty.atomic);
                Form::Map(MapForm { atomic, ty: Some(ty), element: ty.is_open().then_some(Spot::Deduced) })
            }
        }
    }

    fn of_shape(&self, shape: &'m Shape, field: Option<&'m Field>) -> Form<'m> {
        match shape {
            Shape::Bool => Form::Scalar(ScalarKind::Boolean),
            Shape::Int32 | Shape::Int64 | Shape::Double => Form::Scalar(ScalarKind::Numeric),
            Shape::String | Shape::Bytes => Form::Scalar(ScalarKind::String),
            Shape::Time | Shape::MicroTime | Shape::Quantity | Shape::IntOrString => Form::Scalar(ScalarKind::Any),
            Shape::Any => Form::Any(Spot::Deduced),
            Shape::RawExtension => Form::Any(Spot::Untyped),
            Shape::Object | Shape::FieldsV1 => {
                let atomic = field.and_then(|field| field.atomic_map) == Some(true);
                Form::Map(MapForm { atomic, ty: None, element: Some(Spot::Deduced) })
            }
            Shape::Type(id) => self.of_type(*id, field),
            Shape::List(item) => {
                Form::List(ListForm { item: Spot::Shape(item), items: field.map_or(Items::Atomic, items) })
            }
            Shape::Map(item) => {
                let atomic = field.and_then(|field| field.atomic_map) == Some(true);
                Form::Map(MapForm { atomic, ty: None, element: Some(Spot::Shape(item)) })
            }
        }
    }

    /// How an item of a list map or a set is found again; the text says why it cannot be.
    pub fn element(&self, list: &ListForm<'m>, item: &Value) -> Result<PathElement, String> {
        match list.items {
            Items::Atomic => Err("invalid indexing of non-associative list".into()),
            Items::Keys(keys) => self.key(list, keys, item),
            Items::Set => match item {
                Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
                Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
                Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
                scalar => Ok(PathElement::Value(Scalar(scalar.clone()))),
            },
        }
    }

    fn key(&self, list: &ListForm<'m>, keys: &'m [Box<str>], item: &Value) -> Result<PathElement, String> {
        let map = match item {
            Value::Object(map) => map,
            Value::Null => return Err("associative list with keys may not have a null element".into()),
            _ => return Err("associative list with keys may not have non-map elements".into()),
        };
        let fields = match self.form(list.item) {
            Form::Map(form) => form.ty,
            _ => None,
        };
        // A key that is left out and has no default is part of what tells items apart: by its absence. What Go always writes
        // has its zero as default.
        let zero = |key: &str| {
            let ty = fields?;
            let mut zeros = ty.zeros.iter().filter(|(_, value)| !value.is_null());
            zeros.find(|(at, _)| *ty.fields[*at].name == *key).map(|(_, value)| value.clone())
        };
        let default = |key: &str| fields?.field(key)?.default.clone().or_else(|| zero(key));
        let value = |key: &str| map.get(key).cloned().or_else(|| default(key));
        let parts: Vec<(&str, Value)> = keys.iter().filter_map(|key| Some((&**key, value(key)?))).collect();
        if parts.is_empty() && !keys.is_empty() {
            return Err(format!(
                "associative list with keys has an element that omits all key fields {} (and doesn't have default values for any key fields)",
                quoted(keys)
            ));
        }
        Ok(PathElement::key(parts))
    }
}

/// As Go prints a list of strings with `%q`.
fn quoted(keys: &[Box<str>]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
    format!("[{}]", keys.join(" "))
}

fn items(field: &Field) -> Items<'_> {
    match &field.list {
        ListKind::Atomic => Items::Atomic,
        ListKind::Set => Items::Set,
        ListKind::Map(keys) => Items::Keys(keys),
        ListKind::Unset if !field.patch.merge => Items::Atomic,
        ListKind::Unset => match &field.patch.merge_key {
            Some(key) => Items::Keys(std::slice::from_ref(key)),
            None => Items::Set,
        },
    }
}

/// Members of two objects side by side: those of the first in its order, then those that only the second has.
pub(super) fn pairs<'a>(left: &'a Map, right: &'a Map) -> Vec<(&'a str, Option<&'a Value>, Option<&'a Value>)> {
    let mut out = Vec::with_capacity(left.len().max(right.len()));
    // Mostly both have the same members in the same order.
    let (mut rights, mut lefts) = (right.iter(), left.iter());
    let mut rest = None;
    for (name, value) in lefts.by_ref() {
        match rights.next() {
            Some((other, with)) if other == name => out.push((name, Some(value), Some(with))),
            _ => {
                rest = Some((name, value));
                break;
            }
        }
    }
    let same = out.len();
    out.extend(rest.into_iter().chain(lefts).map(|(name, value)| (name, Some(value), right.get(name))));
    let only_right = right.iter().skip(same).filter(|(name, _)| !left.contains_key(name));
    out.extend(only_right.map(|(name, value)| (name, None, Some(value))));
    out
}
