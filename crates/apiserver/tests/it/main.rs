//! The API server as its clients meet it: requests through the whole path, over a real embedded store.

mod admission;
mod answers;
mod apply;
mod bad_input;
mod connect;
mod custom;
mod empties;
mod ending;
mod etcd;
mod flow;
mod gates;
mod harness;
mod joining;
mod operations;
mod protobuf;
mod published;
mod reviews;
mod rotation;
mod rules;
mod several;
mod strict;
mod subresources;
mod upstream;
mod verbs;
mod versions;
mod wide;
