//! The etcd engine against real etcd processes: the suite, one member and three, and everything that can happen to them.

mod admin;
mod cluster;
mod conformance;
mod faults;
