//! Any text as a label or field selector; one that is read prints as one that reads the same.
#![no_main]

use api::selector::{FieldSelector, LabelSelector};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(selector) = LabelSelector::parse(text) {
        let again = LabelSelector::parse(&selector.to_string()).expect("what was printed is read");
        assert_eq!(selector.to_string(), again.to_string());
    }
    let _ = FieldSelector::parse(text);
});
