//! Strategic merge patch (apimachinery `pkg/util/strategicpatch`): a merge patch that knows from the model which lists merge,
//! and by which key. What the model does not know merges as a JSON merge patch does.

mod list;

use std::collections::{HashMap, HashSet};

use list::MergeKey;

use super::PatchError;
use super::merge::prune_nulls;
use crate::go::{go_text, go_type};
use crate::model::{Field, Model, PatchStrategy, Shape, TypeId};
use crate::value::{Map, Value};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const SET_ELEMENT_ORDER: &str = "$setElementOrder";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("invalid patch format of primitive list")]
    PrimitiveList,
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    #[error("invalid patch format of setElementOrder list")]
    SetElementOrder,
    #[error("map: {map} does not contain declared merge key: {key}")]
    NoMergeKey { map: String, key: String },
    #[error("unknown patch type: {directive} in map: {map}")]
    Directive { directive: String, map: String },
    #[error("expected a {wanted}, but received a {found}")]
    Type { wanted: &'static str, found: &'static str },
    #[error("list element types are not identical: {0}")]
    MixedList(String),
    #[error("cannot merge lists without merge key for {0}")]
    NoKeyDeclared(String),
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirective,
    #[error("The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n")]
    Order { patch: String, order: String },
}

type Result<T, E = StrategicError> = std::result::Result<T, E>;

/// Applies `patch` to an object of type `ty`.
pub fn apply(model: &Model, ty: TypeId, original: Value, patch: Value) -> std::result::Result<Value, PatchError> {
    let wanted = "map[string]interface {}";
    let Value::Object(patch) = patch else { return Err(PatchError::Decode { found: patch.type_name(), wanted }) };
    let Value::Object(original) = original else {
        return Err(PatchError::Decode { found: original.type_name(), wanted });
    };
    let schema = Schema { model, shape: Some(&Shape::Type(ty)) };
    Ok(Value::Object(schema.merge_maps(original, patch)?))
}

/// What the model says of the place that is being merged; nothing where it is free-form.
#[derive(Clone, Copy)]
struct Schema<'m> {
    model: &'m Model,
    shape: Option<&'m Shape>,
}

/// A member of an object: its schema and how it is patched.
struct Member<'m> {
    schema: Schema<'m>,
    strategy: Option<&'m PatchStrategy>,
}

impl<'m> Member<'m> {
    /// The member's items, if it is a list.
    fn items(&self) -> Schema<'m> {
        let shape = match self.schema.shape {
            Some(Shape::List(items)) => Some(&**items),
            _ => None,
        };
        Schema { shape, ..self.schema }
    }

    fn merges(&self) -> bool {
        self.strategy.is_some_and(|strategy| strategy.merge)
    }

    fn is_replaced(&self) -> bool {
        self.strategy.is_some_and(|strategy| strategy.replace)
    }

    fn merge_key(&self) -> MergeKey<'m> {
        MergeKey(self.strategy.and_then(|strategy| strategy.merge_key.as_deref()))
    }
}

