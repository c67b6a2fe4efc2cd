//! A load generator for any Kubernetes API server: operations on ConfigMaps in a namespace of its own, on several servers
//! in turns, with latencies, throughput, and what they cost the server.
//!
//! It shares the machine with the servers it measures, so it is lean: few threads, each with a runtime of its own; requests
//! are prebuilt bytes in which only digits change; answers are read to the end and not parsed. What it measures:
//!
//! - Answers of 2xx alone count; others are listed by status. Connections are opened before the measurement.
//! - In a closed loop, a connection sends its next request when it has its answer. With a rate, requests are due at their
//!   time whatever the server does, and their latency counts from then: a server that stalls is charged for every
//!   request that it keeps waiting, also for those not sent yet.
//! - Rounds alternate between the servers, and figures are medians over the rounds.

pub mod bare;
mod cases;
mod connection;
mod crew;
mod error;
mod fanout;
mod histogram;
mod load;
mod options;
mod progress;
mod report;
mod run;
mod schedule;
mod server;
mod tally;
mod template;
mod usage;

pub use cases::Verb;
pub use connection::Protocol;
pub use error::{Error, Result};
pub use options::{Options, Output, Plan, Target};
pub use report::{Figures, Report, Row, Settings};
pub use run::run;
