//! What a request can fail with; `Status` errors keep the server's reason, so that callers match on it, never on text.

use api::status::{Reason, Status};

use crate::{TransportError, kubeconfig::KubeconfigError};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with a `Status` that is not success.
    #[error("{0}")]
    Status(Box<Status>),
    /// No answer: connection refused or lost, TLS, time-out.
    #[error("{0}")]
    Transport(#[from] TransportError),
    /// No way to the server could be made of the configuration.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// An answer that is not what was asked for.
    #[error("cannot decode {what}: {message}")]
    Decode { what: String, message: String },
}

impl Error {
    /// The reason the server gave, where it answered.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Error::Status(status) => Some(status.reason),
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.reason() == Some(Reason::NotFound)
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason() == Some(Reason::AlreadyExists)
    }

    pub fn is_conflict(&self) -> bool {
        self.reason() == Some(Reason::Conflict)
    }

    /// The list or watch must start over: its resourceVersion is no longer served.
    pub fn is_expired(&self) -> bool {
        matches!(self.reason(), Some(Reason::Expired | Reason::Gone))
    }

    /// The server could not be reached, or says that it cannot answer now: asking again later may help.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Error::Transport(_) => true,
            Error::Status(status) => matches!(status.code, 429 | 500..),
            Error::Kubeconfig(_) | Error::Decode { .. } => false,
        }
    }

    /// The write was refused because its namespace is being deleted.
    pub fn is_namespace_terminating(&self) -> bool {
        matches!(self, Error::Status(status) if status.has_cause("NamespaceTerminating"))
    }
}
