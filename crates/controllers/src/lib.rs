//! kube-controller-manager: controllers that bring the cluster to what the API says it should be.
//!
//! Every controller is cut the same way. It *observes* through informers shared by all (one per kind, see
//! [`manager::Setup`]), *plans* with a pure function from what it observed to a [`plan::Plan`], and the one executor *acts*.
//! The [`runtime`] gives a controller a key, never a hint of what changed; a failed write ends the pass and the key comes
//! back, rate-limited. A key is not planned again before the informers show what its last pass wrote ([`expectations`]).
//! A panic ends one pass of one controller.
//!
//! # How to add a controller
//!
//! 1. A folder (or file) of its own. `plan.rs`: a struct `Inputs` of `Arc`s to what it looks at, and
//!    `pub fn plan(inputs: &Inputs, now: Timestamp) -> Plan`. No client, no clock, no random number. `Plan` has a method for
//!    each kind of write; several writes to one object in one plan are patches, or one update computed at the end.
//! 2. `mod.rs`: a struct of [`client::Informer`]s with `impl Controller`: collect `Inputs` for the key, call `plan`. Look
//!    objects up by index, not by listing. Only where informers cannot answer (discovery, any kind at all) implement
//!    [`runtime::LiveController`] instead.
//! 3. `pub fn register(setup: &mut Setup)`: take the informers from `setup`, add indexes, queue keys on events
//!    ([`shared::owners`] has the usual ways), end with `setup.run(controller, queue, workers)`. Ask for an informer only
//!    if it is needed: each holds every object of its kind. `setup.informer_with` narrows one down.
//! 4. One line in [`registry`] with upstream's name for it.
//! 5. Tests: the plan as a snapshot (`tests/it/plans.rs`), what must always hold as a property (`tests/it/rollouts.rs`), and
//!    the way through the API against the one in memory (`tests/it/manager.rs`).
//!
//! A pass that must wait for time to go by says so with `Plan::requeue_after`; nothing polls.
//!
//! # Not here
//!
//! HorizontalPodAutoscaler, dynamic provisioning and attach/detach of volumes, the ttl annotation of nodes, storage version
//! migration, resource claims, cleaning of legacy tokens. Node lifecycle knows no zones.

pub mod aggregation;
pub mod bootstrap;
pub mod certificates;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod discovery;
pub mod disruption;
pub mod endpoints;
pub mod executor;
pub mod expectations;
pub mod garbage;
pub mod job;
pub mod manager;
pub mod metadata;
pub mod namespace;
pub mod namespace_content;
pub mod node;
pub mod plan;
pub mod quota;
pub mod registry;
pub mod replicaset;
pub mod runtime;
pub mod service_cidr;
pub mod shared;
pub mod signer;
pub mod statefulset;
pub mod volume;

pub use manager::{ControllerManager, ControllerManagerConfig};
