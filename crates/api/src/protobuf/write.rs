//! A tree to protobuf, byte for byte as upstream's generated code writes it: what is not a pointer in Go is written even
//! where it is zero, maps by sorted keys.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;

use super::{Backward, MAGIC, ProtobufError, Result, buffer::varint, type_of};
use crate::{
    model::{Field, Inline, Model, Shape, Type, TypeId, WireMember},
    value::{Map, Value},
};

/// What ends a list that [`list_head`] began: the envelope's empty encoding and content type.
pub const LIST_TAIL: &[u8; 4] = &[3 << 3 | 2, 0, 4 << 3 | 2, 0];

/// An object with apiVersion and kind as an enveloped message.
pub fn encode(model: &Model, object: &Value) -> Result<Vec<u8>> {
    let (version, kind) = (object.str_at(&["apiVersion"]), object.str_at(&["kind"]));
    let unknown = || ProtobufError::UnknownKind { kind: kind.into(), version: version.into() };
    let ty = type_of(model, version, kind).ok_or_else(unknown)?;
    Ok(envelope(version, kind, &message(model, ty, object)?))
}

/// An object's message without the envelope: what stands in lists.
pub fn message(model: &Model, ty: TypeId, object: &Value) -> Result<Vec<u8>> {
    let mut out = Backward::with_capacity(512);
    typed(model, model.get(ty), Some(object), &mut out)?;
    Ok(out.finish())
}

/// The envelope (`runtime.Unknown`) around a message.
pub fn envelope(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut out = envelope_head(api_version, kind, message.len(), message.len());
    out.extend_from_slice(message);
    out.extend_from_slice(LIST_TAIL);
    out
}

/// The beginning of an enveloped list: `meta` is the message of its ListMeta, `items` the length of all items with their
/// heads. Behind it come the items, each behind its [`item_head`], and [`LIST_TAIL`].
pub fn list_head(api_version: &str, kind: &str, meta: &[u8], items: usize) -> Vec<u8> {
    let mut field = vec![1 << 3 | 2];
    push_varint(&mut field, meta.len());
    field.extend_from_slice(meta);
    let mut out = envelope_head(api_version, kind, field.len() + items, field.len());
    out.extend_from_slice(&field);
    out
}

/// What stands before an item of a list.
pub fn item_head(length: usize) -> Vec<u8> {
    let mut out = vec![2 << 3 | 2];
    push_varint(&mut out, length);
    out
}

/// An event of a watch: a WatchEvent behind its length in four bytes. `object` is enveloped.
pub fn watch_frame(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Backward::with_capacity(object.len() + kind.len() + 24);
    let whole = out.mark();
    out.bytes(1, object);
    out.close(2, whole);
    out.bytes(1, kind.as_bytes());
    let length = (out.mark() - whole) as u32;
    out.raw(&length.to_be_bytes());
    out.finish()
}

/// Up to and including the length of a message of `length` bytes, with room for `room` and the envelope's end.
fn envelope_head(api_version: &str, kind: &str, length: usize, room: usize) -> Vec<u8> {
    let mut meta = Backward::default();
    meta.bytes(2, kind.as_bytes());
    meta.bytes(1, api_version.as_bytes());
    meta.close(1, 0);
    let meta = meta.finish();
    let mut out = Vec::with_capacity(MAGIC.len() + meta.len() + 11 + room + LIST_TAIL.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&meta);
    out.push(2 << 3 | 2);
    push_varint(&mut out, length);
    out
}

fn push_varint(out: &mut Vec<u8>, number: usize) {
    let (bytes, length) = varint(number as u64);
    out.extend_from_slice(&bytes[..length]);
}

/// The content of a message, without tag and length; `None` for one that has nothing set.
fn typed(model: &Model, ty: &Type, value: Option<&Value>, out: &mut Backward) -> Result<()> {
    if ty.scalar.is_some() {
        return one_of(model, ty, value.unwrap_or(&Value::Null), out);
    }
    let empty = Map::new();
    let map = match value {
        Some(Value::Object(map)) => map,
        None | Some(Value::Null) => &empty,
        Some(other) => return Err(wrong(&ty.name, other)),
    };
    members(model, ty, map, out)
}

