//! Reads the text form of the model.

use super::{Field, Gvk, Inline, ListKind, Model, Shape, Type, TypeId, Union};
use crate::{json, value::Value};

#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct ModelError {
    pub file: String,
    pub line: usize,
    pub message: String,
}

#[derive(Clone, Default)]
struct Package<'a> {
    name: &'a str,
    openapi: &'a str,
    proto: &'a str,
    group: Option<(&'a str, &'a str)>,
}

/// Reads all sources: first every type's head, so that fields can name types that stand later.
pub(super) fn parse(sources: &[(&str, &str)]) -> Result<Model, ModelError> {
    let mut model = Model::default();
    for (file, text) in sources {
        heads(file, text, &mut model)?;
    }
    for (file, text) in sources {
        bodies(file, text, &mut model)?;
    }
    for ty in &mut model.types {
        ty.arrange();
    }
    note_zeros(&mut model);
    Ok(model)
}

fn note_zeros(model: &mut Model) {
    for at in 0..model.types.len() {
        let mut ty = std::mem::take(&mut model.types[at]);
        ty.note_zeros(model);
        model.types[at] = ty;
    }
}

struct Line<'a> {
    file: &'a str,
    number: usize,
    text: &'a str,
}

impl Line<'_> {
    fn error(&self, message: impl Into<String>) -> ModelError {
        ModelError { file: self.file.into(), line: self.number, message: message.into() }
    }
}

fn lines<'a>(file: &'a str, text: &'a str) -> impl Iterator<Item = Line<'a>> {
    text.lines()
        .enumerate()
        .map(move |(index, text)| Line { file, number: index + 1, text })
        .filter(|line| !line.text.trim().is_empty() && !line.text.trim_start().starts_with("//"))
}

fn heads(file: &str, text: &str, model: &mut Model) -> Result<(), ModelError> {
    let mut package = Package::default();
    for line in lines(file, text).filter(|line| !line.text.starts_with(' ')) {
        let (word, rest) = line.text.split_once(' ').unwrap_or((line.text, ""));
        match word {
            "package" => package.name = rest,
            "openapi" => package.openapi = rest,
            "proto" => package.proto = rest,
            "group" => {
                let (group, version) = rest.split_once(' ').ok_or_else(|| line.error("group without a version"))?;
                package.group = Some((group.trim_matches('"'), version));
            }
            "type" | "message" => head(&line, &package, rest, word == "message", model)?,
            _ => return Err(line.error(format!("unknown word {word:?}"))),
        }
    }
    Ok(())
}

fn head(line: &Line, package: &Package, rest: &str, wire_only: bool, model: &mut Model) -> Result<(), ModelError> {
    if package.name.is_empty() {
        return Err(line.error("a type before its package"));
    }
    let mut words = rest.split(' ');
    let name = words.next().filter(|name| !name.is_empty()).ok_or_else(|| line.error("a type without a name"))?;
    let mut ty = Type {
        name: format!("{}.{name}", package.name).into(),
        openapi: format!("{}.{name}", package.openapi).into(),
        proto: format!("{}.{name}", package.proto).into(),
        wire_only,
        ..Type::default()
    };
    for word in words {
        if word == "kind" {
            // Kinds of meta.v1 (Status, DeleteOptions …) belong to every group; they are found by name.
            ty.kind = Some(package.group.map_or_else(
                || Gvk::new("", package.name.rsplit('.').next().unwrap_or_default(), name),
                |(group, version)| Gvk::new(group, version, name),
            ));
        } else if word == "atomic" {
            ty.atomic = true;
        } else if let Some(shape) = word.strip_prefix("scalar=") {
            ty.scalar = Some(scalar(shape).ok_or_else(|| line.error(format!("unknown shape {shape:?}")))?);
        } else if let Some(members) = argument(word, "union") {
            ty.unions.push(union(members));
        } else {
            return Err(line.error(format!("unknown attribute {word:?}")));
        }
    }
    let id = TypeId(model.types.len() as u32);
    if let Some(gvk) = &ty.kind {
        model.kinds.insert(gvk.clone(), id);
    }
    if model.names.insert(ty.name.clone(), id).is_some() {
        return Err(line.error(format!("{name} stands twice")));
    }
    model.types.push(ty);
    Ok(())
}

fn union(members: &str) -> Union {
    let mut union = Union { discriminator: None, fields: Vec::new() };
    for member in members.split(',') {
        match member.strip_suffix(':') {
            Some(discriminator) => union.discriminator = Some(discriminator.into()),
            None => union.fields.push(member.into()),
        }
    }
    union
}

fn bodies(file: &str, text: &str, model: &mut Model) -> Result<(), ModelError> {
    let mut package = "";
    let mut current = None;
    for line in lines(file, text) {
        if let Some(body) = line.text.strip_prefix("  ") {
            let id: TypeId = current.ok_or_else(|| line.error("a field outside of a type"))?;
            let ty = id.0 as usize;
            if let Some(rest) = body.strip_prefix("inline ") {
                let inline = inline(&line, package, rest, model)?;
                model.types[ty].inline.push(inline);
            } else {
                let field = field(&line, package, body, model)?;
                model.types[ty].fields.push(field);
            }
            continue;
        }
        let mut words = line.text.split(' ');
        match (words.next(), words.next()) {
            (Some("package"), Some(name)) => package = name,
            (Some("type" | "message"), Some(name)) => current = model.find(&format!("{package}.{name}")),
            _ => {}
        }
    }
    Ok(())
}

