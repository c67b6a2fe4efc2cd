//! Any bytes as a protobuf message: what is read is JSON, and can be written and read again.
#![no_main]

use api::{Model, json, protobuf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = protobuf::decode(Model::builtin(), None, bytes) else { return };
    json::parse(&value.to_json()).expect("what was read is JSON");
    if let Ok(message) = protobuf::encode(Model::builtin(), &value) {
        protobuf::decode(Model::builtin(), None, &message).expect("what was written is a message");
    }
});
