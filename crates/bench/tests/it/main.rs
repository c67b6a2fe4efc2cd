//! The generator against a real API server in the same process, over TLS.

mod against_server;
mod harness;
