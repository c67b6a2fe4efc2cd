//! FieldsV1: a set of paths as JSON, `{"f:spec":{".":{},"f:replicas":{}}}` (`fieldpath/serialize.go`, `serialize-pe.go`).

use super::{
    go_json,
    path::{PathElement, Scalar},
    set::{Node, Set},
};
use crate::{
    json,
    value::{Map, Value},
};

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FieldsError {
    #[error("fields are not an object")]
    NotAnObject,
    #[error("parsing key as path element: key must be 2 characters long: {0:?}")]
    Short(String),
    #[error("parsing key as path element: missing colon: {0}")]
    NoColon(String),
    #[error("parsing key as path element: {0:?}: {1}")]
    Malformed(String, String),
}

impl Set {
    pub fn from_fields(fields: &Value) -> Result<Set, FieldsError> {
        read(fields).map(|(set, _)| set)
    }

    pub fn to_fields(&self) -> Value {
        Value::Object(write(self, false))
    }
}

/// The members below an object, and whether the object's own path is one: it says so, or there is nothing below it.
fn read(fields: &Value) -> Result<(Set, bool), FieldsError> {
    let Value::Object(map) = fields else { return Err(FieldsError::NotAnObject) };
    let mut nodes = Vec::with_capacity(map.len());
    let mut is_member = false;
    for (text, below) in map.iter() {
        if text == "." {
            is_member = true;
            continue;
        }
        let Some(element) = element(text)? else { continue };
        let (children, member) = read(below)?;
        nodes.push(Node { element, member, children });
    }
    is_member |= nodes.is_empty();
    Ok((Set::of_nodes(nodes), is_member))
}

/// `None` for kinds of elements that a later version may know.
fn element(text: &str) -> Result<Option<PathElement>, FieldsError> {
    let bytes = text.as_bytes();
    if bytes.len() < 2 {
        return Err(FieldsError::Short(text.into()));
    }
    if bytes[1] != b':' {
        return Err(FieldsError::NoColon(text.into()));
    }
    let rest = &text[2..];
    let malformed = |why: String| FieldsError::Malformed(text.into(), why);
    let parse = || json::parse(rest.as_bytes()).map_err(|error| malformed(error.to_string()));
    Ok(Some(match bytes[0] {
        b'f' => PathElement::field(rest),
        b'v' => PathElement::Value(Scalar(parse()?)),
        b'i' => PathElement::Index(rest.parse().map_err(|_| malformed("not an index".into()))?),
        b'k' => match parse()? {
            Value::Object(map) => PathElement::key(map.iter().map(|(name, value)| (name, value.clone()))),
            _ => return Err(malformed("not an object".into())),
        },
        _ => return Ok(None),
    }))
}

fn write(set: &Set, with_self: bool) -> Map {
    let mut map = Map::with_capacity(set.nodes.len() + usize::from(with_self));
    if with_self && !set.is_empty() {
        map.push_unchecked(".".into(), Value::object());
    }
    for node in &set.nodes {
        map.push_unchecked(key(&node.element), Value::Object(write(&node.children, node.member)));
    }
    map
}

fn key(element: &PathElement) -> Box<str> {
    match element {
        PathElement::Field(name) => {
            let mut text = String::with_capacity(name.len() + 2);
            text.push_str("f:");
            text.push_str(name);
            text
        }
        PathElement::Key(parts) => {
            let mut text = String::from("k:{");
            for (index, (name, value)) in parts.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                go_json::string(name, &mut text);
                text.push(':');
                text.push_str(&go_json::text(&value.0));
            }
            text.push('}');
            text
        }
        PathElement::Value(value) => format!("v:{}", go_json::text(&value.0)),
        PathElement::Index(index) => format!("i:{index}"),
    }
    .into()
}

/// Sets this wide are decoded instead of looked up one by one.
const LOOKUPS_MAX: usize = 16;

/// What stands for an element in a text form.
fn find<'f>(map: &'f Map, element: &PathElement) -> Option<&'f Value> {
    match element {
        PathElement::Field(name) => {
            map.iter().find(|(key, _)| key.strip_prefix("f:") == Some(name)).map(|(_, below)| below)
        }
        other => map.get(&key(other)),
    }
}

/// Whether a change of `changed` can matter to fields that are still in their text form. May say so where it does not.
pub(super) fn touches(fields: &Value, changed: &Set) -> bool {
    let Value::Object(map) = fields else { return true };
    if map.is_empty() || changed.nodes.len() > LOOKUPS_MAX {
        return !map.is_empty();
    }
    let touched =
        |node: &Node| find(map, &node.element).is_some_and(|below| node.member || touches(below, &node.children));
    changed.nodes.iter().any(touched)
}

/// Whether fields in their text form have all of `wanted`. May say no where they do.
pub(super) fn covers(fields: &Value, wanted: &Set) -> bool {
    let Value::Object(map) = fields else { return false };
    if wanted.nodes.len() > LOOKUPS_MAX {
        return false;
    }
    wanted.nodes.iter().all(|node| {
        let has = |below: &Value| below.as_object().is_some_and(|map| map.is_empty() || map.contains_key("."));
        find(map, &node.element).is_some_and(|below| (!node.member || has(below)) && covers(below, &node.children))
    })
}
