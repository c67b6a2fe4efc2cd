//! Descriptions of types and fields: the published ones, in a compressed table that the build script writes.

use std::{collections::HashMap, sync::OnceLock};

use flate2::read::ZlibDecoder;

use crate::model::Type;

pub(super) static TABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions"));

/// The type that lends its descriptions of what every kind has to kinds that have none.
const EXAMPLE: &str = "io.k8s.api.core.v1.ConfigMap";

/// What the published texts are not at hand for.
const OWN: [(&str, &str, &str); 1] = [(
    "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
    "object",
    "The object as it is now; of an error, its Status.",
)];

/// By type, then by field; under the empty field, what the type itself is.
type Texts = HashMap<Box<str>, HashMap<Box<str>, Box<str>>>;

/// What `field` of the type with this name in OpenAPI (`io.k8s.api.core.v1.Pod`) is; with an empty field, what the type is.
/// Empty where nothing is known.
pub fn describe(ty: &str, field: &str) -> &'static str {
    static TEXTS: OnceLock<Texts> = OnceLock::new();
    let texts = TEXTS.get_or_init(|| match serde_json::from_reader(ZlibDecoder::new(TABLE)) {
        Ok(texts) => texts,
        // The table is part of the binary, and a test reads it.
        Err(error) => unreachable!("{error}"),
    });
    let ty = match field {
        "apiVersion" | "kind" | "metadata" if !texts.contains_key(ty) => EXAMPLE,
        _ => ty,
    };
    match texts.get(ty).and_then(|texts| texts.get(field)) {
        Some(text) => text,
        None => OWN.iter().find(|(own, name, _)| *own == ty && *name == field).map_or("", |(.., text)| text),
    }
}

/// What `field` of a list is, or with an empty field what the list is; lists are one generic type where the texts come from.
pub(super) fn describe_list(list: &Type, field: &str) -> String {
    let kind = list.kind.as_ref().map_or("", |kind| &*kind.kind);
    let item = kind.strip_suffix("List").unwrap_or(kind);
    match field {
        "" => format!("{kind} is a list of {item}."),
        "items" => format!("Items is a list of {item}."),
        "metadata" => format!("Standard list metadata. More info: {CONVENTIONS}#types-kinds"),
        _ => describe(&list.openapi, field).to_owned(),
    }
}

/// Where the published texts point to.
const CONVENTIONS: &str = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;

    #[test]
    fn what_is_published_is_described() {
        assert!(describe("io.k8s.api.core.v1.Pod", "").starts_with("Pod is a collection of containers"));
        assert!(describe("io.k8s.api.core.v1.Pod", "apiVersion").starts_with("APIVersion defines"));
        assert!(describe("com.example.v1.Widget", "kind").starts_with("Kind is a string value"));
        assert_eq!(describe("com.example.v1.Widget", "spec"), "");
    }

    /// Lists are one generic type in the crate that the texts come from, and some messages belong to no kind.
    #[test]
    fn nearly_every_type_is_described() {
        let without: Vec<_> = Model::builtin()
            .types()
            .map(|(_, ty)| ty)
            .filter(|ty| !ty.wire_only && !ty.name.ends_with("List") && describe(&ty.openapi, "").is_empty())
            .map(|ty| &*ty.name)
            .collect();
        assert_eq!(without, ["admissionregistration.v1alpha1.MatchCondition", "meta.v1.Patch", "meta.v1.WatchEvent"]);
    }
}
