//! Cluster DNS over real sockets, with an API server that follows the test.

mod cluster;
mod messages;
mod queries;
mod upstream;
