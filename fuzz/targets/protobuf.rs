//! Any bytes as the protobuf message of any kind: what is read is JSON, and can be written and read again.
#![no_main]

use std::sync::LazyLock;

use api::{Model, json, model::Gvk, protobuf};
use libfuzzer_sys::fuzz_target;

static KINDS: LazyLock<Vec<Gvk>> =
    LazyLock::new(|| Model::builtin().types().filter_map(|(_, ty)| ty.kind.clone()).collect());

/// The first two bytes choose a kind, the others are its message. A choice beyond the kinds is an envelope of its own making.
fn envelope(bytes: &[u8]) -> Option<Vec<u8>> {
    let (choice, message) = bytes.split_first_chunk::<2>()?;
    let Some(kind) = KINDS.get(usize::from(u16::from_le_bytes(*choice)) % (KINDS.len() + 1)) else {
        return Some([protobuf::MAGIC, message].concat());
    };
    let mut meta = Vec::new();
    field(&mut meta, 1, kind.api_version().as_bytes());
    field(&mut meta, 2, kind.kind.as_bytes());
    let mut envelope = protobuf::MAGIC.to_vec();
    field(&mut envelope, 1, &meta);
    field(&mut envelope, 2, message);
    Some(envelope)
}

/// A field of bytes: its tag, their number as a varint, and they themselves.
fn field(to: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    to.push(tag << 3 | 2);
    let mut rest = bytes.len();
    while rest >= 0x80 {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
    to.extend_from_slice(bytes);
}

fuzz_target!(|bytes: &[u8]| {
    let Some(bytes) = envelope(bytes) else { return };
    let Ok(value) = protobuf::decode(Model::builtin(), None, &bytes) else { return };
    json::parse(&value.to_json()).expect("what was read is JSON");
    if let Ok(message) = protobuf::encode(Model::builtin(), &value) {
        protobuf::decode(Model::builtin(), None, &message).expect("what was written is a message");
    }
});
