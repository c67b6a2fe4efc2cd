//! How far it is: a bar on a terminal, a line per round everywhere else. Standard output is the report's alone.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// How often the bar shows another count.
const REDRAW: Duration = Duration::from_millis(200);

pub struct Progress {
    begin: Instant,
    bar: Option<ProgressBar>,
    drawn: Instant,
    now: String,
}

impl Progress {
    /// Of so many rounds in all.
    pub fn new(rounds: usize) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(rounds as u64);
            if let Ok(style) = ProgressStyle::with_template("{elapsed:>4} {wide_bar} {pos}/{len} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Progress { begin: Instant::now(), bar, drawn: Instant::now(), now: String::new() }
    }

    /// What is done now.
    pub fn now(&mut self, what: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.clone());
        }
        self.now = what;
    }

    /// How many requests were answered in it.
    pub fn count(&mut self, requests: u64) {
        if let Some(bar) = &self.bar
            && self.drawn.elapsed() > REDRAW
        {
            self.drawn = Instant::now();
            bar.set_message(format!("{}: {requests}", self.now));
        }
    }

    /// A round is over.
    pub fn done(&mut self, throughput: f64) {
        match &self.bar {
            Some(bar) => bar.inc(1),
            None => eprintln!("{:>7.1} s  {}: {throughput:.1}/s", self.begin.elapsed().as_secs_f64(), self.now),
        }
    }

    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
