//! The client against an API server that a test scripts, and over TLS against a real listener.

#[expect(dead_code, reason = "shared with the tests of net, which use all of it")]
#[path = "../../../net/tests/it/pki.rs"]
mod pki;

mod election;
mod fake;
mod informing;
mod queueing;
mod reaching;
mod recording;
