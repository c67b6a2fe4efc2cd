//! `application/vnd.kubernetes.protobuf`, which Go clients speak, from and to trees: both ways follow the model alone.
//!
//! A message carries every field that is not a pointer in Go, zero or not, in the order of tags. Zero values are therefore
//! dropped when they are read, unless the model says that the field tells zero from none (`nullable`), and written again.

mod buffer;
mod read;
mod write;

pub(crate) use buffer::Backward;
pub use read::decode;
pub use write::{LIST_TAIL, encode, envelope, item_head, list_head, message, watch_frame};

use crate::model::{Gvk, Model, TypeId};

/// What every message begins with, before the envelope (`runtime.Unknown`).
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// Messages within messages, at most.
const DEPTH_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    #[error("unexpected EOF")]
    End,
    #[error("proto: illegal wireType {0}")]
    WireType(u8),
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: field {field}: {message}")]
    Field { field: String, message: String },
    #[error("no kind {kind:?} is registered for version {version:?}")]
    UnknownKind { kind: String, version: String },
    #[error("exceeded max depth of {DEPTH_MAX}")]
    TooDeep,
}

type Result<T, E = ProtobufError> = std::result::Result<T, E>;

/// The message type of a kind; `api_version` as `apps/v1`. Options, Status and the metadata of anything belong to every
/// group, and are described once.
fn type_of(model: &Model, api_version: &str, kind: &str) -> Option<TypeId> {
    model.kind(&Gvk::of(api_version, kind)).or_else(|| model.find(&format!("meta.v1.{kind}")))
}
