//! `metadata.managedFields`: who owns which fields since when (`managedfields/internal/managedfields.go`, `capmanagers.go`).

use super::{
    fields::{FieldsError, covers, touches},
    set::Set,
};
use crate::value::{Map, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ManagedError {
    #[error("managedFields is not a list of objects")]
    Shape,
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    #[error("apiVersion must not be empty")]
    ApiVersion,
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    #[error("invalid fieldsType {1:?} in managed fields entry {0}")]
    FieldsType(usize, String),
    #[error("error decoding set: {0}")]
    Fields(#[from] FieldsError),
}

/// What one manager owns through one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub manager: Box<str>,
    pub operation: Operation,
    pub api_version: Box<str>,
    pub subresource: Box<str>,
    /// RFC 3339, as it is stored.
    pub time: Option<Box<str>>,
    pub(super) fields: Fields,
}

/// Sets stay in their text form until something has to be done with them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fields {
    Text(Value),
    Set(Set),
}

impl Entry {
    pub fn new(manager: &str, operation: Operation, api_version: &str, subresource: &str, set: Set) -> Entry {
        Entry {
            manager: manager.into(),
            operation,
            api_version: api_version.into(),
            subresource: subresource.into(),
            time: None,
            fields: Fields::Set(set),
        }
    }

    /// The same manager in the same role: an applier is the same whatever version it applies with.
    pub fn is_of(&self, other: &Entry) -> bool {
        self.operation == other.operation
            && self.manager == other.manager
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    pub fn set(&self) -> Result<Set, FieldsError> {
        match &self.fields {
            Fields::Set(set) => Ok(set.clone()),
            Fields::Text(fields) => Set::from_fields(fields),
        }
    }

    pub(super) fn put(&mut self, set: Set) {
        self.fields = Fields::Set(set);
    }

    pub(super) fn is_touched_by(&self, changed: &Set) -> bool {
        match &self.fields {
            Fields::Set(_) => true,
            Fields::Text(fields) => touches(fields, changed),
        }
    }

    pub(super) fn covers(&self, wanted: &Set) -> bool {
        match &self.fields {
            Fields::Set(_) => false,
            Fields::Text(fields) => covers(fields, wanted),
        }
    }

    fn is_empty(&self) -> bool {
        match &self.fields {
            Fields::Set(set) => set.is_empty(),
            Fields::Text(fields) => fields.as_object().is_none_or(Map::is_empty),
        }
    }

    fn read(at: usize, entry: Value) -> Result<Entry, ManagedError> {
        let Value::Object(map) = entry else { return Err(ManagedError::Shape) };
        let (mut texts, mut fields, mut time) = ([const { None }; 5], None, None);
        for (name, value) in map {
            let slot = match &*name {
                "manager" => 0,
                "operation" => 1,
                "apiVersion" => 2,
                "subresource" => 3,
                "fieldsType" => 4,
                "fieldsV1" => {
                    fields = Some(value);
                    continue;
                }
                "time" => {
                    time = into_text(value);
                    continue;
                }
                _ => continue,
            };
            texts[slot] = into_text(value);
        }
        let [manager, operation, api_version, subresource, fields_type] = texts.map(Option::unwrap_or_default);
        let operation = match &*operation {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err(ManagedError::Operation),
        };
        if api_version.is_empty() {
            return Err(ManagedError::ApiVersion);
        }
        match &*fields_type {
            "FieldsV1" => {}
            "" => return Err(ManagedError::NoFieldsType(at)),
            other => return Err(ManagedError::FieldsType(at, other.into())),
        }
        let fields = Fields::Text(fields.unwrap_or_else(Value::object));
        Ok(Entry { manager, operation, api_version, subresource, time, fields })
    }

    fn write(self) -> Value {
        let mut map = Map::with_capacity(7);
        map.push_unchecked("manager".into(), self.manager.into());
        map.push_unchecked("operation".into(), self.operation.as_str().into());
        map.push_unchecked("apiVersion".into(), self.api_version.into());
        if let Some(time) = self.time {
            map.push_unchecked("time".into(), time.into());
        }
        map.push_unchecked("fieldsType".into(), "FieldsV1".into());
        let fields = match self.fields {
            Fields::Text(fields) => fields,
            Fields::Set(set) => set.to_fields(),
        };
        map.push_unchecked("fieldsV1".into(), fields);
        if !self.subresource.is_empty() {
            map.push_unchecked("subresource".into(), self.subresource.into());
        }
        Value::Object(map)
    }
}

fn into_text(value: Value) -> Option<Box<str>> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// All entries of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Managed {
    pub entries: Vec<Entry>,
}

