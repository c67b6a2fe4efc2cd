//! Checks of single values: type, enumeration, text and number.

use super::{
    Schema, format,
    messages::Problem,
    number,
    walk::{Outcome, Path},
};
use crate::value::Value;

/// What a value's type is called, and the format that goes with numbers.
fn type_of(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Int(_) => ("integer", "int64"),
        Value::Float(_) => ("number", "float64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

impl Schema {
    /// Type names as upstream joins them; empty where any type goes.
    fn expected(&self) -> &str {
        if self.is_int_or_string { "integer,string" } else { &self.kind }
    }

    fn takes(&self, kind: &str) -> bool {
        if self.is_int_or_string { matches!(kind, "integer" | "string") } else { &*self.kind == kind }
    }

    fn known_format(&self) -> &str {
        let format = &*self.checks.format;
        if format::is_known(&self.kind, format) { format } else { "" }
    }

    pub(super) fn check_type(&self, path: &Path, value: &Value, out: &mut Outcome) {
        let (expected, format) = (self.expected(), self.known_format());
        if expected.is_empty() && format.is_empty() {
            return;
        }
        let (kind, own_format) = type_of(value);
        if value.is_null() {
            if !expected.is_empty() && !self.nullable {
                out.add(Problem::wrong_type(path, expected, "null"));
            }
            return;
        }
        let is_whole = matches!(value, Value::Float(number) if number.fract() == 0.0) && self.takes("integer");
        let fits = self.takes(kind) || is_whole || (kind == "integer" && self.takes("number"));
        let is_text = matches!(value, Value::String(_) | Value::Array(_));
        if !is_text && !format.is_empty() && !fits && own_format != format {
            return out.add(Problem::wrong_type(path, format, own_format));
        }
        if is_text && !format.is_empty() && !self.takes("number") && !self.takes("integer") {
            return out.matched += 1;
        }
        if fits { out.matched += 1 } else { out.add(Problem::wrong_type(path, expected, kind)) }
    }

    pub(super) fn check_enum(&self, path: &Path, value: &Value, out: &mut Outcome) {
        let allowed = &self.checks.enumeration;
        if !allowed.is_empty() && !allowed.has(value) && out.has_room() {
            out.add(Problem::not_among(path, value, &allowed.text));
        }
    }

    pub(super) fn check_text(&self, path: &Path, value: &Value, out: &mut Outcome) {
        let Some(text) = value.as_str() else { return };
        let format = self.known_format();
        self.check_length(path, value, text, out);
        if !format.is_empty() && !format::matches(format, text) {
            out.add(Problem::wrong_type(path, format, text));
        }
    }

    fn check_length(&self, path: &Path, value: &Value, text: &str, out: &mut Outcome) {
        let checks = &self.checks;
        let length = text.chars().count() as i64;
        if let Some(max) = checks.max_length.filter(|max| length > *max) {
            return out.add(Problem::too_long(path, max));
        }
        if let Some(min) = checks.min_length.filter(|min| length < *min) {
            return out.add(Problem::too_short(path, min, value));
        }
        let Some(pattern) = &checks.pattern else { return };
        match pattern.regex() {
            Ok(regex) if regex.is_match(text) => {}
            Ok(_) => out.add(Problem::pattern(path, &pattern.text, value)),
            Err(error) => {
                let said = format!("{}, but pattern is invalid: {error}", pattern.text);
                out.add(Problem::pattern(path, &said, value));
            }
        }
    }

    pub(super) fn check_number(&self, path: &Path, value: &Value, out: &mut Outcome) {
        let Some(number) = number::of(value) else { return };
        let checks = &self.checks;
        if !number::is_in_range(value, &self.kind, self.known_format()) {
            let format = if matches!(&*self.kind, "integer" | "number") { self.known_format() } else { "" };
            out.add(Problem::range(path, &self.kind, format));
        }
        if let Some(factor) = checks.multiple_of.filter(|factor| !number::is_multiple(value, *factor)) {
            out.add(Problem::multiple_of(path, &number::text(factor, value), value));
        }
        let (max, exclusive) = (checks.maximum, checks.exclusive_maximum);
        if let Some(max) = max.filter(|max| number > *max || (exclusive && number == *max)) {
            out.add(Problem::above(path, &number::text(max, value), exclusive, value));
        }
        let (min, exclusive) = (checks.minimum, checks.exclusive_minimum);
        if let Some(min) = min.filter(|min| number < *min || (exclusive && number == *min)) {
            out.add(Problem::below(path, &number::text(min, value), exclusive, value));
        }
    }
}
