//! Protobuf to a tree.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;

use super::{DEPTH_MAX, MAGIC, ProtobufError, Result, type_of};
use crate::{
    json,
    model::{Field, Inline, Model, Shape, Type, TypeId},
    value::{Map, Value},
};

/// Reads an enveloped message. `expected` is the type for an envelope that does not name one.
pub fn decode(model: &Model, expected: Option<TypeId>, bytes: &[u8]) -> Result<Value> {
    let mut envelope = Reader { bytes: bytes.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)? };
    let (mut version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    while let Some((tag, wire)) = envelope.next()? {
        match (tag, wire) {
            (1, Wire::Bytes(meta)) => {
                let mut meta = Reader { bytes: meta };
                while let Some((tag, wire)) = meta.next()? {
                    match (tag, wire) {
                        (1, Wire::Bytes(text)) => version = utf8(text, "apiVersion")?,
                        (2, Wire::Bytes(text)) => kind = utf8(text, "kind")?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let ty = type_of(model, &version, &kind)
        .or(expected)
        .ok_or_else(|| ProtobufError::UnknownKind { kind: kind.clone(), version: version.clone() })?;
    let mut map = Map::new();
    if !kind.is_empty() {
        map.insert("kind", kind);
        map.insert("apiVersion", version);
    }
    message(model, model.get(ty), raw, &mut map, 0)?;
    Ok(map.into())
}

fn utf8(bytes: &[u8], field: &str) -> Result<String> {
    String::from_utf8(bytes.to_vec())
        .map_err(|error| ProtobufError::Field { field: field.into(), message: error.to_string() })
}

enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in 0..10 {
            let (byte, rest) = self.bytes.split_first().ok_or(ProtobufError::End)?;
            self.bytes = rest;
            number |= u64::from(byte & 0x7f).checked_shl(7 * shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(ProtobufError::Overflow)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        if count > self.bytes.len() {
            return Err(ProtobufError::End);
        }
        let (taken, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        Ok(taken)
    }

    /// The next field's tag and content.
    fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).map_err(|_| ProtobufError::Overflow)?;
        let wire = match (key & 7) as u8 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let bytes: [u8; 8] = self.take(8)?.try_into().map_err(|_| ProtobufError::End)?;
                Wire::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let count = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Overflow)?;
                Wire::Bytes(self.take(count)?)
            }
            5 => {
                let bytes: [u8; 4] = self.take(4)?.try_into().map_err(|_| ProtobufError::End)?;
                Wire::Fixed32(u32::from_le_bytes(bytes))
            }
            other => return Err(ProtobufError::WireType(other)),
        };
        Ok(Some((tag, wire)))
    }
}

/// Reads a message's fields into `map`; those of nested messages that are flat in JSON too.
fn message(model: &Model, ty: &Type, bytes: &[u8], map: &mut Map, depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(ProtobufError::TooDeep);
    }
    let mut reader = Reader { bytes };
    while let Some((tag, wire)) = reader.next()? {
        if let Some(inline) = ty.inline.iter().find(|inline| inline.tag == tag) {
            flatten(model, ty, inline, &wire, map, depth)?;
        } else if let Some(field) = ty.fields.iter().find(|field| field.tag == tag) {
            place(model, field, &wire, map, depth)?;
        }
        // A tag that is not known is of a newer version: upstream drops it too.
    }
    Ok(())
}

/// The fields of a message on the wire that stand in `ty` itself in JSON.
fn flatten(model: &Model, ty: &Type, inline: &Inline, wire: &Wire, map: &mut Map, depth: usize) -> Result<()> {
    let (Shape::Type(id), Wire::Bytes(bytes)) = (&inline.shape, wire) else { return Ok(()) };
    let mut inner = Map::new();
    message(model, model.get(*id), bytes, &mut inner, depth + 1)?;
    for (name, value) in inner {
        if ty.field(&name).is_some() {
            map.insert(name, value);
        }
    }
    Ok(())
}

