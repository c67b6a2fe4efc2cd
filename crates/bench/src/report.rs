//! What came out: medians over the rounds, as a table or as JSON.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{connection::Protocol, load::Outcome};

/// One measurement in figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Answers outside 2xx are not among them.
    pub successes: u64,
    pub elapsed_s: f64,
    /// Successes per second.
    pub throughput: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
    /// Of the answers' bodies.
    pub mib_per_s: f64,
    /// Processor time of the server per success, where its processes are known.
    pub server_cpu_ms: Option<f64>,
    /// The same of the generator: with the server's it may take all that the machine has.
    pub generator_cpu_ms: f64,
    /// Resident memory of the server at the end.
    pub resident_mib: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub operation: String,
    pub server: String,
    /// Median of each figure over the rounds.
    #[serde(flatten)]
    pub median: Figures,
    /// Of all rounds together: what failed, by HTTP status or kind.
    pub failures: BTreeMap<String, u64>,
    /// The throughput of the first server in this operation, divided by this one's.
    pub first_is_times: Option<f64>,
    pub rounds: Vec<Figures>,
}

/// How it was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    pub protocol: Protocol,
    pub connections: usize,
    pub streams: usize,
    pub threads: usize,
    /// Requests per second of an open loop.
    pub rate: Option<u32>,
    pub rounds: usize,
    pub warm_up_s: f64,
    pub duration_s: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub settings: Settings,
    pub results: Vec<Row>,
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Figures {
    pub fn of(outcome: &Outcome) -> Figures {
        const MIB: f64 = (1 << 20) as f64;
        let (tally, elapsed_s) = (&outcome.tally, outcome.elapsed.as_secs_f64());
        let successes = tally.latencies.len();
        let per_second = |amount: f64| if elapsed_s > 0.0 { amount / elapsed_s } else { 0.0 };
        let each = |time: Duration| if successes > 0 { ms(time) / successes as f64 } else { 0.0 };
        Figures {
            successes,
            elapsed_s,
            throughput: per_second(successes as f64),
            p50_ms: ms(tally.latencies.percentile(500)),
            p99_ms: ms(tally.latencies.percentile(990)),
            p999_ms: ms(tally.latencies.percentile(999)),
            max_ms: ms(tally.latencies.max()),
            mib_per_s: per_second(tally.bytes as f64 / MIB),
            server_cpu_ms: outcome.cpu.filter(|_| successes > 0).map(each),
            generator_cpu_ms: each(outcome.generator_cpu),
            resident_mib: outcome.resident_bytes.map(|bytes| bytes as f64 / MIB),
        }
    }

    /// Each figure's own median; of an even number of rounds, the mean of the two in the middle.
    fn median(rounds: &[Figures]) -> Figures {
        let of = |figure: &dyn Fn(&Figures) -> f64| median(rounds.iter().map(figure).collect()).unwrap_or_default();
        let known = |figure: &dyn Fn(&Figures) -> Option<f64>| median(rounds.iter().filter_map(figure).collect());
        Figures {
            successes: of(&|round| round.successes as f64) as u64,
            elapsed_s: of(&|round| round.elapsed_s),
            throughput: of(&|round| round.throughput),
            p50_ms: of(&|round| round.p50_ms),
            p99_ms: of(&|round| round.p99_ms),
            p999_ms: of(&|round| round.p999_ms),
            max_ms: of(&|round| round.max_ms),
            mib_per_s: of(&|round| round.mib_per_s),
            server_cpu_ms: known(&|round| round.server_cpu_ms),
            generator_cpu_ms: of(&|round| round.generator_cpu_ms),
            resident_mib: known(&|round| round.resident_mib),
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { (values[middle - 1] + upper) / 2.0 } else { upper })
}

/// Collects the rounds of all cases and servers; the first server of a case is what the others are compared with.
#[derive(Debug, Default)]
pub struct Rows(Vec<Row>);

impl Rows {
    pub fn add(&mut self, operation: &str, server: &str, outcome: &Outcome) {
        let known = self.0.iter_mut().find(|row| row.operation == operation && row.server == server);
        let row = match known {
            Some(row) => row,
            None => {
                self.0.push(Row {
                    operation: operation.to_owned(),
                    server: server.to_owned(),
                    median: Figures::default(),
                    failures: BTreeMap::new(),
                    first_is_times: None,
                    rounds: Vec::new(),
                });
                // There is one now.
                let Some(row) = self.0.last_mut() else { return };
                row
            }
        };
        row.rounds.push(Figures::of(outcome));
        for (what, times) in &outcome.tally.failures {
            *row.failures.entry(what.clone()).or_default() += times;
        }
    }

    /// Medians and ratios; the rows of one operation stand together, in the order in which they came.
    pub fn finish(mut self) -> Vec<Row> {
        let mut operations: Vec<String> = Vec::new();
        for row in &mut self.0 {
            row.median = Figures::median(&row.rounds);
            if !operations.contains(&row.operation) {
                operations.push(row.operation.clone());
            }
        }
        let place = |row: &Row| operations.iter().position(|operation| *operation == row.operation);
        self.0.sort_by_key(place);
        let mut first: Option<(String, f64)> = None;
        for row in &mut self.0 {
            match &first {
                Some((operation, throughput)) if *operation == row.operation => {
                    row.first_is_times = (row.median.throughput > 0.0).then(|| throughput / row.median.throughput);
                }
                _ => first = Some((row.operation.clone(), row.median.throughput)),
            }
        }
        self.0
    }
}

/// Three digits that count, and no more.
fn number(value: f64) -> String {
    match value {
        value if value >= 10_000.0 => {
            let thousands = format!("{:.0}", (value / 1000.0).floor());
            format!("{thousands},{:03.0}", (value % 1000.0).floor())
        }
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

const HEAD: [&str; 12] = [
    "OPERATION",
    "SERVER",
    "PER SECOND",
    "MIB/S",
    "P50 MS",
    "P99 MS",
    "P99.9 MS",
    "MAX MS",
    "CPU MS",
    "RSS MIB",
    "RATIO",
    "FAILED",
];
/// Columns of text; numbers stand to the right.
const TEXT: usize = 2;

impl Report {
    pub fn json(&self) -> String {
        // Numbers and strings alone: there is nothing that JSON could not hold.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub fn table(&self) -> String {
        let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
        let mut lines = vec![HEAD.map(str::to_owned)];
        for row in &self.results {
            let figures = &row.median;
            let failures: u64 = row.failures.values().sum();
            lines.push([
                row.operation.clone(),
                row.server.clone(),
                number(figures.throughput),
                number(figures.mib_per_s),
                number(figures.p50_ms),
                number(figures.p99_ms),
                number(figures.p999_ms),
                number(figures.max_ms),
                optional(figures.server_cpu_ms),
                optional(figures.resident_mib),
                row.first_is_times.map_or_else(String::new, |times| format!("{}x", number(times))),
                failures.to_string(),
            ]);
        }
        let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
        let mut text = String::new();
        for line in &lines {
            let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column < TEXT {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            });
            text += cells.collect::<Vec<_>>().join("  ").trim_end();
            text.push('\n');
        }
        for row in self.results.iter().filter(|row| !row.failures.is_empty()) {
            let failures: Vec<String> = row.failures.iter().map(|(what, times)| format!("{times} x {what}")).collect();
            text += &format!("failed in {} on {}: {}\n", row.operation, row.server, failures.join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests;
