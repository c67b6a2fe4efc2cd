//! Any bytes as JSON: what is read and written comes to rest. (Not at once: 25.0 is written as Go writes it, 25, and -0E1 is
//! written -0, which is the integer 0.)
#![no_main]

use api::json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = json::parse(bytes) else { return };
    let again = json::parse(&value.to_json()).expect("what was written is JSON");
    let settled = json::parse(&again.to_json()).expect("what was written is JSON");
    assert_eq!(again, settled);
});
