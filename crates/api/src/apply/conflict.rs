//! Why an apply is refused, in upstream's words and codes (`managedfields/internal/conflict.go`).

use super::{
    managed::{ManagedError, Operation},
    path::Path,
    validate::TypedError,
};
use crate::{
    Status,
    status::{Cause, Details, Reason},
};

/// A field that the applied configuration changes and that someone else owns.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    pub manager: Box<str>,
    pub operation: Operation,
    pub api_version: Box<str>,
    pub subresource: Box<str>,
    pub path: Path,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration is of another kind or version; the text is how Go prints what it is.
    #[error("invalid object type: {0}")]
    Kind(String),
    #[error("metadata.managedFields must be nil")]
    ManagedFields,
    #[error("failed to decode managed fields: {0}")]
    Live(#[from] ManagedError),
    /// `object` says which: `namespace/name; version, Kind=kind`.
    #[error("failed to create typed patch object ({object}): {error}")]
    Config { object: String, error: TypedError },
    #[error("failed to merge config: {0}")]
    Merge(TypedError),
    #[error("{}", message(.0))]
    Conflicts(Vec<Conflict>),
}

impl Conflict {
    /// `"kubectl" using apps/v1`
    fn holder(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// The conflicts come by holder.
fn message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.holder(), one.path);
    }
    let mut lines: Vec<String> = Vec::new();
    let mut last = String::new();
    for conflict in conflicts {
        let holder = conflict.holder();
        if holder != last {
            lines.push(format!("conflicts with {holder}:"));
            last = holder;
        }
        lines.push(format!("- {}", conflict.path));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

impl ApplyError {
    pub fn status(&self) -> Status {
        match self {
            ApplyError::Kind(_) | ApplyError::ManagedFields => Status::bad_request(self.to_string()),
            ApplyError::Conflicts(conflicts) => {
                let cause = |conflict: &Conflict| Cause {
                    reason: "FieldManagerConflict".into(),
                    message: format!("conflict with {}", conflict.holder()),
                    field: conflict.path.to_string(),
                };
                let causes = conflicts.iter().map(cause).collect();
                Status::failure(Reason::Conflict, self.to_string())
                    .with_details(Details { causes, ..Details::default() })
            }
            // Plain errors in upstream: no reason, 500.
            ApplyError::Live(_) | ApplyError::Config { .. } | ApplyError::Merge(_) => {
                Status::failure(Reason::Unknown, self.to_string())
            }
        }
    }
}
