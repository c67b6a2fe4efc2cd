//! How every component but the API server reaches the API, in client-go's terms: typed requests, informers with indexes,
//! work queues, leader election and events.
//!
//! A [`Client`] sits on a [`Transport`]: TLS to a server named by a kubeconfig, or the API server's own request path in
//! the same process. Either way a request carries one component's identity and passes authentication, authorization and
//! admission: there is no side door.

mod client;
mod error;
mod kind;
mod transport;
mod watch;

pub use client::{Api, Client, DeleteParams, ListParams, Page, PatchKind, Propagation, WatchEvent, WatchEvents};
pub use error::{Error, Result};
pub use k8s_openapi::{self, api as kinds, apimachinery};
pub use kind::{Kind, ObjectKey};
pub use transport::{Transport, TransportError};

pub(crate) use watch::decode_list;
