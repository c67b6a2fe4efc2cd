//! The binary: one file per command and component, each turning its flags into the configuration of a crate.

mod addons;
mod cli;
mod clients;
mod commands;
mod components;
mod display;
mod flags;
mod joining;
mod listeners;
mod logging;
mod memory;
mod node;
mod process;
mod signals;
mod supervisor;
mod units;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    // One worker per core, and at least two: with one, a task that computes would hold up the API server.
    let cores = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            runtime.spawn(memory::give_back());
            let outcome = runtime.block_on(commands::run(cli));
            // What still runs now is a blocking call that nobody waits for.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(anyhow::Error::new(error).context("cannot start threads")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
