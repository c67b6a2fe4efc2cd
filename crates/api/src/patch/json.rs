//! JSON patch (RFC 6902) with the semantics of evanphx/json-patch, which upstream uses: indices may be negative, replacing a
//! missing member of an object adds it, a missing member tests equal to null.

use std::borrow::Cow;

use super::PatchError;
use crate::value::Value;

/// Operations in one patch.
pub const OPERATIONS_MAX: usize = 10_000;
/// Bytes that all `copy` operations of a patch may add together.
pub const COPY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// A list of operations, each applied to what the one before it left.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPatch {
    operations: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    #[error("Unexpected kind: {0}")]
    Kind(String),
    #[error("operation missing {0} field")]
    MissingField(&'static str),
    #[error("{operation} operation does not apply: doc is missing path: {path}")]
    MissingPath { operation: &'static str, path: String },
    #[error("unable to remove nonexistent key: {0}")]
    MissingKey(String),
    #[error("value was not a proper array index: '{0}'")]
    Index(String),
    #[error("unable to access invalid index: {0}")]
    OutOfRange(i64),
    #[error("testing value {0} failed")]
    Test(String),
    #[error("replace operation value must be object or array")]
    Root,
    #[error(
        "unable to complete the copy, the accumulated size increase of copy is {0}, exceeding the limit {COPY_BYTES_MAX}"
    )]
    CopyTooLarge(usize),
}

impl JsonPatch {
    pub fn decode(patch: Value) -> Result<JsonPatch, PatchError> {
        let Value::Array(operations) = patch else {
            return Err(PatchError::Decode { found: patch.type_name(), wanted: "jsonpatch.Patch" });
        };
        let is_bad = |operation: &&Value| !matches!(operation, Value::Object(_) | Value::Null);
        if let Some(bad) = operations.iter().find(is_bad) {
            return Err(PatchError::Decode { found: bad.type_name(), wanted: "jsonpatch.Operation" });
        }
        if operations.len() > OPERATIONS_MAX {
            return Err(PatchError::TooManyOperations { count: operations.len() });
        }
        Ok(JsonPatch { operations })
    }

    pub fn apply(&self, mut document: Value) -> Result<Value, OperationError> {
        let mut copied = 0;
        for operation in &self.operations {
            apply(&mut document, operation, &mut copied)?;
        }
        Ok(document)
    }
}

fn text<'a>(operation: &'a Value, name: &'static str) -> Result<&'a str, OperationError> {
    operation.get(name).and_then(Value::as_str).ok_or(OperationError::MissingField(name))
}

fn apply(document: &mut Value, operation: &Value, copied: &mut usize) -> Result<(), OperationError> {
    let value = || operation.get("value").cloned().unwrap_or_default();
    match operation.get("op").and_then(Value::as_str).unwrap_or("unknown") {
        "add" => add(document, "add", text(operation, "path")?, value()),
        "remove" => remove(document, "remove", text(operation, "path")?).map(drop),
        "replace" => replace(document, text(operation, "path")?, value()),
        "test" => test(document, text(operation, "path")?, &value()),
        "move" => {
            let moved = remove(document, "move", text(operation, "from")?)?;
            add(document, "move", text(operation, "path")?, moved)
        }
        "copy" => {
            let from = text(operation, "from")?;
            let (container, key) = find(document, from).ok_or_else(|| missing("copy", from))?;
            let copy = get(container, &key)?.cloned().unwrap_or_default();
            *copied += copy.to_json().len();
            if *copied > COPY_BYTES_MAX {
                return Err(OperationError::CopyTooLarge(*copied));
            }
            add(document, "copy", text(operation, "path")?, copy)
        }
        other => Err(OperationError::Kind(other.to_owned())),
    }
}

fn missing(operation: &'static str, path: &str) -> OperationError {
    OperationError::MissingPath { operation, path: path.to_owned() }
}

