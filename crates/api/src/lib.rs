//! The API as data: the schema of every type, the resource table, and everything that is derived from those two.
//! Knows no server, no store, no I/O.

pub mod apply;
pub mod convert;
pub mod custom;
pub mod decode;
pub mod discovery;
pub mod enablement;
mod go;
pub mod json;
pub mod model;
pub mod names;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod status;
pub mod table;
pub mod time;
pub mod value;
pub mod yaml;

pub use custom::CustomResource;
pub use go::{go_text, parse_bool};
pub use model::Model;
pub use resource::{Resource, ResourceTable};
pub use status::Status;
pub use value::{Map, Value};
