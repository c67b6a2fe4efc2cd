//! Items that stand twice in lists which are sets or maps (apiextensions-apiserver `pkg/apiserver/schema/listtype`).

use std::collections::HashMap;

use super::Schema;
use crate::{
    model::ListKind,
    status::FieldError,
    value::{Map, Value},
};

impl Schema {
    /// All items of sets and list maps below `value`, an object of this schema, that stand there already.
    pub fn duplicates(&self, value: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        below(self, "", value, &mut errors);
        errors
    }
}

fn below(schema: &Schema, path: &str, value: &Value, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for (name, member) in map.iter() {
                if let Some(property) = schema.property(name) {
                    let dot = if path.is_empty() { "" } else { "." };
                    below(property, &format!("{path}{dot}{name}"), member, errors);
                } else if let Some(values) = schema.value() {
                    below(values, &format!("{path}[{name}]"), member, errors);
                }
            }
        }
        Value::Array(items) => {
            match &schema.list {
                ListKind::Set => {
                    errors.extend(
                        repeated(items).map(|index| FieldError::duplicate(format!("{path}[{index}]"), &items[index])),
                    );
                }
                ListKind::Map(keys) => repeated_keys(path, keys, items, errors),
                _ => {}
            }
            if let Some(schema) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    below(schema, &format!("{path}[{index}]"), item, errors);
                }
            }
        }
        _ => {}
    }
}

fn repeated_keys(path: &str, keys: &[Box<str>], items: &[Value], errors: &mut Vec<FieldError>) {
    if let Some((index, item)) =
        items.iter().enumerate().find(|(_, item)| !item.is_null() && item.as_object().is_none())
    {
        errors.push(FieldError::invalid(
            format!("{path}[{index}]"),
            item,
            "must be an object for an array of list-type map",
        ));
        return;
    }
    let key = |item: &Value| -> Value {
        let members = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
        members.collect::<Map>().into()
    };
    let found: Vec<Value> = items.iter().map(key).collect();
    errors.extend(repeated(&found).map(|index| FieldError::duplicate(format!("{path}[{index}]"), &found[index])));
}

/// The second of each value's appearances.
fn repeated(items: &[Value]) -> impl Iterator<Item = usize> {
    let mut times: HashMap<&Value, usize> = HashMap::with_capacity(items.len());
    items.iter().enumerate().filter_map(move |(index, item)| {
        let times = times.entry(item).or_default();
        *times += 1;
        (*times == 2).then_some(index)
    })
}
