//! `argosy bench`: what a cluster does in what time, for any kubeconfig, so that clusters can be measured side by side.

pub mod api;
pub mod pods;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use client::Client;
use cluster::layout::{DEFAULT_DATA_DIR, Layout};

use crate::clients;

#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Create and delete pods one after the other and time them through a watch
    Pods(pods::Flags),
    /// Load API servers and measure throughput, latency, processor time and memory, several servers in turns
    Api(Box<api::Flags>),
    /// Give one answer to every request, for `bench api --limits`
    #[command(hide = true)]
    Answer,
}

/// Which cluster is measured, and how the result is shown.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// Where the API server is and who asks [default: $KUBECONFIG, else that of `argosy up`]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl Target {
    fn client(&self) -> anyhow::Result<Client> {
        Ok(clients::remote(&kubeconfig_path(self.kubeconfig.clone()), "argosy-bench")?)
    }
}

/// The kubeconfig that is asked for, else that of the environment, else that of the cluster on this machine.
fn kubeconfig_path(flag: Option<PathBuf>) -> PathBuf {
    let from_environment = || std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    flag.or_else(from_environment).unwrap_or_else(|| Layout::new(DEFAULT_DATA_DIR).kubeconfig("admin"))
}

pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Pods(flags) => pods::run(flags).await,
        Command::Api(flags) => api::run(*flags).await,
        Command::Answer => api::answer().await,
    }
}

/// Times of one thing, in the order in which they were taken.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time that a share of the runs needed at most, by the nearest rank.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
        sorted.get(rank).copied().unwrap_or_default()
    }

    fn summary(&self) -> [(&'static str, u128); 4] {
        let ms = |percent| self.percentile(percent).as_millis();
        [("min_ms", ms(0)), ("median_ms", ms(50)), ("p90_ms", ms(90)), ("max_ms", ms(100))]
    }
}

/// One row per thing that was timed.
pub fn report(rows: &[(&str, &Times)], json: bool) {
    if json {
        let row = |times: &Times| times.summary().map(|(name, ms)| format!("\"{name}\":{ms}")).join(",");
        let rows: Vec<String> = rows.iter().map(|(name, times)| format!("{name:?}:{{{}}}", row(times))).collect();
        println!("{{{}}}", rows.join(","));
        return;
    }
    println!("{:<28}{:>8}{:>10}{:>8}{:>8}", "MS", "MIN", "MEDIAN", "P90", "MAX");
    for (name, times) in rows {
        let [min, median, p90, max] = times.summary().map(|(_, ms)| ms);
        println!("{name:<28}{min:>8}{median:>10}{p90:>8}{max:>8}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_seen() {
        let times = Times((1..=10).rev().map(Duration::from_millis).collect());
        let ms = |percent| times.percentile(percent).as_millis();
        assert_eq!([ms(0), ms(50), ms(90), ms(91), ms(100)], [1, 5, 9, 10, 10]);
        assert_eq!(Times::default().percentile(50), Duration::ZERO);
    }
}
