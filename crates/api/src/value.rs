//! The tree that an API object is while it is being worked on. At rest, objects are bytes.

mod hash;
mod places;

use std::fmt;

use places::Places;

/// A JSON value. Integers and other numbers are kept apart, as Go's decoder does for fields of integer types.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(Box<str>),
    Array(Vec<Value>),
    Object(Map),
}

/// An object's members in the order in which they were written. API objects are narrow, and their members are looked for by
/// walking past the others; a wide map (a ConfigMap's data, or whatever somebody sends) knows where each of them stands.
#[derive(Clone, Default)]
pub struct Map {
    entries: Vec<Member>,
    places: Option<Box<Places>>,
}

type Member = (Box<str>, Value);

// The index of wide maps costs narrow ones nothing: there is room for it beside what tells the kinds of values apart.
const _: () = assert!(size_of::<Value>() == 32);

/// An object of these members.
pub(crate) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    members.into_iter().collect::<Map>().into()
}

/// An array of strings.
pub(crate) fn strings(items: impl IntoIterator<Item: AsRef<str>>) -> Value {
    items.into_iter().map(|item| Value::from(item.as_ref())).collect::<Vec<_>>().into()
}

impl Value {
    pub fn object() -> Value {
        Value::Object(Map::new())
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Value>> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_object(&self) -> Option<&Map> {
        match self {
            Value::Object(map) => Some(map),
            _ => None,
        }
    }

    pub fn as_object_mut(&mut self) -> Option<&mut Map> {
        match self {
            Value::Object(map) => Some(map),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// A member of an object; `None` for a missing member and for any other kind of value.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.as_object()?.get(name)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.as_object_mut()?.get_mut(name)
    }

    /// The value at a path of member names.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self, |value, name| value.get(name))
    }

    /// The text at a path of member names, empty where there is none.
    pub fn str_at(&self, path: &[&str]) -> &str {
        self.at(path).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn at_mut(&mut self, path: &[&str]) -> Option<&mut Value> {
        path.iter().try_fold(self, |value, name| value.get_mut(name))
    }

    /// The object at a path, made where it is missing. `None` where something on the way is not an object.
    pub fn make_object(&mut self, path: &[&str]) -> Option<&mut Map> {
        let mut here = self;
        for name in path {
            let map = here.as_object_mut()?;
            here = map.entry_or_insert_with(name, Value::object);
        }
        here.as_object_mut()
    }

    /// Sets the value at a path, making the objects on the way; `false` where something on the way is not an object.
    pub fn set(&mut self, path: &[&str], value: impl Into<Value>) -> bool {
        let Some((name, parents)) = path.split_last() else { return false };
        match self.make_object(parents) {
            Some(map) => {
                map.insert(*name, value);
                true
            }
            None => false,
        }
    }

    /// Takes the value at a path out of the tree.
    pub fn take(&mut self, path: &[&str]) -> Option<Value> {
        let (name, parents) = path.split_last()?;
        self.at_mut(parents)?.as_object_mut()?.remove(name)
    }

    /// What this value is called in error texts, with Go's words.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::Float(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        }
    }

    /// The value as compact JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        crate::json::write(self, &mut out);
        out
    }
}

impl Map {
    pub const fn new() -> Map {
        Map { entries: Vec::new(), places: None }
    }

