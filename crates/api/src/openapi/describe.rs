//! Descriptions of types and fields, from `model/descriptions`. What it does not describe has none.

use std::collections::HashMap;
use std::sync::OnceLock;

static SOURCE: &str = include_str!("../../model/descriptions");

/// What `field` of the type with this short name (`core.v1.Pod`) is; with an empty field, what the type is. Fields that mean
/// the same in every type are described once. Empty where nothing is known.
pub fn describe(ty: &str, field: &str) -> &'static str {
    static TEXTS: OnceLock<HashMap<(&str, &str), &str>> = OnceLock::new();
    let texts = TEXTS.get_or_init(|| parse(SOURCE));
    let specific = texts.get(&(ty, field));
    specific.or_else(|| texts.get(&("*", field)).filter(|_| !field.is_empty())).copied().unwrap_or_default()
}

/// A line without indentation names a type (`*` for every type) and describes it; indented ones do so for its fields.
fn parse(source: &str) -> HashMap<(&str, &str), &str> {
    let mut texts = HashMap::new();
    let mut ty = "";
    for line in source.lines().filter(|line| !line.trim().is_empty()) {
        let (name, text) = line.trim_start().split_once(' ').unwrap_or((line.trim(), ""));
        if line.starts_with(' ') {
            texts.insert((ty, name), text);
        } else {
            ty = name;
            texts.insert((ty, ""), text);
        }
    }
    texts.retain(|_, text| !text.is_empty());
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;

    #[test]
    fn only_what_exists_is_described() {
        let model = Model::builtin();
        for (ty, field) in parse(SOURCE).into_keys().filter(|(ty, _)| *ty != "*") {
            let id = model.find(ty).unwrap_or_else(|| panic!("no type {ty}"));
            assert!(field.is_empty() || model.get(id).field(field).is_some(), "{ty} has no field {field}");
        }
        assert_ne!(describe("core.v1.Pod", "metadata"), "");
        assert_ne!(describe("core.v1.Pod", ""), "");
        assert_eq!(describe("core.v1.NoSuchType", ""), "");
    }
}
