//! Numbers as JSON Schema compares them: whole ones and others are the same values.

use std::borrow::Cow;

use crate::value::Value;

pub(super) fn of(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

/// What values are told apart by where 1 is 1.0.
pub(super) fn key(value: &Value) -> Cow<'_, Value> {
    of(value).map_or(Cow::Borrowed(value), |number| Cow::Owned(Value::Float(number)))
}

/// A bound as upstream prints it beside a value: as a whole number where the value is one.
pub(super) fn text(bound: f64, beside: &Value) -> String {
    match beside {
        Value::Int(_) => (bound as i64).to_string(),
        _ => bound.to_string(),
    }
}

pub(super) fn is_multiple(value: &Value, factor: f64) -> bool {
    match value {
        Value::Int(number) => match factor as i64 {
            factor if factor <= 0 => false,
            factor => number % factor == 0,
        },
        Value::Float(number) if factor > 0.0 => {
            let times = if factor < 1.0 { 1.0 / factor * number } else { number / factor };
            (times - times.round()).abs() < 1e-9 * times.abs().max(1.0)
        }
        _ => false,
    }
}

/// Whether a number can be one of a type and format.
pub(super) fn is_in_range(value: &Value, kind: &str, format: &str) -> bool {
    match (value, kind, format) {
        (Value::Int(number), "integer", "int32") => i32::try_from(*number).is_ok(),
        (Value::Float(number), "integer", "int32") => number.fract() == 0.0 && number.abs() <= f64::from(i32::MAX),
        (Value::Float(number), "integer", _) => number.fract() == 0.0 && number.abs() < 9.3e18,
        (_, "number", "float") => of(value).is_some_and(|number| number.abs() <= f64::from(f32::MAX)),
        _ => true,
    }
}
