//! A stored object with entries of managers, and what somebody applies or writes: merged or refused. Applied again, it
//! changes nothing.
#![no_main]

use api::{
    Model, Value,
    apply::FieldManager,
    decode::{self, Defaults},
    json,
    model::Gvk,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(at) = bytes.iter().position(|byte| *byte == 0) else { return };
    let (Ok(mut live), Ok(mut config)) = (json::parse(&bytes[..at]), json::parse(&bytes[at + 1..])) else { return };
    let (model, kind) = (Model::builtin(), Gvk::new("", "v1", "Pod"));
    let ty = model.kind(&kind).expect("pods are known");
    for object in [&mut live, &mut config] {
        let Value::Object(map) = &mut *object else { return };
        map.insert("apiVersion", "v1".to_owned());
        map.insert("kind", "Pod".to_owned());
        if decode::decode(model, ty, object, Defaults::Off).is_err() {
            return;
        }
    }
    let skip = FieldManager::unowned(&[]);
    let (resource, subresource, knows, now) = (None, "", &|_: &str| true, "2026-01-01T00:00:00Z");
    let manager = FieldManager { model, ty, kind: &kind, resource, subresource, skip: &skip, knows, now };
    let mut updated = config.clone();
    manager.update(&live, &mut updated, "writer");
    let Ok(first) = manager.apply(&live, &config, "applier", true) else { return };
    // Where nobody owns anything, the next one to apply counts what was there before.
    if first.at(&["metadata", "managedFields"]).is_none() {
        return;
    }
    let second = manager.apply(&first, &config, "applier", false).expect("what was applied applies");
    assert_eq!(first, second);
});
