//! Columns of custom resources, from `additionalPrinterColumns` (apiextensions-apiserver `tableconvertor.go`).

use std::borrow::Cow;

use jiff::Timestamp;

use super::jsonpath::JsonPath;
use super::{Cell, Column, cells, kinds};
use crate::value::Value;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized column definition {0:?}")]
pub struct ColumnError(pub String);

/// The name column and those that the version of the CustomResourceDefinition lists; the name and the age where it lists none.
pub fn custom_columns(definitions: &[Value]) -> Result<Vec<Column>, ColumnError> {
    let mut columns = vec![kinds::NAME];
    if definitions.is_empty() {
        columns.push(kinds::AGE);
    }
    for definition in definitions {
        let owned = |name: &str| Cow::Owned(definition.str_at(&[name]).to_owned());
        let path = definition.str_at(&["jsonPath"]);
        let description = match definition.str_at(&["description"]) {
            "" => format!("Custom resource definition column (in JSONPath format): {path}").into(),
            _ => owned("description"),
        };
        columns.push(Column {
            name: owned("name"),
            kind: owned("type"),
            format: owned("format"),
            description,
            priority: definition.get("priority").and_then(Value::as_i64).unwrap_or_default(),
            cell: Cell::Path(JsonPath::parse(path).ok_or_else(|| ColumnError(path.to_owned()))?),
        });
    }
    Ok(columns)
}

/// The first value found, as the column's type wants it; null for none and for a value of another type.
pub(super) fn cell(path: &JsonPath, kind: &str, object: &Value, now: Timestamp) -> Value {
    let Some(value) = path.find(object).into_iter().next().filter(|value| !value.is_null()) else { return Value::Null };
    match (kind, value) {
        ("integer", Value::Int(_)) | ("number", Value::Float(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("integer", Value::Float(number)) => (*number as i64).into(),
        ("number", Value::Int(number)) => (*number as f64).into(),
        ("date", Value::String(time)) => match cells::parse_time(time) {
            Some(time) => super::duration::between(time, now).into(),
            None => "<invalid>".into(),
        },
        ("string", Value::Array(_) | Value::Object(_)) => value.to_string().into(),
        ("string", scalar) => cells::text_or(Some(scalar), "").into(),
        _ => Value::Null,
    }
}
