//! The three patches of a tree: JSON patch, JSON merge patch and strategic merge patch, and what their failures are to a client.

pub mod json;
pub mod merge;
pub mod strategic;

pub use json::{JsonPatch, OperationError};
pub use strategic::StrategicError;

use crate::Status;
use crate::status::{Details, Reason};

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PatchError {
    /// The document is no patch. The text is Go's, as upstream passes it on.
    #[error("error decoding patch: json: cannot unmarshal {found} into Go value of type {wanted}")]
    Decode { found: &'static str, wanted: &'static str },
    #[error("The allowed maximum operations in a JSON patch is {}, got {count}", json::OPERATIONS_MAX)]
    TooManyOperations { count: usize },
    #[error(transparent)]
    Operation(#[from] OperationError),
    #[error(transparent)]
    Strategic(#[from] StrategicError),
}

impl PatchError {
    /// The answer to the client (`applyJSPatch`, `interpretStrategicMergePatchError` in upstream's handlers). Patches that do
    /// not fit a strategic merge's rules are bad requests here, all of them; upstream answers 500 to some.
    pub fn status(&self) -> Status {
        match self {
            PatchError::TooManyOperations { .. } => Status::too_large(format!("Request entity too large: {self}")),
            PatchError::Operation(_) | PatchError::Strategic(StrategicError::ListOfLists) => unprocessable(),
            PatchError::Decode { .. } | PatchError::Strategic(_) => Status::bad_request(self.to_string()),
        }
    }
}

/// Upstream does not tell the client which operation failed.
fn unprocessable() -> Status {
    Status::failure(Reason::Invalid, "the server rejected our request due to an error in our request")
        .with_details(Details::default())
}
