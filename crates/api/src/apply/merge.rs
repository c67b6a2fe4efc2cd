//! An applied configuration laid over an object: nothing is taken away, leaves of the configuration count, and the order
//! of items follows it (`typed/merge.go`).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    path::PathElement,
    schema::{Form, ListForm, MapForm, Schema, Spot, pairs},
    validate::TypedError,
};
use crate::{
    model::{Model, TypeId},
    value::{Map, Value},
};

/// Fails on items that cannot be told apart: the object's own, as the configuration is validated before.
pub fn merge(model: &Model, ty: TypeId, object: &Value, config: &Value) -> Result<Value, TypedError> {
    let merge = Merge { schema: Schema { model } };
    Ok(merge.value(Spot::Type(ty), Some(object), Some(config))?.unwrap_or_else(Value::object))
}

struct Merge<'m> {
    schema: Schema<'m>,
}

impl<'m> Merge<'m> {
    fn value(&self, spot: Spot<'m>, left: Option<&Value>, right: Option<&Value>) -> Result<Option<Value>, TypedError> {
        let form = match (left, right) {
            (_, Some(new)) if !new.is_null() => self.schema.form_of(spot, new),
            (Some(old), _) => self.schema.form_of(spot, old),
            (None, Some(new)) => self.schema.form_of(spot, new),
            (None, None) => return Ok(None),
        };
        match form {
            Form::List(list) if !form.is_atomic() => {
                let (old, new) = (items(left), items(right));
                if old.is_empty() && new.is_empty() { Ok(keep_right(left, right)) } else { self.list(&list, old, new) }
            }
            Form::Map(map) if !form.is_atomic() => {
                let nothing = Map::new();
                let (old, new) = (members(left).unwrap_or(&nothing), members(right).unwrap_or(&nothing));
                if old.is_empty() && new.is_empty() { Ok(keep_right(left, right)) } else { self.map(&map, old, new) }
            }
            _ => Ok(keep_right(left, right)),
        }
    }

    fn map(&self, form: &MapForm<'m>, old: &Map, new: &Map) -> Result<Option<Value>, TypedError> {
        let mut out = Map::with_capacity(old.len() + new.len());
        for (name, from, to) in pairs(old, new) {
            let (spot, _) = form.member_or_deduced(name);
            let merged = self.value(spot, from, to).map_err(|error| error.under(&PathElement::field(name)))?;
            if let Some(merged) = merged {
                out.push_unchecked(name.into(), merged);
            }
        }
        Ok((!out.is_empty()).then_some(Value::Object(out)))
    }

    fn list(&self, list: &ListForm<'m>, old: &[Value], new: &[Value]) -> Result<Option<Value>, TypedError> {
        let old = self.index(list, old, true)?;
        let new = self.index(list, new, false)?;
        let mut out = Vec::with_capacity(old.len().max(new.len()));
        for (left, right) in interleave(&old, &new) {
            let element = match (left, right) {
                (_, Some(at)) => &new[at].0,
                (Some(at), None) => &old[at].0,
                (None, None) => continue,
            };
            // An item that stands more than once is replaced, not merged with.
            let from = left.and_then(|at| if right.is_some() && old[at].2 { None } else { Some(old[at].1) });
            let merged =
                self.value(list.item, from, right.map(|at| new[at].1)).map_err(|error| error.under(element))?;
            out.extend(merged);
        }
        Ok((!out.is_empty()).then_some(Value::Array(out)))
    }

    /// Each item with what identifies it, and whether that stands more than once.
    fn index<'v>(
        &self,
        list: &ListForm<'m>,
        items: &'v [Value],
        duplicates: bool,
    ) -> Result<Vec<Item<'v>>, TypedError> {
        let mut count: BTreeMap<PathElement, usize> = BTreeMap::new();
        let mut out = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let element =
                self.schema.element(list, item).map_err(|why| TypedError::one(format!("element {at}: {why}")))?;
            let times = count.entry(element.clone()).or_default();
            *times += 1;
            if *times > 1 && !duplicates {
                return Err(TypedError::one(format!("duplicate entries for key {element}")));
            }
            out.push((element, item, false));
        }
        for item in &mut out {
            item.2 = count.get(&item.0).is_some_and(|times| *times > 1);
        }
        Ok(out)
    }
}

type Item<'v> = (PathElement, &'v Value, bool);

/// The order of a merged list: items that only the object has stay beside their neighbours, the others stand as the
/// configuration has them. Pairs of indexes into the two lists.
fn interleave(old: &[Item<'_>], new: &[Item<'_>]) -> Vec<(Option<usize>, Option<usize>)> {
    let old_at: BTreeMap<&PathElement, usize> = old.iter().enumerate().rev().map(|(at, item)| (&item.0, at)).collect();
    let new_has: BTreeSet<&PathElement> = new.iter().map(|item| &item.0).collect();
    let mut shared = new.iter().map(|item| &item.0).filter(|element| old_at.contains_key(element)).peekable();
    let mut merged: BTreeSet<&PathElement> = BTreeSet::new();
    let mut out = Vec::with_capacity(old.len() + new.len());
    let (mut left, mut right) = (0, 0);
    while left < old.len() || right < new.len() {
        if left < old.len() && right < new.len() {
            let element = &old[left].0;
            if *element == new[right].0 {
                merged.insert(element);
                out.push((Some(left), Some(right)));
                left += 1;
                right += 1;
                shared.next();
                continue;
            }
            if new_has.contains(element) && shared.peek().is_some_and(|next| *next != element) {
                // Shared, but its turn comes later.
                left += 1;
                continue;
            }
        }
        if left < old.len() {
            let element = &old[left].0;
            if !new_has.contains(element) {
                out.push((Some(left), None));
                left += 1;
                continue;
            }
            if merged.contains(element) {
                left += 1;
            }
        }
        if right < new.len() {
            let element = &new[right].0;
            merged.insert(element);
            out.push((old_at.get(element).copied(), Some(right)));
            right += 1;
            shared.next_if(|next| *next == element);
        }
    }
    out
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).unwrap_or_default()
}

fn members(value: Option<&Value>) -> Option<&Map> {
    value.and_then(Value::as_object)
}

fn keep_right(left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    right.or(left).cloned()
}
