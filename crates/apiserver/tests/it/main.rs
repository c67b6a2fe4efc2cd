//! The API server as its clients meet it: requests through the whole path, over a real embedded store.

mod harness;
mod verbs;
