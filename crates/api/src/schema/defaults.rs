//! Whether a schema's defaults are values that it allows (apiextensions-apiserver `pkg/apiserver/schema/defaulting`).

use super::{Additional, Schema, shape::is_meta};
use crate::{
    decode::{self, Defaults},
    model::Gvk,
    status::FieldError,
    value::Value,
};

impl Schema {
    /// What is wrong with the defaults of this schema, which stands at `path` of a definition.
    pub fn default_problems(&self, path: &str) -> Vec<FieldError> {
        let mut errors = Vec::new();
        below(self, path, true, &mut errors);
        errors
    }

    /// `value` has nothing that the schema does not know. `value` may be anything, not just a whole object.
    fn has_all_of(&self, value: &Value) -> bool {
        // As the only property of a resource, so that the schema need not be an object's.
        let holder = Value::Object([("value", value.clone())].into_iter().collect());
        let (model, ty) = self.held().model(&Gvk::default());
        let mut pruned = holder.clone();
        decode::decode(&model, ty, &mut pruned, Defaults::Off).is_ok_and(|findings| findings.unknown.is_empty())
    }

    /// A schema of objects whose member `value` has this schema's shape.
    fn held(&self) -> Schema {
        Schema { kind: "object".into(), properties: vec![("value".into(), self.shape_only())], ..Schema::default() }
    }

    /// The same shape without defaults and checks.
    fn shape_only(&self) -> Schema {
        Schema {
            kind: self.kind.clone(),
            nullable: true,
            is_open: self.is_open,
            is_embedded: self.is_embedded,
            is_int_or_string: self.is_int_or_string,
            properties: self.properties.iter().map(|(name, schema)| (name.clone(), schema.shape_only())).collect(),
            additional: match &self.additional {
                Additional::Schema(schema) => Additional::Schema(Box::new(schema.shape_only())),
                Additional::Any(allowed) => Additional::Any(*allowed),
                Additional::Unset => Additional::Unset,
            },
            items: self.items.as_ref().map(|items| Box::new(items.shape_only())),
            ..Schema::default()
        }
    }
}

fn below(schema: &Schema, path: &str, is_root: bool, errors: &mut Vec<FieldError>) {
    if let Some(default) = &schema.default {
        let place = format!("{path}.default");
        if !schema.has_all_of(default) {
            errors.push(FieldError::invalid(place.clone(), default, "must not have unknown fields"));
        }
        match schema.embedded_problems(&place, default) {
            problems if problems.is_empty() => errors.extend(schema.validate(&place, default, None)),
            problems => errors.extend(problems),
        }
    }
    if let Some(items) = &schema.items {
        below(items, &format!("{path}.items"), false, errors);
    }
    // Defaults within the metadata of the whole are forbidden as such.
    for (name, property) in schema.properties.iter().filter(|(name, _)| !(is_root && is_meta(name))) {
        below(property, &format!("{path}.properties[{name}]"), false, errors);
    }
    if let Some(values) = schema.value() {
        below(values, &format!("{path}.additionalProperties"), false, errors);
    }
}
