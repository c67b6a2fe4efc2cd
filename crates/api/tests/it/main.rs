//! The crate's integration tests, one module per subject.

mod quantity;