/// Entries of updates that an object keeps; above, the oldest are merged.
const UPDATERS_MAX: usize = 10;
const OLD_UPDATERS: &str = "ancient-changes";

impl Managed {
    /// Reads what this server wrote: the field sets are taken to be in order and read when they are needed.
    pub fn stored(list: Value) -> Result<Managed, ManagedError> {
        let items = match list {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            _ => return Err(ManagedError::Shape),
        };
        let entries = items.into_iter().enumerate().map(|(at, entry)| Entry::read(at, entry));
        Ok(Managed { entries: entries.collect::<Result<_, _>>()? })
    }

    /// Reads what a client sent: everything is checked. Of entries of the same manager in the same role the last counts.
    pub fn given(list: Value) -> Result<Managed, ManagedError> {
        let mut managed = Managed::default();
        for mut entry in Managed::stored(list)?.entries {
            let set = entry.set()?;
            entry.put(set);
            match managed.entries.iter_mut().find(|other| other.is_of(&entry)) {
                Some(other) => *other = entry,
                None => managed.entries.push(entry),
            }
        }
        Ok(managed)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn position(&self, entry: &Entry) -> Option<usize> {
        self.entries.iter().position(|other| other.is_of(entry))
    }

    pub(super) fn drop_empty(&mut self) {
        self.entries.retain(|entry| !entry.is_empty());
    }

    /// The list as it is stored, in upstream's order.
    pub fn into_list(mut self) -> Vec<Value> {
        self.entries.sort_by(|a, b| {
            let key = |entry: &Entry| (entry.operation, seconds(entry));
            key(a)
                .cmp(&key(b))
                .then_with(|| a.manager.cmp(&b.manager))
                .then_with(|| a.api_version.cmp(&b.api_version))
                .then_with(|| a.subresource.cmp(&b.subresource))
        });
        self.entries.into_iter().map(Entry::write).collect()
    }

    /// Merges the oldest entries of updates, by version, until there are few enough.
    pub(super) fn cap(&mut self) -> Result<(), FieldsError> {
        let mut updaters: Vec<Entry> = Vec::new();
        let count = self.entries.iter().filter(|entry| entry.operation == Operation::Update).count();
        if count <= UPDATERS_MAX {
            return Ok(());
        }
        let (mut old, rest): (Vec<Entry>, Vec<Entry>) =
            self.entries.drain(..).partition(|entry| entry.operation == Operation::Update);
        self.entries = rest;
        // A bucket that is there already is what the others go into.
        let age = |entry: &Entry| (*entry.manager != *OLD_UPDATERS, seconds(entry));
        old.sort_by(|a, b| age(a).cmp(&age(b)).then_with(|| identifier(a).cmp(&identifier(b))));
        let mut excess = count - UPDATERS_MAX;
        for entry in old {
            let bucket = Entry::new(OLD_UPDATERS, Operation::Update, &entry.api_version, "", Set::new());
            let same_version = updaters.iter().position(|other| other.api_version == entry.api_version);
            match same_version {
                Some(at) if excess > 0 => {
                    let set = entry.set()?.union(&updaters[at].set()?);
                    updaters[at] = Entry { time: entry.time, ..bucket };
                    updaters[at].put(set);
                    excess -= 1;
                }
                _ => updaters.push(entry),
            }
        }
        self.entries.append(&mut updaters);
        Ok(())
    }
}

fn seconds(entry: &Entry) -> i64 {
    let time = entry.time.as_deref().and_then(|time| crate::time::parse(time).ok());
    time.map_or(0, jiff::Timestamp::as_second)
}

/// Sorts as upstream's identifier, which is JSON text, does.
fn identifier(entry: &Entry) -> (&str, &str, &str) {
    (&entry.manager, &entry.api_version, &entry.subresource)
}

/// Whether two lists say the same but for the times. A change of nothing but those is none
/// (`IgnoreManagedFieldsTimestampsTransformer`).
pub fn equal_but_for_times(a: Option<&Value>, b: Option<&Value>) -> bool {
    let (Some(Value::Array(a)), Some(Value::Array(b))) = (a, b) else { return false };
    let without_time =
        |entry: &'_ Value| entry.as_object().map(|map| map.len() - usize::from(map.contains_key("time")));
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            let mut members = a.as_object().into_iter().flat_map(Map::iter);
            without_time(a) == without_time(b)
                && members.all(|(name, value)| name == "time" || b.get(name) == Some(value))
        })
}
