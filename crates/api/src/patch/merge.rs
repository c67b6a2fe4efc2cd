//! JSON merge patch (RFC 7386), as evanphx/json-patch applies it: nulls inside objects of a new array go as well. (Upstream
//! leaves them where the array takes an object's place; decoding drops them there, and here a patch applied twice changes
//! nothing more.)

use super::PatchError;
use crate::value::{Map, Value};

/// Applies `patch`, which must be an object, to `document`.
pub fn apply(document: Value, patch: Value) -> Result<Value, PatchError> {
    match patch {
        Value::Object(patch) => Ok(merge(document, Value::Object(patch))),
        other => Err(PatchError::Decode { found: other.type_name(), wanted: "map[string]interface {}" }),
    }
}

fn merge(current: Value, patch: Value) -> Value {
    match (current, patch) {
        (Value::Object(mut current), Value::Object(patch)) => {
            merge_maps(&mut current, patch);
            Value::Object(current)
        }
        (_, mut patch) => {
            prune_nulls(&mut patch);
            patch
        }
    }
}

fn merge_maps(current: &mut Map, patch: Map) {
    for (name, value) in patch {
        if value.is_null() {
            current.remove(&name);
            continue;
        }
        match current.get_mut(&name) {
            Some(member) => {
                let former = std::mem::take(member);
                *member = merge(former, value);
            }
            None => {
                current.insert(name, merge(Value::Null, value));
            }
        }
    }
}

/// Removes the members that are null, at any depth; null items of arrays stay.
pub fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|_, member| {
            prune_nulls(member);
            !member.is_null()
        }),
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}
