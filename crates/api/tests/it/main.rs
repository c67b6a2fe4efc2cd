//! The crate's integration tests, one module per subject.

mod names;
mod quantity;
mod selector;
