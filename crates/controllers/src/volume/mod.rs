//! PersistentVolumes and claims: bound to each other by what they offer and ask, and kept while something uses them
//! (upstream pkg/controller/volume/persistentvolume, pvcprotection, pvprotection).
//!
//! Not here: dynamic provisioning, attach and detach.

pub mod binder;
pub mod protection;