fn place(model: &Model, field: &Field, wire: &Wire, map: &mut Map, depth: usize) -> Result<()> {
    let bad = |message: &str| ProtobufError::Field { field: field.name.to_string(), message: message.into() };
    match &field.shape {
        Shape::List(item) => {
            let values = match (&**item, wire) {
                // Numbers may come packed.
                (Shape::Int32 | Shape::Int64 | Shape::Bool, Wire::Bytes(packed)) => {
                    let mut reader = Reader { bytes: packed };
                    let mut values = Vec::new();
                    while !reader.bytes.is_empty() {
                        values.push(
                            value(model, item, &Wire::Varint(reader.varint()?), depth).map_err(|text| bad(&text))?,
                        );
                    }
                    values
                }
                // A list that is a message of its own, with its items as field 1 (Verbs).
                (Shape::String, Wire::Bytes(bytes)) if field.wire.is_some() => strings(bytes)?,
                _ => vec![value(model, item, wire, depth).map_err(|text| bad(&text))?],
            };
            if let Some(list) = map.entry_or_insert_with(&field.name, || Value::Array(Vec::new())).as_array_mut() {
                list.extend(values);
            }
        }
        Shape::Map(item) => {
            let Wire::Bytes(bytes) = wire else { return Err(bad("wrong wireType")) };
            let (key, entry) = entry(model, item, bytes, depth).map_err(|text| bad(&text))?;
            if let Some(object) = map.entry_or_insert_with(&field.name, Value::object).as_object_mut() {
                object.insert(key, entry);
            }
        }
        shape => {
            // A message that comes in parts is one.
            if let (Shape::Type(id), Wire::Bytes(bytes)) = (shape, wire)
                && let Some(former) = map.get_mut(&field.name).and_then(Value::as_object_mut)
                && let ty = model.get(*id)
                && ty.scalar.is_none()
            {
                return message(model, ty, bytes, former, depth + 1).map_err(|error| bad(&error.to_string()));
            }
            let value = value(model, shape, wire, depth).map_err(|text| bad(&text))?;
            if !value.is_null() && (field.nullable || !is_zero(&value)) {
                map.insert(field.name.clone(), value);
            } else {
                map.remove(&field.name);
            }
        }
    }
    Ok(())
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) => true,
        Value::Float(number) => *number == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn strings(bytes: &[u8]) -> Result<Vec<Value>> {
    let mut reader = Reader { bytes };
    let mut items = Vec::new();
    while let Some((tag, wire)) = reader.next()? {
        if let (1, Wire::Bytes(text)) = (tag, wire) {
            items.push(utf8(text, "items")?.into());
        }
    }
    Ok(items)
}

/// An entry of a map: key is field 1, value field 2.
fn entry(model: &Model, item: &Shape, bytes: &[u8], depth: usize) -> Result<(String, Value), String> {
    let text = |error: ProtobufError| error.to_string();
    let mut reader = Reader { bytes };
    let (mut key, mut found) = (String::new(), None);
    while let Some((tag, wire)) = reader.next().map_err(text)? {
        match (tag, &wire) {
            (1, Wire::Bytes(name)) => key = utf8(name, "key").map_err(text)?,
            (2, Wire::Bytes(list)) if matches!(item, Shape::List(_)) => {
                found = Some(strings(list).map_err(text)?.into())
            }
            (2, _) => found = Some(value(model, item, &wire, depth + 1)?),
            _ => {}
        }
    }
    let zero = || match item {
        Shape::String | Shape::Bytes => Value::from(""),
        Shape::List(_) => Value::Array(Vec::new()),
        _ => Value::object(),
    };
    Ok((key, found.unwrap_or_else(zero)))
}

