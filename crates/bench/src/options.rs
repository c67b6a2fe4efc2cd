//! The flags of a benchmark, and what they mean together.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Args;
use client::Kubeconfig;

use crate::{
    cases::{Ranges, Verb, parse_size},
    connection::Protocol,
    schedule::Schedule,
};

/// More would not fit into the eight digits of a name.
const OBJECTS_MAX: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    Table,
    Json,
}

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What to measure
    #[arg(value_name = "OPERATION", default_values = ["get", "list", "create", "update", "patch", "apply", "delete"])]
    pub operations: Vec<Verb>,
    /// Objects that a list shows and a deletecollection removes, each a case of its own
    #[arg(long, value_delimiter = ',', default_value = "1000", value_parser = clap::value_parser!(u64).range(1..=OBJECTS_MAX))]
    pub objects: Vec<u64>,
    /// Data of each object, such as 1Ki,10Ki, each a case of its own
    #[arg(long, value_delimiter = ',', value_name = "BYTES", default_value = "1Ki", value_parser = parse_size)]
    pub sizes: Vec<usize>,
    /// Watchers of a fan-out, each a case of its own
    #[arg(long, value_delimiter = ',', value_name = "COUNTS", default_value = "100", value_parser = crate::options::parse_watchers)]
    pub watchers: Vec<usize>,
    /// Writers of a fan-out; each waits until every watcher has its write
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub writers: u16,
    /// Objects that a delete removes, one request each
    #[arg(long, value_name = "COUNT", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=OBJECTS_MAX))]
    pub deletes: u64,
    /// Connections of the generator, each with one request under way
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub connections: u16,
    /// http1 has one request on each connection, http2 --streams of them; upstream's own clients speak http2
    #[arg(long, value_enum, default_value_t = Protocol::Http1)]
    pub protocol: Protocol,
    /// Requests under way on each connection, with --protocol http2
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub streams: u16,
    /// Requests per second that are sent whatever the server does (an open loop); a request's time then counts from when
    /// it was due. Without: each connection sends its next request when it has its answer
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
    /// Measured time of each round, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = parse_seconds)]
    pub duration: f64,
    /// End each round after so many requests instead, without warm-up
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Time before each round that is not measured, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = parse_seconds)]
    pub warm_up: f64,
    /// Rounds of each case; servers take turns, and figures are medians over the rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub rounds: u16,
    /// Threads of the generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Media type that is asked for
    #[arg(long, default_value = "application/json")]
    pub accept: String,
    /// Added to a list's query, such as resourceVersion=0 or limit=500
    #[arg(long, value_name = "QUERY", default_value = "")]
    pub list_query: String,
    /// Beside the servers, measure the limits of this machine: a bare TLS server that gives the same answers, and a bare
    /// log in this folder that syncs the same bytes
    #[arg(long, value_name = "DIR")]
    pub limits: Option<PathBuf>,
    /// table, or one JSON object
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// A server to measure.
#[derive(Clone, Debug)]
pub struct Target {
    /// As the report calls it.
    pub name: String,
    pub kubeconfig: Kubeconfig,
    /// Its processes on this machine, where they are known.
    pub pids: Vec<u32>,
}

/// Everything there is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The first is what the others are compared with.
    pub targets: Vec<Target>,
    pub options: Options,
    /// Program and arguments that call [`crate::bare::serve`].
    pub bare_server: Vec<OsString>,
    /// Of the namespace that is made on the first server; those on others end in a number.
    pub namespace: String,
}

fn parse_watchers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(watchers) if (1..=20_000).contains(&watchers) => Ok(watchers),
        _ => Err(format!("{text:?} is not a number from 1 to 20000")),
    }
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err(format!("{text:?} is not a number of seconds up to a day")),
    }
}

impl Options {
    pub fn ranges(&self) -> Ranges {
        Ranges {
            verbs: self.operations.clone(),
            objects: self.objects.clone(),
            sizes: self.sizes.clone(),
            watchers: self.watchers.clone(),
            writers: self.writers.into(),
            deletes: self.deletes,
            list_query: self.list_query.clone(),
        }
    }

    pub fn schedule(&self) -> Option<Schedule> {
        self.rate.map(|rate| Schedule { rate })
    }

    pub fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.duration)
    }

    pub fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }

    /// Requests at once on a connection.
    pub fn streams(&self) -> usize {
        if self.protocol == Protocol::Http2 { self.streams.into() } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn parsed(arguments: &str) -> Result<Options, String> {
        let arguments = std::iter::once("bench").chain(arguments.split_whitespace());
        Cli::try_parse_from(arguments).map(|cli| cli.options).map_err(|error| error.to_string())
    }

    #[test]
    fn lists_and_sizes_are_read() {
        let options = parsed("list watch --objects 100,10000 --sizes 1Ki,10Ki --watchers 1,1000").expect("flags");
        assert_eq!(options.operations, [Verb::List, Verb::Watch]);
        assert_eq!((options.objects, options.sizes), (vec![100, 10_000], vec![1024, 10_240]));
        assert_eq!(options.watchers, [1, 1000]);
        let options = parsed("get --protocol http2 --streams 8 --rate 500 --output json --warm-up 0.5").expect("flags");
        assert_eq!((options.streams(), options.schedule()), (8, Some(Schedule { rate: 500 })));
        assert_eq!((options.output, options.warm_up()), (Output::Json, Duration::from_millis(500)));
        assert_eq!(parsed("get --streams 8").expect("flags").streams(), 1, "HTTP/1.1 has one");
        assert_eq!(parsed("").expect("flags").operations.len(), 7);
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for arguments in [
            "post",
            "get --sizes 2Mi",
            "get --objects 0",
            "watch --watchers 30000",
            "get --connections 0",
            "get --rate 0",
            "get --duration -1",
            "get --rounds 0",
            "get --duration NaN",
        ] {
            assert!(parsed(arguments).is_err(), "{arguments}");
        }
    }
}
