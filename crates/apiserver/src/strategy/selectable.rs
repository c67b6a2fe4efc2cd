//! Fields that field selectors may name, and the text that each has in an object.

use std::sync::Arc;

use api::{
    Resource, Value,
    model::{Shape, TypeId},
};

/// A field that field selectors may name, beyond metadata.name and metadata.namespace.
#[derive(Clone, Debug)]
pub struct Selectable {
    /// What a selector calls it.
    pub name: Arc<str>,
    /// Where its value stands, members parted by dots: the first of these that is set counts.
    sources: Vec<Arc<str>>,
    /// The value of an object that has none: upstream prints the zero of the Go type.
    absent: &'static str,
}

impl Selectable {
    /// `sources` empty: it stands where its name says.
    pub fn new(resource: &Resource, name: &str, sources: &[&str]) -> Selectable {
        let sources: Vec<Arc<str>> =
            if sources.is_empty() { vec![name.into()] } else { sources.iter().map(|path| (*path).into()).collect() };
        // A custom resource's missing field is the empty text, whatever its type.
        let absent = match resource.custom {
            Some(_) => "",
            None => sources.first().and_then(|path| shape_at(resource, path)).map_or("", zero),
        };
        Selectable { name: name.into(), sources, absent }
    }

    /// Its value in an object, as text.
    pub fn of(&self, object: &Value) -> String {
        self.sources.iter().find_map(|path| value_at(object, path)).unwrap_or_else(|| self.absent.to_owned())
    }
}

fn value_at(object: &Value, path: &str) -> Option<String> {
    match path.split('.').try_fold(object, |here, name| here.get(name))? {
        Value::Null => None,
        Value::String(text) => Some(text.to_string()),
        other => Some(other.to_string()),
    }
}

fn zero(shape: &Shape) -> &'static str {
    match shape {
        Shape::Bool => "false",
        Shape::Int32 | Shape::Int64 => "0",
        _ => "",
    }
}

fn shape_at<'a>(resource: &'a Resource, path: &str) -> Option<&'a Shape> {
    let field = |ty: TypeId, name: &str| resource.model().get(ty).field(name).map(|field| &field.shape);
    let mut names = path.split('.');
    names.next().and_then(|name| field(resource.ty, name)).and_then(|first| {
        names.try_fold(first, |shape, name| match shape {
            Shape::Type(ty) => field(*ty, name),
            _ => None,
        })
    })
}