fn members(model: &Model, ty: &Type, map: &Map, out: &mut Backward) -> Result<()> {
    for member in ty.wire_order.iter().rev() {
        match *member {
            WireMember::Field(at) => field(model, &ty.fields[at], map, out)?,
            WireMember::Inline(at) => inline(model, &ty.inline[at], map, out)?,
        }
    }
    Ok(())
}

/// A message on the wire whose fields stand in the object itself in JSON.
fn inline(model: &Model, inline: &Inline, map: &Map, out: &mut Backward) -> Result<()> {
    let Shape::Type(id) = &inline.shape else { return Ok(()) };
    let mark = out.mark();
    members(model, model.get(*id), map, out)?;
    out.close(inline.tag, mark);
    Ok(())
}

fn wrong(name: &str, value: &Value) -> ProtobufError {
    bad(name, format!("unexpected {}", value.type_name()))
}

fn bad(name: &str, message: impl ToString) -> ProtobufError {
    ProtobufError::Field { field: name.into(), message: message.to_string() }
}

fn field(model: &Model, field: &Field, map: &Map, out: &mut Backward) -> Result<()> {
    let present = map.get(&field.name).filter(|value| !value.is_null());
    let encoder = Encoder { model, name: &field.name };
    match (&field.shape, present) {
        (Shape::List(item), Some(Value::Array(items))) if field.wire.is_some() => {
            encoder.wrapped_list(field.tag, item, items, out)
        }
        (Shape::List(item), Some(Value::Array(items))) => {
            items.iter().rev().try_for_each(|value| encoder.value(field.tag, item, Some(value), out))
        }
        (Shape::Map(item), Some(Value::Object(entries))) => encoder.map(field.tag, item, entries, out),
        (Shape::List(_) | Shape::Map(_), Some(other)) => Err(wrong(&field.name, other)),
        (Shape::List(_) | Shape::Map(_) | Shape::Bytes, None) => Ok(()),
        (_, None) if field.nullable => Ok(()),
        (shape, value) => encoder.value(field.tag, shape, value, out),
    }
}

/// Writes the values of a field; the name is for errors.
struct Encoder<'a> {
    model: &'a Model,
    name: &'a str,
}

