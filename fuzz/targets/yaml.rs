//! Any bytes as a body in YAML: what is read can be written as JSON, and comes to rest as in the target `json`.
#![no_main]

use api::{json, yaml};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(parsed) = yaml::parse(bytes) else { return };
    let again = json::parse(&parsed.value.to_json()).expect("what was written is JSON");
    let settled = json::parse(&again.to_json()).expect("what was written is JSON");
    assert_eq!(again, settled);
});
