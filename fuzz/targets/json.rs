//! Any bytes as JSON: what is read is written and read again as the same value.
#![no_main]

use api::json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = json::parse(bytes) else { return };
    let again = json::parse(&value.to_json()).expect("what was written is JSON");
    assert_eq!(value, again);
});