impl Encoder<'_> {
    /// A list that is a message of its own, with its items as field 1 (Verbs, ExtraValue).
    fn wrapped_list(&self, tag: u32, item: &Shape, items: &[Value], out: &mut Backward) -> Result<()> {
        let mark = out.mark();
        items.iter().rev().try_for_each(|value| self.value(1, item, Some(value), out))?;
        out.close(tag, mark);
        Ok(())
    }

    fn map(&self, tag: u32, item: &Shape, entries: &Map, out: &mut Backward) -> Result<()> {
        let mut sorted: Vec<(&str, &Value)> = entries.iter().collect();
        sorted.sort_unstable_by_key(|(key, _)| *key);
        for (key, value) in sorted.into_iter().rev() {
            let mark = out.mark();
            match (item, value) {
                (Shape::List(item), Value::Array(items)) => self.wrapped_list(2, item, items, out)?,
                (Shape::List(item), Value::Null) => self.wrapped_list(2, item, &[], out)?,
                (Shape::List(_), other) => return Err(wrong(self.name, other)),
                (Shape::Bytes, Value::Null) => {}
                (item, value) => self.value(2, item, Some(value), out)?,
            }
            out.bytes(1, key.as_bytes());
            out.close(tag, mark);
        }
        Ok(())
    }

    /// One value with its tag. `None` and null are Go's zero value.
    fn value(&self, tag: u32, shape: &Shape, value: Option<&Value>, out: &mut Backward) -> Result<()> {
        let value = value.unwrap_or(&Value::Null);
        match (shape, value) {
            (Shape::Bool, Value::Bool(flag)) => out.varint(tag, (*flag).into()),
            // Negative numbers are sign-extended to 64 bits, whatever their type.
            (Shape::Int32 | Shape::Int64, Value::Int(number)) => out.varint(tag, *number as u64),
            // As from a client that wrote 1.0 for 1.
            (Shape::Int32 | Shape::Int64, Value::Float(number)) if number.fract() == 0.0 => {
                out.varint(tag, *number as i64 as u64)
            }
            (Shape::Bool | Shape::Int32 | Shape::Int64, Value::Null) => out.varint(tag, 0),
            (Shape::Double, Value::Float(number)) => out.double(tag, *number),
            (Shape::Double, Value::Int(number)) => out.double(tag, *number as f64),
            (Shape::Double, Value::Null) => out.double(tag, 0.0),
            (Shape::String, Value::String(text)) => out.bytes(tag, text.as_bytes()),
            (Shape::String | Shape::Bytes, Value::Null) => out.bytes(tag, b""),
            (Shape::Bytes, Value::String(text)) => {
                out.bytes(tag, &STANDARD.decode(&**text).map_err(|error| bad(self.name, error))?)
            }
            _ => {
                let mark = out.mark();
                self.content(shape, value, out)?;
                out.close(tag, mark);
            }
        }
        Ok(())
    }

    /// The content of what is a message on the wire.
    fn content(&self, shape: &Shape, value: &Value, out: &mut Backward) -> Result<()> {
        match (shape, value) {
            (Shape::Type(id), value) => typed(self.model, self.model.get(*id), Some(value), out)?,
            (
                Shape::Time | Shape::MicroTime | Shape::FieldsV1 | Shape::RawExtension | Shape::Any | Shape::Object,
                Value::Null,
            ) => {}
            (Shape::Time | Shape::MicroTime, Value::String(text)) => {
                self.time(text, *shape == Shape::MicroTime, out)?
            }
            (Shape::Quantity, Value::String(text)) => out.bytes(1, text.as_bytes()),
            (Shape::Quantity, Value::Int(_) | Value::Float(_)) => out.bytes(1, &value.to_json()),
            (Shape::Quantity, Value::Null) => out.bytes(1, b"0"),
            (Shape::IntOrString, Value::String(text)) => int_or_string(1, 0, text, out),
            (Shape::IntOrString, Value::Int(number)) => int_or_string(0, *number, "", out),
            (Shape::IntOrString, Value::Null) => int_or_string(0, 0, "", out),
            (Shape::FieldsV1 | Shape::RawExtension | Shape::Any | Shape::Object, value) => {
                out.bytes(1, &value.to_json())
            }
            (_, other) => return Err(wrong(self.name, other)),
        }
        Ok(())
    }

    /// Upstream keeps no fraction of a second in times that are not micro times.
    fn time(&self, text: &str, micro: bool, out: &mut Backward) -> Result<()> {
        let time: Timestamp = text.parse().map_err(|error| bad(self.name, error))?;
        // Before 1970 the fraction counts forward from the second before.
        let fraction = time.as_nanosecond().rem_euclid(1_000_000_000);
        let second = time.as_nanosecond().div_euclid(1_000_000_000);
        out.varint(2, if micro { (fraction / 1000 * 1000) as u64 } else { 0 });
        out.varint(1, second as i64 as u64);
        Ok(())
    }
}

fn int_or_string(kind: u64, number: i64, text: &str, out: &mut Backward) {
    out.bytes(3, text.as_bytes());
    out.varint(2, number as u64);
    out.varint(1, kind);
}

/// A type that is one of several things in JSON and a message with a field for each on the wire; see
/// [`read`](super::read). One with nothing inside is an empty message.
fn one_of(model: &Model, ty: &Type, value: &Value, out: &mut Backward) -> Result<()> {
    let encoder = Encoder { model, name: &ty.name };
    for member in ty.wire_order.iter().rev() {
        let WireMember::Inline(at) = *member else { continue };
        let Inline { shape, tag, .. } = &ty.inline[at];
        match (shape, value) {
            (Shape::List(item), Value::Array(items)) => {
                items.iter().rev().try_for_each(|value| encoder.value(*tag, item, Some(value), out))?
            }
            (Shape::Bool, Value::Bool(flag)) => out.varint(*tag, (*flag).into()),
            // A schema allows what it describes.
            (Shape::Bool, value) => out.varint(*tag, (!value.is_null()).into()),
            (Shape::Type(_), Value::Object(_)) => encoder.value(*tag, shape, Some(value), out)?,
            _ => {}
        }
    }
    Ok(())
}
