//! Any text as a quantity; the canonical form of one is its own canonical form.
#![no_main]

use api::quantity::Quantity;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(quantity) = Quantity::parse(text) else { return };
    let canonical = quantity.to_string();
    let again = Quantity::parse(&canonical).expect("the canonical form is a quantity");
    assert_eq!(again.to_string(), canonical);
});
