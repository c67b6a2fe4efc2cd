//! How every component but the API server reaches the API, in client-go's terms: typed requests, informers with indexes,
//! work queues, leader election and events.
//!
//! A [`Client`] sits on a [`Transport`]: TLS to a server named by a kubeconfig, or the API server's own request path in
//! the same process. Either way a request carries one component's identity and passes authentication, authorization and
//! admission: there is no side door.

mod backoff;
mod client;
mod clock;
mod error;
mod events;
mod informer;
mod kind;
mod leader;
mod watch;
mod workqueue;

pub mod kubeconfig;
pub mod labels;
pub mod taints;
pub mod transport;

pub use client::{Api, Client, DeleteParams, ListParams, Page, PatchKind, Propagation, WatchEvent, WatchEvents};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Error, Result};
pub use events::{EventRecorder, EventType, reference};
pub use informer::{Delta, Informer, InformerFactory};
pub use k8s_openapi::{self, api as kinds, apimachinery};
pub use kind::{Kind, ObjectKey};
pub use kubeconfig::{Kubeconfig, KubeconfigError};
pub use leader::{LeaderElection, LeaderEnd};
pub use transport::{Transport, TransportError};
pub use workqueue::WorkQueue;

pub(crate) use watch::decode_list;