fn inline(line: &Line, package: &str, rest: &str, model: &Model) -> Result<Inline, ModelError> {
    let words: Vec<&str> = rest.split(' ').collect();
    let [name, shape, tag] = words[..] else { return Err(line.error("inline takes a name, a type and a tag")) };
    Ok(Inline { name: name.into(), shape: resolve(line, package, shape, model)?, tag: number(line, tag)? })
}

fn number(line: &Line, tag: &str) -> Result<u32, ModelError> {
    tag.strip_prefix('#').and_then(|tag| tag.parse().ok()).ok_or_else(|| line.error(format!("bad tag {tag:?}")))
}

fn field(line: &Line, package: &str, body: &str, model: &Model) -> Result<Field, ModelError> {
    let (body, implied) = last(line, body, " implied=")?;
    let (body, default) = last(line, body, " default=")?;
    let mut words = body.split(' ');
    let (Some(name), Some(shape)) = (words.next(), words.next()) else {
        return Err(line.error("a field takes a name and a type"));
    };
    let mut field = Field {
        required: name.ends_with('!'),
        default,
        implied,
        ..Field::new(name.trim_end_matches('!'), resolve(line, package, shape, model)?)
    };
    for word in words {
        attribute(line, word, &mut field)?;
    }
    Ok(field)
}

/// An attribute whose value is JSON text: it may hold spaces, so it stands last.
fn last<'a>(line: &Line, body: &'a str, name: &str) -> Result<(&'a str, Option<Value>), ModelError> {
    match body.split_once(name) {
        None => Ok((body, None)),
        Some((body, text)) => {
            let value = json::parse(text.as_bytes()).map_err(|error| line.error(error.to_string()))?;
            Ok((body, Some(value)))
        }
    }
}

fn attribute(line: &Line, word: &str, field: &mut Field) -> Result<(), ModelError> {
    let is_list = matches!(field.shape, Shape::List(_));
    match word {
        "set" => field.list = ListKind::Set,
        "atomic" if is_list => field.list = ListKind::Atomic,
        "atomic" => field.atomic_map = Some(true),
        "granular" => field.atomic_map = Some(false),
        "merge" => field.patch.merge = true,
        "replace" => field.patch.replace = true,
        "nullable" => field.nullable = true,
        "always" => field.empty = Some(true),
        "omitted" => field.empty = Some(false),
        "kept" => field.kept = true,
        "gated" => field.gated = true,
        "sole" => field.sole = true,
        "retainKeys" => field.patch.retain_keys = true,
        _ if word.starts_with('#') => field.tag = number(line, word)?,
        _ => {
            if let Some(keys) = argument(word, "map") {
                field.list = ListKind::Map(keys.split(',').map(Into::into).collect());
            } else if let Some(key) = argument(word, "merge") {
                field.patch.merge = true;
                field.patch.merge_key = Some(key.into());
            } else if let Some(key) = argument(word, "mergekey") {
                field.patch.merge_key = Some(key.into());
            } else if let Some(wire) = word.strip_prefix("wire=") {
                field.wire = Some(wire.into());
            } else {
                return Err(line.error(format!("unknown attribute {word:?}")));
            }
        }
    }
    Ok(())
}

fn argument<'a>(word: &'a str, name: &str) -> Option<&'a str> {
    word.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')
}

fn resolve(line: &Line, package: &str, shape: &str, model: &Model) -> Result<Shape, ModelError> {
    if let Some(item) = shape.strip_prefix("[]") {
        return Ok(Shape::List(Box::new(resolve(line, package, item, model)?)));
    }
    if let Some(item) = shape.strip_prefix("{}") {
        return Ok(Shape::Map(Box::new(resolve(line, package, item, model)?)));
    }
    if let Some(scalar) = scalar(shape) {
        return Ok(scalar);
    }
    let id = if shape.contains('.') { model.find(shape) } else { model.find(&format!("{package}.{shape}")) };
    id.map(Shape::Type).ok_or_else(|| line.error(format!("unknown type {shape:?}")))
}

fn scalar(shape: &str) -> Option<Shape> {
    Some(match shape {
        "bool" => Shape::Bool,
        "int32" => Shape::Int32,
        "int64" => Shape::Int64,
        "double" => Shape::Double,
        "string" => Shape::String,
        "bytes" => Shape::Bytes,
        "Time" => Shape::Time,
        "MicroTime" => Shape::MicroTime,
        "Quantity" => Shape::Quantity,
        "IntOrString" => Shape::IntOrString,
        "any" | "JSON" => Shape::Any,
        "object" => Shape::Object,
        "FieldsV1" => Shape::FieldsV1,
        "RawExtension" => Shape::RawExtension,
        _ => return None,
    })
}
