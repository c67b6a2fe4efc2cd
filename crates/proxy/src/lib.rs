//! kube-proxy on nftables: Services as rules of the kernel (upstream `pkg/proxy/nftables`).
//!
//! Observe: informers of Services, EndpointSlices and the own Node. Plan: [`plan`] makes a [`Ruleset`] of them, without
//! I/O; [`Planner`] is the same service by service. Act: the [`diff`] to what the kernel has goes to `nft` as one
//! transaction; whatever goes wrong, the table is written anew.

mod address;
mod config;
mod conntrack;
mod endpoints;
mod health;
mod nft;
mod plan;
mod rules;
mod ruleset;
mod run;
mod service;
mod transaction;

pub use address::{Cidr, CidrError, Family, Protocol};
pub use config::{ProxyConfig, RulesConfig, Table};
pub use conntrack::{Conntrack, ConntrackCli, ConntrackError, Flow, UdpFrontend, stale_flows};
pub use endpoints::{Categories, Endpoint, categorize, endpoints_of};
pub use health::{Health, HealthError};
pub use nft::{Nft, NftCli, NftError, cleanup};
pub use plan::{Fragment, HealthCheck, NodeView, Planner, ProxyState, plan};
pub use ruleset::{Chain, Container, Key, Name, Ruleset, SetSpec, Verdict};
pub use run::{Proxy, ProxyError};
pub use service::{Affinity, ServicePort, ports_of};
pub use transaction::{Change, Stale, Transaction, diff};
