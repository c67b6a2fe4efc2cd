//! The document of version 2 as protobuf: gnostic's `openapi_v2.Document`, which kubectl before 1.28 and other Go clients
//! read. The tables name the parts of OpenAPI that documents of ours have; extensions are kept as JSON text, which is YAML.

use crate::{
    json::JsonError,
    protobuf::Backward,
    value::{Map, Value},
};

/// Turns the JSON text of a document into gnostic's message.
pub fn v2_protobuf(document: &[u8]) -> Result<Vec<u8>, JsonError> {
    let tree = crate::json::parse(document)?;
    let mut out = Backward::with_capacity(document.len());
    message(&DOCUMENT, &tree, &mut out);
    Ok(out.finish())
}

/// A message: its members by JSON name, in the order of their tags, and the tag under which extensions stand.
struct Message {
    members: &'static [(&'static str, u32, Kind)],
    extensions: u32,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    Whole,
    Number,
    Texts,
    /// Any value, as text.
    Any,
    Anys,
    Message(&'static Message),
    Messages(&'static Message),
    /// A message of its own around named items: `{ repeated Named = tag { name = 1, value = 2 } }`.
    Named(u32, &'static Kind),
    /// A list of such messages.
    NamedLists(u32, &'static Kind),
    /// One value or several, in a message around them.
    OneOrMany(&'static Kind),
    /// What it is follows from its content: tags of the messages around it, outermost first, and the innermost.
    Choice(fn(&Value) -> (&'static [u32], Kind)),
    Choices(fn(&Value) -> (&'static [u32], Kind)),
}

use Kind::{Any, Anys, Choice, Choices, Flag, Messages, Named, NamedLists, Number, OneOrMany, Text, Texts, Whole};

const fn plain(members: &'static [(&'static str, u32, Kind)]) -> Message {
    Message { members, extensions: 0 }
}

static DOCUMENT: Message = Message {
    members: &[
        ("swagger", 1, Text),
        ("info", 2, Kind::Message(&INFO)),
        ("host", 3, Text),
        ("basePath", 4, Text),
        ("schemes", 5, Texts),
        ("consumes", 6, Texts),
        ("produces", 7, Texts),
        ("paths", 8, Named(2, &Kind::Message(&PATH_ITEM))),
        ("definitions", 9, Named(1, &Kind::Message(&SCHEMA))),
        ("parameters", 10, Named(1, &Choice(parameter))),
        ("responses", 11, Named(1, &Kind::Message(&RESPONSE))),
        ("security", 12, NamedLists(1, &OneOrMany(&Text))),
        ("securityDefinitions", 13, Named(1, &Choice(security))),
        ("tags", 14, Messages(&TAG)),
        ("externalDocs", 15, Kind::Message(&EXTERNAL_DOCS)),
    ],
    extensions: 16,
};

static INFO: Message =
    Message { members: &[("title", 1, Text), ("version", 2, Text), ("description", 3, Text)], extensions: 7 };

static TAG: Message = Message { members: &[("name", 1, Text), ("description", 2, Text)], extensions: 4 };

static EXTERNAL_DOCS: Message = Message { members: &[("description", 1, Text), ("url", 2, Text)], extensions: 3 };

static PATH_ITEM: Message = Message {
    members: &[
        ("$ref", 1, Text),
        ("get", 2, Kind::Message(&OPERATION)),
        ("put", 3, Kind::Message(&OPERATION)),
        ("post", 4, Kind::Message(&OPERATION)),
        ("delete", 5, Kind::Message(&OPERATION)),
        ("options", 6, Kind::Message(&OPERATION)),
        ("head", 7, Kind::Message(&OPERATION)),
        ("patch", 8, Kind::Message(&OPERATION)),
        ("parameters", 9, Choices(parameters_item)),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    members: &[
        ("tags", 1, Texts),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("externalDocs", 4, Kind::Message(&EXTERNAL_DOCS)),
        ("operationId", 5, Text),
        ("produces", 6, Texts),
        ("consumes", 7, Texts),
        ("parameters", 8, Choices(parameters_item)),
        ("responses", 9, Named(1, &Choice(response))),
        ("schemes", 10, Texts),
        ("deprecated", 11, Flag),
        ("security", 12, NamedLists(1, &OneOrMany(&Text))),
    ],
    extensions: 13,
};

static RESPONSE: Message = Message {
    members: &[("description", 1, Text), ("schema", 2, Choice(|_| (&[1], Kind::Message(&SCHEMA))))],
    extensions: 5,
};

static REFERENCE: Message = plain(&[("$ref", 1, Text), ("description", 2, Text)]);

static BODY_PARAMETER: Message = Message {
    members: &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Flag),
        ("schema", 5, Kind::Message(&SCHEMA)),
    ],
    extensions: 6,
};

/// Of a path or a header.
static PARAMETER: Message = Message {
    members: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("default", 9, Any),
        ("pattern", 16, Text),
        ("uniqueItems", 19, Flag),
        ("enum", 20, Anys),
    ],
    extensions: 22,
};

/// Of a query or a form, which may be empty: the tags behind that are one higher.
static EMPTYABLE_PARAMETER: Message = Message {
    members: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("allowEmptyValue", 5, Flag),
        ("type", 6, Text),
        ("format", 7, Text),
        ("default", 10, Any),
        ("pattern", 17, Text),
        ("uniqueItems", 20, Flag),
        ("enum", 21, Anys),
    ],
    extensions: 23,
};

static API_KEY: Message = Message {
    members: &[("type", 1, Text), ("name", 2, Text), ("in", 3, Text), ("description", 4, Text)],
    extensions: 5,
};

static BASIC: Message = Message { members: &[("type", 1, Text), ("description", 2, Text)], extensions: 3 };

static SCHEMA: Message = Message {
    members: &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("multipleOf", 6, Number),
        ("maximum", 7, Number),
        ("exclusiveMaximum", 8, Flag),
        ("minimum", 9, Number),
        ("exclusiveMinimum", 10, Flag),
        ("maxLength", 11, Whole),
        ("minLength", 12, Whole),
        ("pattern", 13, Text),
        ("maxItems", 14, Whole),
        ("minItems", 15, Whole),
        ("uniqueItems", 16, Flag),
        ("maxProperties", 17, Whole),
        ("minProperties", 18, Whole),
        ("required", 19, Texts),
        ("enum", 20, Anys),
        ("additionalProperties", 21, Choice(additional_properties)),
        ("type", 22, OneOrMany(&Text)),
        ("items", 23, OneOrMany(&Kind::Message(&SCHEMA))),
        ("allOf", 24, Messages(&SCHEMA)),
        ("properties", 25, Named(1, &Kind::Message(&SCHEMA))),
        ("discriminator", 26, Text),
        ("readOnly", 27, Flag),
        ("externalDocs", 29, Kind::Message(&EXTERNAL_DOCS)),
        ("example", 30, Any),
    ],
    extensions: 31,
};

fn parameters_item(item: &Value) -> (&'static [u32], Kind) {
    match (item.get("$ref"), item.str_at(&["in"])) {
        (Some(_), _) => (&[2], Kind::Message(&REFERENCE)),
        (_, "body") => (&[1, 1], Kind::Message(&BODY_PARAMETER)),
        (_, "header") => (&[1, 2, 1], Kind::Message(&PARAMETER)),
        (_, "formData") => (&[1, 2, 2], Kind::Message(&EMPTYABLE_PARAMETER)),
        (_, "path") => (&[1, 2, 4], Kind::Message(&PARAMETER)),
        _ => (&[1, 2, 3], Kind::Message(&EMPTYABLE_PARAMETER)),
    }
}

/// One that is defined by name, so never a reference.
fn parameter(item: &Value) -> (&'static [u32], Kind) {
    let (tags, kind) = parameters_item(item);
    (&tags[1..], kind)
}

fn response(item: &Value) -> (&'static [u32], Kind) {
    match item.get("$ref") {
        Some(_) => (&[2], Kind::Message(&REFERENCE)),
        None => (&[1], Kind::Message(&RESPONSE)),
    }
}

fn security(item: &Value) -> (&'static [u32], Kind) {
    match item.str_at(&["type"]) {
        "basic" => (&[1], Kind::Message(&BASIC)),
        _ => (&[2], Kind::Message(&API_KEY)),
    }
}

fn additional_properties(item: &Value) -> (&'static [u32], Kind) {
    match item {
        Value::Bool(_) => (&[2], Flag),
        _ => (&[1], Kind::Message(&SCHEMA)),
    }
}

fn message(of: &Message, value: &Value, out: &mut Backward) {
    let Value::Object(map) = value else { return };
    if of.extensions > 0 {
        extensions(of.extensions, map, out);
    }
    for (name, tag, kind) in of.members.iter().rev() {
        if let Some(value) = map.get(name).filter(|value| !is_zero(value)) {
            field(*tag, kind, value, out);
        }
    }
}

/// `repeated NamedAny`: what gnostic does not know is text to it.
fn extensions(tag: u32, map: &Map, out: &mut Backward) {
    for (name, value) in map.iter().rev().filter(|(name, _)| name.starts_with("x-")) {
        let mark = out.mark();
        any(2, value, out);
        out.bytes(1, name.as_bytes());
        out.close(tag, mark);
    }
}

/// `Any { yaml = 2 }`
fn any(tag: u32, value: &Value, out: &mut Backward) {
    let mark = out.mark();
    out.bytes(2, &value.to_json());
    out.close(tag, mark);
}

/// Version 3 of the protobuf language writes no scalar that is zero, and no empty list.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn field(tag: u32, kind: &Kind, value: &Value, out: &mut Backward) {
    match (kind, value) {
        (Text, Value::String(text)) => out.bytes(tag, text.as_bytes()),
        (Flag, Value::Bool(flag)) => out.varint(tag, (*flag).into()),
        (Whole, Value::Int(number)) => out.varint(tag, *number as u64),
        (Number, Value::Int(number)) => out.double(tag, *number as f64),
        (Number, Value::Float(number)) => out.double(tag, *number),
        (Any, value) => any(tag, value, out),
        (Texts, value) => each(tag, &Text, value, out),
        (Anys, value) => each(tag, &Any, value, out),
        (Messages(of), value) => each(tag, &Kind::Message(of), value, out),
        (Choices(choose), value) => each(tag, &Choice(*choose), value, out),
        (NamedLists(inner, item), value) => each(tag, &Named(*inner, item), value, out),
        (Kind::Message(of), value) => {
            let mark = out.mark();
            message(of, value, out);
            out.close(tag, mark);
        }
        (Named(inner, item), Value::Object(map)) => {
            let mark = out.mark();
            for (name, value) in map.iter().rev() {
                let mark = out.mark();
                field(2, item, value, out);
                out.bytes(1, name.as_bytes());
                out.close(*inner, mark);
            }
            out.close(tag, mark);
        }
        (OneOrMany(item), value) => {
            let mark = out.mark();
            each(1, item, value, out);
            out.close(tag, mark);
        }
        (Choice(choose), value) => {
            let (tags, kind) = choose(value);
            let Some((innermost, around)) = tags.split_last() else { return };
            let mark = out.mark();
            field(*innermost, &kind, value, out);
            for wrapper in around.iter().rev() {
                out.close(*wrapper, mark);
            }
            out.close(tag, mark);
        }
        // A document of ours has no such member; what is not well-formed is left out.
        _ => {}
    }
}

fn each(tag: u32, kind: &Kind, value: &Value, out: &mut Backward) {
    let items = value.as_array().unwrap_or(std::slice::from_ref(value));
    for item in items.iter().rev() {
        field(tag, kind, item, out);
    }
}
