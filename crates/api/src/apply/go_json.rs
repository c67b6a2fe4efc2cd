//! JSON text as Go's encoder writes it, where that text is compared or stored: keys inside FieldsV1 and the last-applied
//! annotation. Go escapes what HTML would read.

use crate::{json, value::Value};

/// Compact, HTML characters escaped, members in their own order.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, false, &mut out);
    out
}

/// The same with members sorted by name, as Go writes a map.
pub(super) fn sorted_text(value: &Value) -> String {
    let mut out = String::new();
    write(value, true, &mut out);
    out
}

fn write(value: &Value, sorted: bool, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, sorted, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut members: Vec<(&str, &Value)> = map.iter().collect();
            if sorted {
                members.sort_by_key(|(name, _)| *name);
            }
            out.push('{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                string(name, out);
                out.push(':');
                write(member, sorted, out);
            }
            out.push('}');
        }
        Value::String(text) => string(text, out),
        plain => out.push_str(&plain.to_string()),
    }
}

pub(super) fn string(text: &str, out: &mut String) {
    let mut bytes = Vec::with_capacity(text.len() + 2);
    json::write_string(text, &mut bytes);
    let plain = String::from_utf8_lossy(&bytes);
    if !plain.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return out.push_str(&plain);
    }
    for character in plain.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", character as u32)),
            other => out.push(other),
        }
    }
}
