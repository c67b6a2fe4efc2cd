//! The engines against the conformance suite, the model, and everything that can happen to a file, a process or a network.

mod conformance;
mod crash;
mod damage;
mod disk_full;
mod encryption;
mod etcd;
mod support;
