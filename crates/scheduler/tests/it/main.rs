//! Tests of the scheduler over scenarios, random clusters and whole cycles without an API server.

mod cache;
mod executor;
mod fixtures;
mod properties;
mod queue;
mod scenarios;
mod state;
