//! The crate's integration tests, one module per subject.

mod apply;
mod convert;
mod empties;
mod names;
mod openapi;
mod patch;
mod protobuf;
mod quantity;
mod schema;
mod selector;
mod strategic;
mod table;
