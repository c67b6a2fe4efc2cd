//! Steps of a path through an object, in the order in which upstream sorts them (`fieldpath/element.go`).

use std::{cmp::Ordering, fmt};

use super::go_json;
use crate::value::Value;

/// A value that identifies an item of a set, or is one of the keys of an item in a list map.
#[derive(Clone, Debug)]
pub struct Scalar(pub Value);

/// How one item is found in the container that holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathElement {
    /// A member of an object.
    Field(Box<str>),
    /// The item of a list map with these keys, which are sorted by name.
    Key(Box<[(Box<str>, Scalar)]>),
    /// An item of a set.
    Value(Scalar),
    /// An item of an atomic list.
    Index(i64),
}

/// A path from the root; prints as upstream's errors and conflicts show it: `.spec.containers[name="c"].image`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<PathElement>);

impl PathElement {
    pub fn field(name: &str) -> PathElement {
        PathElement::Field(name.into())
    }

    /// A key of an item; sorts its parts.
    pub fn key<'a>(parts: impl IntoIterator<Item = (&'a str, Value)>) -> PathElement {
        let mut parts: Vec<(Box<str>, Scalar)> =
            parts.into_iter().map(|(name, value)| (name.into(), Scalar(value))).collect();
        parts.sort();
        PathElement::Key(parts.into())
    }

    pub fn value(value: impl Into<Value>) -> PathElement {
        PathElement::Value(Scalar(value.into()))
    }
}

impl Path {
    /// A path of member names.
    pub fn of(names: &[&str]) -> Path {
        Path(names.iter().map(|name| PathElement::field(name)).collect())
    }
}

/// Numbers, strings, booleans, then everything else (`value.Compare`).
fn rank(value: &Value) -> u8 {
    match value {
        Value::Int(_) | Value::Float(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Scalar) -> Ordering {
        match (&self.0, &other.0) {
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Int(a), Value::Float(b)) => (*a as f64).total_cmp(b),
            (Value::Float(a), Value::Int(b)) => a.total_cmp(&(*b as f64)),
            (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (a, b) => rank(a).cmp(&rank(b)).then_with(|| go_json::text(a).cmp(&go_json::text(b))),
        }
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Scalar) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Scalar) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scalar {}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Value::String(text) => write!(f, "{text:?}"),
            other => write!(f, "{other}"),
        }
    }
}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathElement::Field(name) => write!(f, ".{name}"),
            PathElement::Key(parts) => {
                f.write_str("[")?;
                for (index, (name, value)) in parts.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={value}")?;
                }
                f.write_str("]")
            }
            PathElement::Value(value) => write!(f, "[={value}]"),
            PathElement::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|element| element.fmt(f))
    }
}

/// Equality of values as structured-merge-diff has it: numbers are equal by value, whatever their kind.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Int(a), Value::Float(b)) | (Value::Float(b), Value::Int(a)) => *a as f64 == *b,
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && super::schema::pairs(a, b).iter().all(|pair| matches!(pair, (_, Some(a), Some(b)) if same(a, b)))
        }
        (a, b) => a == b,
    }
}
