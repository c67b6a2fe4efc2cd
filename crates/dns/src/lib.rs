//! Cluster DNS: what CoreDNS does in a cluster with its plugins kubernetes, forward, cache, loadbalance, loop, health and
//! ready, after the specification of DNS-based service discovery 1.1.0.
//!
//! Informers feed an [`Index`] of records, an immutable value that is replaced when something changes; [`answer`] reads it.
//! Names outside the cluster go to the upstream resolvers through a cache.

mod answer;
mod cache;
mod config;
mod forward;
mod index;
mod manifests;
mod records;
mod run;
mod serve;
mod status;
mod wire;

pub use answer::{Answer, answer};
pub use config::{DnsConfig, resolvers};
pub use index::{Index, Owner};
pub use manifests::{ManifestSettings, manifests};
pub use records::{Data, Records, of_namespace, of_service};
pub use run::{Dns, DnsError};
pub use wire::{Refused, parse_query};