    pub fn with_capacity(members: usize) -> Map {
        Map { entries: Vec::with_capacity(members), places: None }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn position(&self, name: &str) -> Option<usize> {
        match &self.places {
            Some(places) => places.find(&self.entries, name),
            None => self.entries.iter().position(|(key, _)| **key == *name),
        }
    }

    pub fn contains_key(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.position(name).map(|at| &self.entries[at].1)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.position(name).map(|at| &mut self.entries[at].1)
    }

    /// Sets a member: in place where it is already there, else behind the others. Gives back the former value.
    pub fn insert(&mut self, name: impl Into<Box<str>>, value: impl Into<Value>) -> Option<Value> {
        let name = name.into();
        match self.position(&name) {
            Some(at) => Some(std::mem::replace(&mut self.entries[at].1, value.into())),
            None => {
                self.push_unchecked(name, value.into());
                None
            }
        }
    }

    /// Sets a member that leads all others (apiVersion and kind stand first, as readers expect).
    pub fn insert_first(&mut self, name: impl Into<Box<str>>, value: impl Into<Value>) {
        let name = name.into();
        self.remove(&name);
        self.entries.insert(0, (name, value.into()));
        self.places = Places::of(&self.entries);
    }

    pub(crate) fn last_key(&self) -> Option<&str> {
        self.entries.last().map(|(name, _)| &**name)
    }

    /// Adds a member that is known not to be there yet.
    pub(crate) fn push_unchecked(&mut self, name: Box<str>, value: Value) {
        self.entries.push((name, value));
        match &mut self.places {
            Some(places) => places.add_last(&self.entries),
            None => self.places = Places::of(&self.entries),
        }
    }

    /// A null stands for nothing, as in Go: upstream writes it where a list or map is missing.
    pub fn entry_or_insert_with(&mut self, name: &str, make: impl FnOnce() -> Value) -> &mut Value {
        let at = match self.position(name) {
            Some(at) if self.entries[at].1.is_null() => {
                self.entries[at].1 = make();
                at
            }
            Some(at) => at,
            None => {
                self.push_unchecked(name.into(), make());
                self.entries.len() - 1
            }
        };
        &mut self.entries[at].1
    }

    /// In a wide map the last member takes the place of the one that goes.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.position(name)?;
        let (_, value) = match &mut self.places {
            Some(places) => {
                places.give_to_last(&self.entries, at);
                self.entries.swap_remove(at)
            }
            None => self.entries.remove(at),
        };
        Some(value)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> + DoubleEndedIterator {
        self.entries.iter().map(|(name, value)| (&**name, value))
    }

    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&str, &mut Value)> {
        self.entries.iter_mut().map(|(name, value)| (&**name, value))
    }

    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|(name, _)| &**name)
    }

    pub fn values(&self) -> impl ExactSizeIterator<Item = &Value> {
        self.entries.iter().map(|(_, value)| value)
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Value) -> bool) {
        self.entries.retain_mut(|(name, value)| keep(name, value));
        self.places = Places::of(&self.entries);
    }
}

impl serde::Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            Value::Int(number) => serializer.serialize_i64(*number),
            Value::Float(number) => serializer.serialize_f64(*number),
            Value::String(text) => serializer.serialize_str(text),
            Value::Array(items) => serializer.collect_seq(items),
            Value::Object(map) => serializer.collect_map(map.iter()),
        }
    }
}

impl IntoIterator for Map {
    type Item = (Box<str>, Value);
    type IntoIter = std::vec::IntoIter<(Box<str>, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<K: Into<Box<str>>, V: Into<Value>> FromIterator<(K, V)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(iter: I) -> Map {
        let mut map = Map::new();
        for (name, value) in iter {
            map.insert(name, value);
        }
        map
    }
}

/// Equal whatever the order of members, as JSON objects are.
impl PartialEq for Map {
    fn eq(&self, other: &Map) -> bool {
        // Equal objects mostly have their members in the same order.
        let beside =
            |at: usize, name: &str| other.entries.get(at).filter(|(key, _)| **key == *name).map(|(_, value)| value);
        self.len() == other.len()
            && self
                .iter()
                .enumerate()
                .all(|(at, (name, value))| beside(at, name).or_else(|| other.get(name)) == Some(value))
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_json()))
    }
}

macro_rules! from {
    ($($from:ty: $name:ident => $value:expr,)*) => {$(
        impl From<$from> for Value {
            fn from($name: $from) -> Value {
                $value
            }
        }
    )*};
}

from! {
    bool: flag => Value::Bool(flag),
    i32: number => Value::Int(number.into()),
    u32: number => Value::Int(number.into()),
    i64: number => Value::Int(number),
    f64: number => Value::Float(number),
    &str: text => Value::String(text.into()),
    String: text => Value::String(text.into()),
    Box<str>: text => Value::String(text),
    Map: map => Value::Object(map),
    Vec<Value>: items => Value::Array(items),
}
