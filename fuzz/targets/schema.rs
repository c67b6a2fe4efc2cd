//! A schema as a custom resource's definition has it, and an object: checked, and where the schema is good, the object is
//! decoded and validated by it, and applied. Applied again, it changes nothing.
#![no_main]

use api::{
    Value,
    apply::FieldManager,
    decode::{self, Defaults},
    json,
    model::Gvk,
    schema::Schema,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(at) = bytes.iter().position(|byte| *byte == 0) else { return };
    let (Ok(schema), Ok(mut object)) = (json::parse(&bytes[..at]), json::parse(&bytes[at + 1..])) else { return };
    let schema = Schema::read(&schema);
    if !schema.violations("schema").is_empty() {
        return;
    }
    let _ = schema.default_problems("schema");
    let kind = Gvk::new("example.com", "v1", "Thing");
    let (model, ty) = schema.model(&kind);
    if decode::decode(&model, ty, &mut object, Defaults::On).is_err() {
        return;
    }
    let _ = schema.validate("", &object, None);
    let _ = schema.duplicates(&object);
    let _ = schema.embedded_problems("", &object);
    object.set(&["apiVersion"], kind.api_version());
    object.set(&["kind"], kind.kind.clone());
    object.take(&["metadata", "managedFields"]);
    let skip = FieldManager::unowned(&[]);
    let (model, kind, resource, subresource) = (&model, &kind, None, "");
    let (skip, knows, now) = (&skip, &|_: &str| true, "2026-01-01T00:00:00Z");
    let manager = FieldManager { model, ty, kind, resource, subresource, skip, knows, now };
    let Ok(first) = manager.apply(&Value::object(), &object, "applier", false) else { return };
    let second = manager.apply(&first, &object, "applier", false).expect("what was applied applies");
    assert_eq!(first, second);
});
