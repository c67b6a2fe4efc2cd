//! Nulls and defaults of custom resources, which their schemas rule (apiextensions-apiserver `pkg/apiserver/schema/defaulting`).

use super::Unknown;
use crate::{
    model::{Field, Model, Shape, Type},
    value::{Map, Value},
};

/// Fills in the defaults of the fields that are missing, or null where they may not be.
pub(super) fn fill(ty: &Type, map: &mut Map) {
    for field in &ty.fields {
        let Some(default) = &field.default else { continue };
        match map.get(&field.name) {
            None => drop(map.insert(field.name.clone(), default.clone())),
            Some(Value::Null) if !field.keeps_null => drop(map.insert(field.name.clone(), default.clone())),
            Some(_) => {}
        }
    }
}

/// How values of `shape` stand as items.
fn item<'m>(model: &'m Model, shape: &Shape) -> Option<&'m Field> {
    match shape {
        Shape::Type(id) => model.get(*id).custom.as_ref()?.item.as_deref(),
        _ => None,
    }
}

/// What becomes of a null among items: their default, unless null is a value of its own.
pub(super) fn in_place_of_null(model: &Model, shape: &Shape) -> Value {
    match item(model, shape) {
        Some(item) if !item.keeps_null => item.default.clone().unwrap_or_default(),
        _ => Value::Null,
    }
}

/// Takes the nulls out of a map that are neither values nor have a default.
pub(super) fn drop_nulls(model: &Model, shape: &Shape, map: &mut Map) {
    let keeps = item(model, shape).is_some_and(|item| item.keeps_null || item.default.is_some());
    if !keeps {
        map.retain(|_, value| !value.is_null());
    }
}

/// The paths in upstream's order (apiextensions-apiserver `customresource_handler.go`): those of the object's own metadata,
/// those that pruning finds, sorted, and those of the metadata of embedded objects.
pub(super) fn ordered(mut unknown: Vec<Unknown>) -> Vec<String> {
    let place = |unknown: &Unknown| match unknown {
        Unknown { is_custom: true, .. } => 1,
        Unknown { path, .. } if path.starts_with("metadata.") => 0,
        _ => 2,
    };
    unknown.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.path.cmp(&b.path)));
    unknown.into_iter().map(|unknown| unknown.path).collect()
}
