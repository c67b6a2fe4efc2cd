//! The rules by which cells are made, and what several kinds share.

use std::net::Ipv6Addr;

use jiff::Timestamp;

use super::{Cell, Column, duration};
use crate::selector::LabelSelector;
use crate::value::Value;

pub(super) fn cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    match &column.cell {
        Cell::Text(path, missing) => text_or(at(object, path), missing).into(),
        Cell::Int(path) => at(object, path).and_then(Value::as_i64).unwrap_or_default().into(),
        Cell::Bool(path, missing) => at(object, path).and_then(Value::as_bool).unwrap_or(*missing).into(),
        Cell::Count(path) => (count(object, path) as i64).into(),
        Cell::Join(path, missing) => {
            let texts: Vec<String> = list(object, path).iter().map(|item| text_or(Some(item), "")).collect();
            if texts.is_empty() { (*missing).into() } else { texts.join(",").into() }
        }
        Cell::Pluck(path, member) => {
            list(object, path).iter().map(|item| item.str_at(&[member])).collect::<Vec<_>>().join(",").into()
        }
        Cell::Since(path, missing) => match at(object, path).and_then(Value::as_str) {
            Some(time) => since(time, now).into(),
            None => (*missing).into(),
        },
        Cell::Labels(path) => labels(at(object, path)).into(),
        Cell::Selector(path) => selector(at(object, path)).into(),
        Cell::With(make) => make(object, now),
        Cell::Path(path) => super::custom::cell(path, &column.kind, object, now),
    }
}

/// The value at a path with dots between the names.
pub(super) fn at<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(object, |value, name| value.get(name)).filter(|value| !value.is_null())
}

fn list<'v>(object: &'v Value, path: &str) -> &'v [Value] {
    at(object, path).and_then(Value::as_array).unwrap_or_default()
}

pub(super) fn items<'v>(object: &'v Value, path: &[&str]) -> &'v [Value] {
    object.at(path).and_then(Value::as_array).unwrap_or_default()
}

fn count(object: &Value, path: &str) -> usize {
    match at(object, path) {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(map)) => map.len(),
        _ => 0,
    }
}

/// A scalar's text; `missing` where there is none or an empty one.
pub(super) fn text_or(value: Option<&Value>, missing: &str) -> String {
    match value {
        Some(Value::String(text)) if !text.is_empty() => text.to_string(),
        Some(Value::Int(number)) => number.to_string(),
        Some(Value::Float(number)) => number.to_string(),
        Some(Value::Bool(flag)) => flag.to_string(),
        _ => missing.to_owned(),
    }
}

pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    crate::time::parse(text).ok()
}

/// The time that has passed since an instant that is given as text.
pub(super) fn since(time: &str, now: Timestamp) -> String {
    parse_time(time).map_or_else(|| "<unknown>".to_owned(), |time| duration::between(time, now))
}

/// The first condition of a type in `status.conditions`.
pub(super) fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v Value> {
    items(object, &["status", "conditions"]).iter().find(|condition| condition.str_at(&["type"]) == kind)
}

pub(super) fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition.str_at(&["status"]) == "True")
}

pub(super) fn is_deleted(object: &Value) -> bool {
    object.at(&["metadata", "deletionTimestamp"]).is_some()
}

/// A map as `a=b,c=d`, sorted.
pub(super) fn labels(map: Option<&Value>) -> String {
    let Some(map) = map.and_then(Value::as_object).filter(|map| !map.is_empty()) else { return "<none>".to_owned() };
    let mut pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}={}", text_or(Some(value), ""))).collect();
    pairs.sort_unstable();
    pairs.join(",")
}

pub(super) fn selector(object: Option<&Value>) -> String {
    match LabelSelector::from_value(object).map(|selector| selector.to_string()) {
        Ok(text) if text.is_empty() => "<none>".to_owned(),
        Ok(text) => text,
        Err(_) => "<error>".to_owned(),
    }
}

/// At most `max` texts, and how many more there are.
pub(super) fn first_few(texts: Vec<String>, max: usize, separator: &str, none: &str) -> String {
    if texts.is_empty() {
        return none.to_owned();
    }
    let shown = texts[..texts.len().min(max)].join(separator);
    match texts.len().checked_sub(max) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} + {more} more..."),
    }
}

/// Go's `net.JoinHostPort`.
pub(super) fn host_port(host: &str, port: i64) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