fn value(model: &Model, shape: &Shape, wire: &Wire, depth: usize) -> Result<Value, String> {
    let wrong = || "wrong wireType".to_owned();
    Ok(match (shape, wire) {
        (Shape::Bool, Wire::Varint(number)) => Value::Bool(*number != 0),
        // Negative numbers of 32 bits come sign-extended to 64.
        (Shape::Int32, Wire::Varint(number)) => Value::Int(i64::from(*number as i32)),
        (Shape::Int64, Wire::Varint(number)) => Value::Int(*number as i64),
        (Shape::Int32 | Shape::Int64, Wire::Fixed32(number)) => Value::Int(i64::from(*number)),
        (Shape::Double, Wire::Fixed64(bits)) => double(f64::from_bits(*bits))?,
        (Shape::String, Wire::Bytes(bytes)) => utf8(bytes, "string").map_err(|error| error.to_string())?.into(),
        (Shape::Bytes, Wire::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        (Shape::Time, Wire::Bytes(bytes)) => time(bytes, false)?,
        (Shape::MicroTime, Wire::Bytes(bytes)) => time(bytes, true)?,
        (Shape::Quantity, Wire::Bytes(bytes)) => match part(bytes, 1)? {
            Some(Wire::Bytes(text)) => utf8(text, "string").map_err(|error| error.to_string())?.into(),
            _ => "0".into(),
        },
        (Shape::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Shape::FieldsV1 | Shape::RawExtension | Shape::Any | Shape::Object, Wire::Bytes(bytes)) => {
            match part(bytes, 1)? {
                Some(Wire::Bytes(raw)) if !raw.is_empty() => json::parse(raw).map_err(|error| error.to_string())?,
                _ => Value::Null,
            }
        }
        (Shape::Type(id), Wire::Bytes(bytes)) => typed(model, model.get(*id), bytes, depth + 1)?,
        _ => return Err(wrong()),
    })
}

/// As the number's JSON text is read; what JSON cannot say is refused.
fn double(number: f64) -> Result<Value, String> {
    let is_whole = number.fract() == 0.0 && number.abs() < (1_u64 << 53) as f64;
    match number {
        _ if is_whole => Ok(Value::Int(number as i64)),
        _ if number.is_finite() => Ok(Value::Float(number)),
        _ => Err(format!("unsupported value {number}")),
    }
}

fn typed(model: &Model, ty: &Type, bytes: &[u8], depth: usize) -> Result<Value, String> {
    if ty.scalar.is_some() && !ty.inline.is_empty() {
        return one_of(model, ty, bytes, depth);
    }
    let mut map = Map::new();
    message(model, ty, bytes, &mut map, depth).map_err(|error| error.to_string())?;
    Ok(map.into())
}

/// A type that is one of several things in JSON (a schema or a list of schemas, a schema or a flag) and a message with a
/// field for each on the wire.
fn one_of(model: &Model, ty: &Type, bytes: &[u8], depth: usize) -> Result<Value, String> {
    let mut reader = Reader { bytes };
    let mut found = Value::Null;
    while let Some((tag, wire)) = reader.next().map_err(|error| error.to_string())? {
        let Some(inline) = ty.inline.iter().find(|inline| inline.tag == tag) else { continue };
        match &inline.shape {
            Shape::List(item) => {
                let item = value(model, item, &wire, depth + 1)?;
                match &mut found {
                    Value::Array(items) => items.push(item),
                    other => *other = Value::Array(vec![item]),
                }
            }
            // The flag says nothing beside a schema.
            Shape::Bool if !found.is_null() => {}
            shape => found = value(model, shape, &wire, depth + 1)?,
        }
    }
    Ok(found)
}

/// The last occurrence of one field.
fn part(bytes: &[u8], wanted: u32) -> Result<Option<Wire<'_>>, String> {
    let mut reader = Reader { bytes };
    let mut found = None;
    while let Some((tag, wire)) = reader.next().map_err(|error| error.to_string())? {
        if tag == wanted {
            found = Some(wire);
        }
    }
    Ok(found)
}

