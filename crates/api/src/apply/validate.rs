//! Whether an applied configuration fits its schema (`typed/validate.go`), in upstream's words: clients see them.

use std::{collections::BTreeSet, fmt};

use super::{
    path::PathElement,
    schema::{Form, Items, ListForm, MapForm, ScalarKind, Schema, Spot},
};
use crate::{
    go::{go_syntax, go_text, go_type},
    model::{Model, TypeId},
    value::{Map, Value},
};

/// Whether items may stand more than once: what is stored may have such items, what is applied may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    Allowed,
    Refused,
}

/// Everything that does not fit, each with its path.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct TypedError(pub Vec<(String, String)>);

impl TypedError {
    pub(super) fn one(message: String) -> TypedError {
        TypedError(vec![(String::new(), message)])
    }

    pub(super) fn under(mut self, element: &PathElement) -> TypedError {
        for (path, _) in &mut self.0 {
            path.insert_str(0, &element.to_string());
        }
        self
    }
}

impl fmt::Display for TypedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |f: &mut fmt::Formatter<'_>, (path, message): &(String, String)| match path.as_str() {
            "" => f.write_str(message),
            path => write!(f, "{path}: {message}"),
        };
        if let [only] = self.0.as_slice() {
            return one(f, only);
        }
        f.write_str("errors:")?;
        for error in &self.0 {
            f.write_str("\n  ")?;
            one(f, error)?;
        }
        Ok(())
    }
}

pub fn validate(model: &Model, ty: TypeId, object: &Value, duplicates: Duplicates) -> Result<(), TypedError> {
    let mut walk = Walk { schema: Schema { model }, duplicates, path: String::new(), errors: Vec::new() };
    walk.value(Spot::Type(ty), object);
    if walk.errors.is_empty() { Ok(()) } else { Err(TypedError(walk.errors)) }
}

struct Walk<'m> {
    schema: Schema<'m>,
    duplicates: Duplicates,
    path: String,
    errors: Vec<(String, String)>,
}

impl<'m> Walk<'m> {
    fn fail(&mut self, message: impl Into<String>) {
        self.errors.push((self.path.clone(), message.into()));
    }

    fn below(&mut self, step: fmt::Arguments<'_>, spot: Spot<'m>, value: &Value) {
        let length = self.path.len();
        // Writing to a string cannot fail.
        let _ = fmt::Write::write_fmt(&mut self.path, step);
        self.value(spot, value);
        self.path.truncate(length);
    }

    fn value(&mut self, spot: Spot<'m>, value: &Value) {
        match (self.schema.form_of(spot, value), value) {
            (_, Value::Null) => {}
            (Form::Map(map), Value::Object(members)) => self.map(&map, members),
            (Form::List(list), Value::Array(items)) => self.list(&list, items),
            (Form::Scalar(kind), value) => self.scalar(kind, value),
            (Form::Map(_), value) => self.fail(format!("expected map, got &{{{}}}", go_text(value))),
            (Form::List(_), value) => self.fail(format!("expected list, got &{{{}}}", go_text(value))),
            (Form::Any(_), _) => {}
        }
    }

    fn map(&mut self, form: &MapForm<'m>, members: &Map) {
        for (name, value) in members.iter() {
            match form.member(name) {
                Some((spot, _)) => self.below(format_args!(".{name}"), spot, value),
                // Upstream stops at the first one, too.
                None => {
                    self.errors.push((format!("{}.{name}", self.path), "field not declared in schema".into()));
                    return;
                }
            }
        }
    }

    fn list(&mut self, list: &ListForm<'m>, items: &[Value]) {
        let mut seen: BTreeSet<PathElement> = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            if matches!(list.items, Items::Atomic) {
                self.below(format_args!("[{index}]"), list.item, item);
                continue;
            }
            let element = match self.schema.element(list, item) {
                Ok(element) => element,
                Err(why) => return self.fail(format!("element {index}: {why}")),
            };
            if seen.contains(&element) && self.duplicates == Duplicates::Refused {
                self.fail(format!("duplicate entries for key {element}"));
            }
            self.below(format_args!("{element}"), list.item, item);
            seen.insert(element);
        }
    }

    fn scalar(&mut self, kind: ScalarKind, value: &Value) {
        let is_scalar = !matches!(value, Value::Object(_) | Value::Array(_));
        match kind {
            ScalarKind::Numeric if !matches!(value, Value::Int(_) | Value::Float(_)) => {
                self.fail(format!("expected numeric (int or float), got {}", go_type(value)));
            }
            ScalarKind::String if value.as_str().is_none() => {
                self.fail(format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(value)));
            }
            ScalarKind::Boolean if value.as_bool().is_none() => {
                self.fail(format!("expected boolean, got &{{{}}}", go_text(value)))
            }
            ScalarKind::Any if !is_scalar => self.fail(format!("expected any scalar, got &{{{}}}", go_text(value))),
            _ => {}
        }
    }
}
