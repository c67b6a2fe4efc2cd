//! Any text as the path of a custom resource's column, and an object: refused, or a cell of each type.
#![no_main]

use api::{Value, json, table};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(at) = bytes.iter().position(|byte| *byte == 0) else { return };
    let (Ok(path), Ok(object)) = (std::str::from_utf8(&bytes[..at]), json::parse(&bytes[at + 1..])) else { return };
    let definition = |kind: &str| {
        let mut definition = Value::object();
        definition.set(&["jsonPath"], path);
        definition.set(&["type"], kind);
        definition
    };
    let definitions = ["string", "integer", "number", "boolean", "date"].map(definition);
    let Ok(columns) = table::custom_columns(&definitions) else { return };
    let _ = table::row(&columns, &object, Timestamp::UNIX_EPOCH);
});
