//! The fields that an object says, and objects with items taken out (`typed/tofieldset.go`, `typed/remove.go`).

use std::collections::BTreeMap;

use super::{
    path::PathElement,
    schema::{Form, Items, ListForm, MapForm, Schema, Spot},
    set::{Node, Set, Step},
};
use crate::{
    model::{Model, TypeId},
    value::{Map, Value},
};

/// Every leaf and every item that an object says. Members of `skip`, and everything below them, are left out.
pub fn to_field_set(model: &Model, ty: TypeId, object: &Value, skip: &Set) -> Set {
    Fields { schema: Schema { model } }.below(Spot::Type(ty), object, Some(skip)).1
}

struct Fields<'m> {
    schema: Schema<'m>,
}

impl<'m> Fields<'m> {
    /// Whether the value is a leaf, and what lies below it.
    fn below(&self, spot: Spot<'m>, value: &Value, skip: Option<&Set>) -> (bool, Set) {
        let form = self.schema.form_of(spot, value);
        match (form, value) {
            (Form::List(list), Value::Array(items)) if !form.is_atomic() => (false, self.list(&list, items)),
            (Form::Map(map), Value::Object(members)) if !form.is_atomic() => (false, self.map(&map, members, skip)),
            (Form::List(_) | Form::Map(_), Value::Null) if !form.is_atomic() => (false, Set::new()),
            _ => (true, Set::new()),
        }
    }

    fn map(&self, form: &MapForm<'m>, members: &Map, skip: Option<&Set>) -> Set {
        let mut nodes = Vec::with_capacity(members.len());
        for (name, value) in members.iter() {
            let below = skip.and_then(|skip| skip.node(Step::Field(name)));
            if below.is_some_and(|node| node.member) {
                continue;
            }
            let (spot, is_named) = form.member_or_deduced(name);
            let (is_leaf, children) = self.below(spot, value, below.map(|node| &node.children));
            let is_empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
            let member = is_leaf || is_empty || !is_named;
            if member || !children.is_empty() {
                nodes.push(Node { element: PathElement::field(name), member, children });
            }
        }
        Set::of_nodes(nodes)
    }

    fn list(&self, list: &ListForm<'m>, items: &[Value]) -> Set {
        let mut found: BTreeMap<PathElement, Vec<&Value>> = BTreeMap::new();
        for item in items {
            if let Ok(element) = self.schema.element(list, item) {
                found.entry(element).or_default().push(item);
            }
        }
        let node = |(element, items): (PathElement, Vec<&Value>)| {
            // Items that stand more than once are owned as one.
            let children = match items.as_slice() {
                [one] => self.below(list.item, one, None).1,
                _ => Set::new(),
            };
            Node { element, member: true, children }
        };
        Set { nodes: found.into_iter().map(node).collect() }
    }
}

/// The object without the members and items of `set`.
pub fn remove_items(model: &Model, ty: TypeId, object: &Value, set: &Set) -> Value {
    Pick { schema: Schema { model }, extract: false }.of(Spot::Type(ty), object, set)
}

/// The object with nothing but the members and items of `set`.
pub fn extract_items(model: &Model, ty: TypeId, object: &Value, set: &Set) -> Value {
    Pick { schema: Schema { model }, extract: true }.of(Spot::Type(ty), object, set)
}

struct Pick<'m> {
    schema: Schema<'m>,
    extract: bool,
}

impl<'m> Pick<'m> {
    /// Null where nothing is left.
    fn of(&self, spot: Spot<'m>, value: &Value, set: &Set) -> Value {
        let form = self.schema.form_of(spot, value);
        match (form, value) {
            (Form::Scalar(_) | Form::Any(_), value) => value.clone(),
            // One value: taken as a whole, or gone as a whole.
            (form, value) if form.is_atomic() => self.whole(value),
            (Form::List(list), Value::Array(items)) if !items.is_empty() => self.list(&list, items, set),
            (Form::Map(map), Value::Object(members)) if !members.is_empty() => self.map(&map, members, set),
            (_, value) => self.whole(value),
        }
    }

    fn whole(&self, value: &Value) -> Value {
        if self.extract { value.clone() } else { Value::Null }
    }

    fn list(&self, list: &ListForm<'m>, items: &[Value], set: &Set) -> Value {
        let mut kept = Vec::with_capacity(items.len());
        let mut went_inside = false;
        for item in items {
            let element = self.schema.element(list, item).ok();
            let node = element.as_ref().and_then(|element| set.node(Step::Element(element)));
            let below = node.map(|node| &node.children).filter(|below| !below.is_empty());
            match (self.extract, node, below) {
                (true, None, _) => {}
                (true, Some(_), None) | (false, None, _) => kept.push(item.clone()),
                (true, Some(_), Some(below)) => kept.push(self.of(list.item, item, below)),
                (false, Some(node), _) if node.member => {}
                (false, Some(_), below) => {
                    went_inside = true;
                    kept.push(self.inside(list.item, item, below));
                }
            }
        }
        if kept.is_empty() && (self.extract || !went_inside) { Value::Null } else { Value::Array(kept) }
    }

    fn map(&self, form: &MapForm<'m>, members: &Map, set: &Set) -> Value {
        let mut kept = Map::with_capacity(members.len());
        let mut went_inside = false;
        for (name, value) in members.iter() {
            let (spot, _) = form.member_or_deduced(name);
            let node = set.node(Step::Field(name));
            let below = node.map(|node| &node.children).filter(|below| !below.is_empty());
            let value = match (self.extract, node, below) {
                (true, None, _) => continue,
                (true, Some(_), below) => below.map_or_else(|| value.clone(), |below| self.of(spot, value, below)),
                (false, None, _) => value.clone(),
                (false, Some(node), _) if node.member => continue,
                (false, Some(_), below) => {
                    went_inside = true;
                    self.inside(spot, value, below)
                }
            };
            kept.push_unchecked(name.into(), value);
        }
        if kept.is_empty() && (self.extract || !went_inside) { Value::Null } else { Value::Object(kept) }
    }

    /// A container that has lost everything in it stays, empty.
    fn inside(&self, spot: Spot<'m>, value: &Value, below: Option<&Set>) -> Value {
        let Some(below) = below else { return value.clone() };
        match (self.of(spot, value, below), value) {
            (Value::Null, Value::Object(_)) => Value::object(),
            (Value::Null, Value::Array(_)) => Value::Array(Vec::new()),
            (left, _) => left,
        }
    }
}

/// The set with all named fields on the way to its members: `a` for `a.b.c`, but not a map's key `b`.
pub(super) fn with_named_fields(model: &Model, ty: TypeId, set: &Set) -> Set {
    named(Schema { model }, Some(Spot::Type(ty)), set)
}

fn named<'m>(schema: Schema<'m>, spot: Option<Spot<'m>>, set: &Set) -> Set {
    let form = spot.map(|spot| schema.form(spot));
    let node = |node: &Node| {
        let (below, is_named) = match (&node.element, form) {
            (PathElement::Field(name), Some(Form::Map(map))) => match map.member(name) {
                Some((spot, is_named)) => (Some(spot), is_named),
                None => (None, false),
            },
            (PathElement::Key(_), Some(Form::List(list))) if !matches!(list.items, Items::Atomic) => {
                (Some(list.item), false)
            }
            _ => (None, false),
        };
        Node {
            element: node.element.clone(),
            member: node.member || (is_named && !node.children.is_empty()),
            children: named(schema, below, &node.children),
        }
    };
    Set { nodes: set.nodes.iter().map(node).collect() }
}
