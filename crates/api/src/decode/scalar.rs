//! Checks of single values, and their canonical forms.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;

use crate::{
    model::Shape,
    time::{self, TimeError},
    value::Value,
};

/// Checks `value` against `shape` and brings it into canonical form; on a misfit gives what was expected, in Go's words.
pub(super) fn check(shape: &Shape, value: &mut Value) -> Result<(), String> {
    match (shape, &mut *value) {
        (Shape::Any, _) | (Shape::Object | Shape::FieldsV1 | Shape::RawExtension, Value::Object(_)) => Ok(()),
        (Shape::Bool, Value::Bool(_)) | (Shape::String, Value::String(_)) | (Shape::Int64, Value::Int(_)) => Ok(()),
        (Shape::Int32, Value::Int(number)) if i32::try_from(*number).is_ok() => Ok(()),
        (Shape::Double, Value::Float(_)) => Ok(()),
        (Shape::Double, Value::Int(number)) => {
            *value = Value::Float(*number as f64);
            Ok(())
        }
        (Shape::IntOrString, Value::String(_)) => Ok(()),
        (Shape::IntOrString, Value::Int(number)) if i32::try_from(*number).is_ok() => Ok(()),
        (Shape::Bytes, Value::String(text)) => bytes(text),
        (Shape::Quantity, _) => quantity(value),
        (Shape::Time, Value::String(text)) => {
            let parsed = time::parse(text);
            canonical_time(text, parsed, time::format)
        }
        (Shape::MicroTime, Value::String(text)) => {
            let parsed = time::parse_micro(text);
            canonical_time(text, parsed, time::format_micro)
        }
        _ => Err(expected(shape).into()),
    }
}

fn expected(shape: &Shape) -> &'static str {
    match shape {
        Shape::Bool => "bool",
        Shape::Int32 => "int32",
        Shape::Int64 => "int64",
        Shape::Double => "float64",
        Shape::String => "string",
        Shape::Bytes => "[]uint8",
        Shape::Time | Shape::MicroTime => "Time",
        Shape::Quantity => "Quantity",
        Shape::IntOrString => "IntOrString",
        _ => "object",
    }
}

/// Padding and alphabet must be right; white space within, which Go's decoder skips, is taken out.
fn bytes(text: &mut Box<str>) -> Result<(), String> {
    if text.contains(['\n', '\r']) {
        *text = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect::<String>().into();
    }
    match STANDARD.decode(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("[]uint8: illegal base64 data: {error}")),
    }
}

fn quantity(value: &mut Value) -> Result<(), String> {
    let text = match value {
        Value::String(text) => text.to_string(),
        Value::Int(_) | Value::Float(_) => value.to_string(),
        _ => return Err("Quantity".into()),
    };
    match super::canonical_quantity(&text) {
        Some(canonical) => {
            *value = canonical.into();
            Ok(())
        }
        None => {
            Err("Quantity: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                .into())
        }
    }
}

/// Times are kept in UTC: whole seconds for Time, microseconds for MicroTime.
fn canonical_time(
    text: &mut Box<str>,
    parsed: Result<Timestamp, TimeError>,
    write: fn(Timestamp) -> String,
) -> Result<(), String> {
    *text = write(parsed.map_err(|error| format!("Time: {error}"))?).into();
    Ok(())
}
