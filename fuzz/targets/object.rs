//! Any JSON as an object of any kind: decoded, completed, and unchanged by a second decoding.
#![no_main]

use api::{
    Model,
    decode::{self, Defaults},
    json,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, text)) = bytes.split_first_chunk::<2>() else { return };
    let model = Model::builtin();
    let kinds: Vec<_> = model.types().filter(|(_, ty)| ty.kind.is_some()).map(|(id, _)| id).collect();
    let kind = kinds[usize::from(u16::from_le_bytes(*choice)) % kinds.len()];
    let Ok(mut object) = json::parse(text) else { return };
    if decode::decode(model, kind, &mut object, Defaults::On).is_err() {
        return;
    }
    let first = object.clone();
    let findings = decode::decode(model, kind, &mut object, Defaults::On).expect("what was decoded decodes");
    assert!(findings.unknown.is_empty());
    assert_eq!(first, object);
});
