//! What a start looks like: spinners on a terminal, plain lines everywhere else.

use std::{
    collections::HashMap,
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use cluster::progress::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

pub fn new() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() && std::io::stdout().is_terminal() {
        Box::new(Spinners { all: MultiProgress::new(), steps: Mutex::default() })
    } else {
        Box::new(Lines { begin: Instant::now() })
    }
}

/// A number that grows, shown on a terminal only.
pub struct Counter(ProgressBar);

pub fn counter(what: &'static str) -> Counter {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(what);
    Counter(bar)
}

impl Counter {
    pub fn set(&self, number: u64) {
        self.0.set_position(number);
    }

    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// As short as it can be read: `12 ms`, `1.23 s`.
fn took(elapsed: Duration) -> String {
    match elapsed.as_millis() {
        ms if ms < 1000 => format!("{ms} ms"),
        _ => format!("{:.2} s", elapsed.as_secs_f64()),
    }
}

fn with_note(note: &str) -> String {
    if note.is_empty() { String::new() } else { format!(" ({note})") }
}

/// One line per step that has ended, with the time since the start and the time the step took.
struct Lines {
    begin: Instant,
}

impl Lines {
    fn print(&self, mark: &str, step: &str, elapsed: Duration, rest: &str) {
        println!("{:>7.3} s  {mark:<4} {step}: {}{rest}", self.begin.elapsed().as_secs_f64(), took(elapsed));
    }
}

impl Progress for Lines {
    fn started(&self, _: &str) {}

    fn finished(&self, step: &str, elapsed: Duration, note: &str) {
        self.print("done", step, elapsed, &with_note(note));
    }

    fn failed(&self, step: &str, elapsed: Duration, error: &str) {
        self.print("FAIL", step, elapsed, &format!(": {error}"));
    }
}

/// A line per step that turns until the step has ended.
struct Spinners {
    all: MultiProgress,
    steps: Mutex<HashMap<String, ProgressBar>>,
}

impl Spinners {
    fn end(&self, step: &str, mark: &str, text: String) {
        let bar = self.steps.lock().unwrap_or_else(PoisonError::into_inner).remove(step);
        let Some(bar) = bar else { return };
        if let Ok(style) = ProgressStyle::with_template("{prefix} {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(mark.to_owned());
        bar.finish_with_message(text);
    }
}

impl Progress for Spinners {
    fn started(&self, step: &str) {
        let bar = self.all.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(step.to_owned());
        bar.enable_steady_tick(Duration::from_millis(80));
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).insert(step.to_owned(), bar);
    }

    fn finished(&self, step: &str, elapsed: Duration, note: &str) {
        self.end(step, "✓", format!("{step:<24} {:>9}{}", took(elapsed), with_note(note)));
    }

    fn failed(&self, step: &str, elapsed: Duration, error: &str) {
        self.end(step, "✗", format!("{step:<24} {:>9}: {error}", took(elapsed)));
    }
}

/// Columns of equal width, three blanks between them, as kubeadm prints its tables.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let length = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let width = |column| rows.iter().map(|row| length(row, column)).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}   ")).collect();
        format!("{}\n", cells.trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_one_another() {
        let rows = [["NAME", "STATE"], ["a", "good"], ["longer", ""]];
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        assert_eq!(table(&rows), "NAME     STATE\na        good\nlonger\n");
    }

    #[test]
    fn times_are_short() {
        for (ms, text) in [(0, "0 ms"), (999, "999 ms"), (1234, "1.23 s"), (61_000, "61.00 s")] {
            assert_eq!(took(Duration::from_millis(ms)), text);
        }
    }
}