/// A reference token as it was before escaping: `~1` stands for `/`, `~0` for `~`.
fn unescape(token: &str) -> Cow<'_, str> {
    if !token.contains('~') {
        return Cow::Borrowed(token);
    }
    // `~0` last, so that `~01` becomes `~1`.
    Cow::Owned(token.replace("~1", "/").replace("~0", "~"))
}

/// The object or array that holds what the path names, and the name or index in it.
fn find<'d, 'p>(document: &'d mut Value, path: &'p str) -> Option<(&'d mut Value, Cow<'p, str>)> {
    let (_, tokens) = path.split_once('/')?;
    let (parents, key) = match tokens.rsplit_once('/') {
        Some((parents, key)) => (Some(parents), key),
        None => (None, tokens),
    };
    let mut here = document;
    for token in parents.into_iter().flat_map(|parents| parents.split('/')) {
        here = get_mut(here, &unescape(token))?;
    }
    matches!(here, Value::Object(_) | Value::Array(_)).then(|| (here, unescape(key)))
}

/// An index into a list of `length` items, counted from the end where it is negative.
fn index(key: &str, length: usize) -> Result<usize, OperationError> {
    let number: i64 = key.parse().map_err(|_| OperationError::Index(key.to_owned()))?;
    let at = if number < 0 { number + length as i64 } else { number };
    usize::try_from(at).ok().filter(|at| *at < length).ok_or(OperationError::OutOfRange(number))
}

fn get_mut<'d>(container: &'d mut Value, key: &str) -> Option<&'d mut Value> {
    match container {
        Value::Object(map) => map.get_mut(key),
        Value::Array(items) => index(key, items.len()).ok().and_then(|at| items.get_mut(at)),
        _ => None,
    }
}

fn get<'d>(container: &'d Value, key: &str) -> Result<Option<&'d Value>, OperationError> {
    match container {
        Value::Array(items) => index(key, items.len()).map(|at| items.get(at)),
        other => Ok(other.get(key)),
    }
}

fn add(document: &mut Value, operation: &'static str, path: &str, value: Value) -> Result<(), OperationError> {
    match find(document, path).ok_or_else(|| missing(operation, path))? {
        (Value::Array(items), key) if key == "-" => items.push(value),
        (Value::Array(items), key) => {
            let at = index(&key, items.len() + 1)?;
            items.insert(at, value);
        }
        (container, key) => {
            let map = container.as_object_mut().ok_or_else(|| missing(operation, path))?;
            map.insert(key.into_owned(), value);
        }
    }
    Ok(())
}

fn remove(document: &mut Value, operation: &'static str, path: &str) -> Result<Value, OperationError> {
    match find(document, path).ok_or_else(|| missing(operation, path))? {
        (Value::Array(items), key) => {
            let at = index(&key, items.len())?;
            Ok(items.remove(at))
        }
        (container, key) => {
            let map = container.as_object_mut().ok_or_else(|| missing(operation, path))?;
            map.remove(&key).ok_or_else(|| OperationError::MissingKey(key.into_owned()))
        }
    }
}

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), OperationError> {
    if path.is_empty() {
        if !matches!(value, Value::Object(_) | Value::Array(_)) {
            return Err(OperationError::Root);
        }
        *document = value;
        return Ok(());
    }
    match find(document, path).ok_or_else(|| missing("replace", path))? {
        (Value::Array(items), key) => {
            let at = index(&key, items.len()).map_err(|_| missing("replace", path))?;
            items[at] = value;
        }
        (container, key) => {
            let map = container.as_object_mut().ok_or_else(|| missing("replace", path))?;
            map.insert(key.into_owned(), value);
        }
    }
    Ok(())
}

fn test(document: &mut Value, path: &str, expected: &Value) -> Result<(), OperationError> {
    let is_same = if path.is_empty() {
        document == expected
    } else {
        let (container, key) = find(document, path).ok_or_else(|| missing("test", path))?;
        get(container, &key)?.unwrap_or(&Value::Null) == expected
    };
    if is_same { Ok(()) } else { Err(OperationError::Test(path.to_owned())) }
}
