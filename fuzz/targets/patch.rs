//! Two documents, one as a patch of the other: applied or refused, never more.
#![no_main]

use api::{
    Model, json,
    model::Gvk,
    patch::{JsonPatch, merge, strategic},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(at) = bytes.iter().position(|byte| *byte == 0) else { return };
    let (Ok(document), Ok(patch)) = (json::parse(&bytes[..at]), json::parse(&bytes[at + 1..])) else { return };
    if let Ok(operations) = JsonPatch::decode(patch.clone()) {
        let _ = operations.apply(document.clone());
    }
    let _ = merge::apply(document.clone(), patch.clone());
    let model = Model::builtin();
    let pod = model.kind(&Gvk::new("", "v1", "Pod")).expect("pods are known");
    let _ = strategic::apply(model, pod, document, patch);
});
