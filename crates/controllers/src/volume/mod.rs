//! PersistentVolumes and claims: made for pods that ask for their own, bound to each other by what they offer and ask, and
//! kept while something uses them (upstream pkg/controller/volume).
//!
//! Not here: dynamic provisioning, attach and detach.

pub mod binder;
pub mod ephemeral;
pub mod protection;
