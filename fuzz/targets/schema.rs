//! A schema as a custom resource's definition has it, and an object: checked, and where the schema is good, the object is
//! decoded and validated by it.
#![no_main]

use api::{
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
    let (model, ty) = schema.model(&Gvk::new("example.com", "v1", "Thing"));
    if decode::decode(&model, ty, &mut object, Defaults::On).is_err() {
        return;
    }
    let _ = schema.validate("", &object, None);
    let _ = schema.duplicates(&object);
    let _ = schema.embedded_problems("", &object);
});
