//! Descriptions of types and fields: the published ones, in a compressed table that the build script writes.

use std::{collections::HashMap, sync::OnceLock};

use flate2::read::ZlibDecoder;

static TABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions"));

/// The type that lends its descriptions of what every kind has to kinds that have none.
const EXAMPLE: &str = "io.k8s.api.core.v1.ConfigMap";

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
    texts.get(ty).and_then(|texts| texts.get(field)).map_or("", |text| text)
}

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