/// Seconds and nanoseconds; none of both is no time.
fn time(bytes: &[u8], micro: bool) -> Result<Value, String> {
    let number = |tag| match part(bytes, tag) {
        Ok(Some(Wire::Varint(number))) => Ok(number as i64),
        Ok(_) => Ok(0),
        Err(error) => Err(error),
    };
    let (seconds, nanos) = (number(1)?, number(2)?);
    if seconds == 0 && nanos == 0 {
        return Ok(Value::Null);
    }
    let nanos = i32::try_from(nanos).map_err(|_| "nanoseconds out of range".to_owned())?;
    let time = Timestamp::new(seconds, nanos).map_err(|error| error.to_string())?;
    Ok(if micro { crate::time::format_micro(time) } else { crate::time::format(time) }.into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, String> {
    match part(bytes, 1)? {
        Some(Wire::Varint(1)) => match part(bytes, 3)? {
            Some(Wire::Bytes(text)) => Ok(utf8(text, "strVal").map_err(|error| error.to_string())?.into()),
            _ => Ok("".into()),
        },
        _ => match part(bytes, 2)? {
            Some(Wire::Varint(number)) => Ok(Value::Int(i64::from(number as i32))),
            _ => Ok(Value::Int(0)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of bytes.
    fn bytes(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag << 3 | 2, content.len() as u8];
        out.extend_from_slice(content);
        out
    }

    fn envelope(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &meta), bytes(2, raw)].concat()
    }

    fn read(message: &[u8]) -> Result<String> {
        decode(Model::builtin(), None, message).map(|value| value.to_string())
    }

    #[test]
    fn maps_and_nested_messages_are_read_and_empty_ones_dropped() {
        let metadata = [bytes(1, b"a"), bytes(2, b""), bytes(8, b"")].concat();
        let entry = [bytes(1, b"k"), bytes(2, b"v")].concat();
        let raw = [bytes(1, &metadata), bytes(2, &entry)].concat();
        let expected = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"k":"v"}}"#;
        assert_eq!(read(&envelope("v1", "ConfigMap", &raw)).unwrap(), expected);
    }

    #[test]
    fn a_message_in_parts_is_one_and_of_a_field_the_last_counts() {
        let parts = [bytes(1, b"a"), bytes(3, b"n"), bytes(1, b"b"), bytes(3, b"")].map(|part| bytes(1, &part));
        let expected = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"b"}}"#;
        assert_eq!(read(&envelope("v1", "ConfigMap", &parts.concat())).unwrap(), expected);
    }

    #[test]
    fn a_zero_counts_where_the_field_tells_it_from_none() {
        // replicas is a pointer upstream, minReadySeconds is not.
        let raw = bytes(2, &[1 << 3, 0, 5 << 3, 0]);
        let expected = r#"{"kind":"Deployment","apiVersion":"apps/v1","spec":{"replicas":0}}"#;
        assert_eq!(read(&envelope("apps/v1", "Deployment", &raw)).unwrap(), expected);
    }

    #[test]
    fn nested_on_the_wire_is_flat_in_json() {
        let empty_dir = bytes(2, b"");
        let volume = [bytes(1, b"scratch"), bytes(2, &empty_dir)].concat();
        let raw = bytes(2, &bytes(1, &volume));
        let expected = r#"{"kind":"Pod","apiVersion":"v1","spec":{"volumes":[{"name":"scratch","emptyDir":{}}]}}"#;
        assert_eq!(read(&envelope("v1", "Pod", &raw)).unwrap(), expected);
    }

    #[test]
    fn damage_is_an_error() {
        assert_eq!(read(b"{}"), Err(ProtobufError::Magic));
        assert!(matches!(read(&envelope("v1", "Nothing", b"")), Err(ProtobufError::UnknownKind { .. })));
        assert_eq!(read(&envelope("v1", "Pod", &[2 << 3 | 2, 200])), Err(ProtobufError::End));
        assert_eq!(read(&envelope("v1", "Pod", &[0xff; 11])), Err(ProtobufError::Overflow));
        assert!(read(&envelope("v1", "ConfigMap", &bytes(1, &bytes(1, &[0xff])))).is_err());
        let infinite = [&[9 << 3 | 1][..], &f64::INFINITY.to_le_bytes()].concat();
        let schema = bytes(7, &bytes(4, &bytes(1, &infinite)));
        assert!(read(&envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", &bytes(2, &schema))).is_err());
        let nested = (0..20).fold(Vec::new(), |inner: Vec<u8>, _| bytes(4, &inner));
        assert!(read(&envelope("v1", "Pod", &nested)).is_ok());
    }
}
