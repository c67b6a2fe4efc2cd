//! The embedded engine against the conformance suite, the model, and everything that can happen to a file.

mod conformance;
mod crash;
mod damage;
mod disk_full;
mod support;