impl<'m> Schema<'m> {
    fn member(self, name: &str) -> Member<'m> {
        let field: Option<&'m Field> = match self.shape {
            Some(Shape::Type(ty)) => self.model.get(*ty).field(name),
            _ => None,
        };
        let shape = match self.shape {
            Some(Shape::Map(values)) => Some(&**values),
            _ => field.map(|field| &field.shape),
        };
        Member { schema: Schema { shape, ..self }, strategy: field.map(|field| &field.patch) }
    }

    fn merge_maps(self, mut original: Map, mut patch: Map) -> Result<Map> {
        if let Some(directive) = patch.remove(DIRECTIVE) {
            return match directive.as_str() {
                Some("replace") => Ok(pruned(patch)),
                Some("delete") => Ok(Map::new()),
                _ => Err(StrategicError::Directive {
                    directive: go_text(&directive),
                    map: go_text(&Value::Object(patch)),
                }),
            };
        }
        retain_keys(&mut original, &mut patch)?;
        self.merge_ordered(&mut original, &mut patch)?;
        for (name, value) in patch {
            match name.strip_prefix(DELETE_FROM_LIST) {
                Some(rest) => {
                    let name = rest.strip_prefix('/').ok_or(StrategicError::PrimitiveList)?;
                    self.delete_from_list(&mut original, name, value)?;
                }
                None => self.merge_member(&mut original, name, value)?,
            }
        }
        Ok(original)
    }

    fn merge_member(self, original: &mut Map, name: Box<str>, mut patch: Value) -> Result<()> {
        if patch.is_null() {
            original.remove(&name);
            return Ok(());
        }
        let member = self.member(&name);
        let merged = match (original.get_mut(&name), patch) {
            (Some(Value::Object(former)), Value::Object(patch)) if !member.is_replaced() => {
                Some(Value::Object(member.schema.merge_maps(std::mem::take(former), patch)?))
            }
            (Some(Value::Array(former)), Value::Array(patch)) if member.merges() => {
                let former = std::mem::take(former);
                Some(Value::Array(member.items().merge_lists(former, patch, member.merge_key())?))
            }
            (Some(Value::Object(_)), Value::Object(patch)) => Some(Value::Object(pruned(patch))),
            (Some(Value::Array(_)), replacement @ Value::Array(_)) => {
                patch = replacement;
                prune_nulls(&mut patch);
                Some(patch)
            }
            (_, other) => {
                patch = other;
                prune_nulls(&mut patch);
                without_directives(patch)
            }
        };
        match merged {
            Some(value) => original.insert(name, value),
            None => original.remove(&name),
        };
        Ok(())
    }

    fn delete_from_list(self, original: &mut Map, name: &str, doomed: Value) -> Result<()> {
        if doomed.is_null() {
            original.remove(name);
            return Ok(());
        }
        if let (Some(Value::Array(items)), Value::Array(doomed)) = (original.get_mut(name), doomed) {
            if list::check_items(&[items.as_slice(), doomed.as_slice()])? == Some(list::Kind::Map) {
                return Err(StrategicError::NoKeyDeclared(name.to_owned()));
            }
            let doomed: HashSet<Value> = doomed.into_iter().collect();
            items.retain(|item| !doomed.contains(item));
        }
        Ok(())
    }

    /// Merges the lists whose order the patch states with `$setElementOrder/NAME`, and takes them out of the patch.
    fn merge_ordered(self, original: &mut Map, patch: &mut Map) -> Result<()> {
        let ordered: Vec<Box<str>> =
            patch.keys().filter(|name| name.starts_with(SET_ELEMENT_ORDER)).map(Into::into).collect();
        for directive in ordered {
            let name = directive.strip_prefix(SET_ELEMENT_ORDER).and_then(|rest| rest.strip_prefix('/'));
            let name = name.ok_or(StrategicError::SetElementOrder)?;
            let order = list_of(patch.remove(&directive))?.unwrap_or_default();
            let former = list_of(original.get(name).cloned())?;
            let items = list_of(patch.remove(name))?;
            let member = self.member(name);
            let key = member.merge_key();
            key.check_order(items.as_deref().unwrap_or_default(), &order)?;
            let lists = [former.as_deref().unwrap_or_default(), items.as_deref().unwrap_or_default()];
            let kind = list::check_items(&lists)?;
            let merged = match (former.clone(), items) {
                (Some(former), None) => former,
                (None, Some(items)) => items.into_iter().filter_map(without_directives).collect(),
                (Some(former), Some(items)) if member.merges() => member.items().merge_lists(former, items, key)?,
                (Some(_), Some(items)) => items,
                (None, None) => continue,
            };
            let key = if kind == Some(list::Kind::Map) { key } else { MergeKey(None) };
            let sorted = key.sort(merged, &order, &former.unwrap_or_default())?;
            original.insert(name, Value::Array(sorted));
        }
        Ok(())
    }

    fn merge_lists(self, original: Vec<Value>, patch: Vec<Value>, key: MergeKey) -> Result<Vec<Value>> {
        match list::check_items(&[&original, &patch])? {
            None => Ok(original),
            Some(list::Kind::Scalar) => {
                let mut seen = HashSet::with_capacity(original.len() + patch.len());
                let both = original.iter().chain(&patch);
                let merged = both.filter(|item| seen.insert(*item)).cloned().collect();
                MergeKey(None).sort(merged, &patch, &original)
            }
            Some(list::Kind::Map) => {
                let MergeKey(Some(name)) = key else { return Err(StrategicError::NoKeyDeclared(self.name())) };
                let (original, patch) = list::apply_directives(name, original, patch)?;
                let merged = self.merge_items(key, original.clone(), patch.clone())?;
                key.sort(merged, &patch, &original)
            }
        }
    }

    /// Each item into the one with its key, or behind the others.
    fn merge_items(self, key: MergeKey, mut list: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>> {
        let mut places: HashMap<Value, usize> = HashMap::with_capacity(list.len());
        for (at, item) in list.iter().enumerate() {
            places.entry(key.of(item)?.clone()).or_insert(at);
        }
        for mut item in patch {
            let wanted = key.of(&item)?.clone();
            match (places.get(&wanted).map(|at| &mut list[*at]), item) {
                (Some(Value::Object(former)), Value::Object(patch)) => {
                    *former = self.merge_maps(std::mem::take(former), patch)?;
                }
                (_, other) => {
                    item = other;
                    prune_nulls(&mut item);
                    // Upstream leaves what a new item would delete in it, which then is there without its fields.
                    if let Some(item) = without_directives(item) {
                        places.entry(wanted).or_insert(list.len());
                        list.push(item);
                    }
                }
            }
        }
        Ok(list)
    }

    fn name(self) -> String {
        match self.shape {
            Some(Shape::Type(ty)) => self.model.get(*ty).name.to_string(),
            _ => "unknown".to_owned(),
        }
    }
}

fn pruned(map: Map) -> Map {
    let mut value = Value::Object(map);
    prune_nulls(&mut value);
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn list_of(value: Option<Value>) -> Result<Option<Vec<Value>>> {
    match value {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(other) => Err(StrategicError::Type { wanted: "[]interface {}", found: found(&other) }),
    }
}

/// Clears what `$retainKeys` does not name; the patch may set nothing else.
fn retain_keys(original: &mut Map, patch: &mut Map) -> Result<()> {
    let Some(retained) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(retained) = retained else { return Err(StrategicError::RetainKeys) };
    let retained: HashSet<&str> = retained.iter().filter_map(Value::as_str).collect();
    let is_retained = |name: &str| retained.contains(name);
    let is_directive = |name: &str| name.starts_with(DELETE_FROM_LIST) || name.starts_with(SET_ELEMENT_ORDER);
    if patch.iter().any(|(name, value)| !value.is_null() && !is_directive(name) && !is_retained(name)) {
        return Err(StrategicError::RetainKeys);
    }
    original.retain(|name, _| is_retained(name));
    Ok(())
}

/// The value without the objects that carry `$patch`; nothing if it is one itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => {
            let members = map.into_iter().filter_map(|(name, member)| Some((name, without_directives(member)?)));
            Some(Value::Object(members.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

/// The type of a value as upstream's messages name it: `%s` of what `reflect.TypeOf` gives.
fn found(value: &Value) -> &'static str {
    if value.is_null() { "%!s(<nil>)" } else { go_type(value) }
}
