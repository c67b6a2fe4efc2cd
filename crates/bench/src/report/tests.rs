//! The table and the JSON of two servers, a limit and a failure.

use std::time::Instant;

use super::*;
use crate::{connection::Answer, tally::Tally};

/// So many successes of so many ms in a second, with figures of the server.
fn outcome(successes: u64, latency_ms: u64, cpu_ms: Option<u64>, failed: u16) -> Outcome {
    let begin = Instant::now();
    let mut tally = Tally::default();
    for _ in 0..successes {
        tally.add(begin, begin + Duration::from_millis(latency_ms), &Ok(Answer { status: 200, bytes: 1 << 20 }));
    }
    if failed > 0 {
        tally.add(begin, begin, &Ok(Answer { status: failed, bytes: 0 }));
    }
    Outcome {
        tally,
        elapsed: Duration::from_secs(1),
        cpu: cpu_ms.map(Duration::from_millis),
        generator_cpu: Duration::from_millis(500),
        resident_bytes: cpu_ms.map(|_| 39 << 20),
    }
}

fn report() -> Report {
    let mut rows = Rows::default();
    for (mine, theirs) in [(300, 20), (100, 10), (200, 40)] {
        rows.add("get 1Ki", "argosy", &outcome(mine, 2, Some(100), 0));
        rows.add("get 1Ki", "upstream", &outcome(theirs, 30, None, if theirs == 40 { 429 } else { 0 }));
    }
    rows.add("list 100 x 1Ki", "argosy", &outcome(12, 80, Some(600), 0));
    rows.add("get 1Ki", "bare TLS", &outcome(400, 1, None, 0));
    let settings = Settings {
        protocol: Protocol::Http1,
        connections: 32,
        streams: 1,
        threads: 1,
        rate: None,
        rounds: 3,
        warm_up_s: 1.0,
        duration_s: 5.0,
    };
    Report { settings, results: rows.finish() }
}

#[test]
fn the_table_shows_medians_and_ratios_side_by_side() {
    insta::assert_snapshot!(report().table());
}

#[test]
fn json_has_every_round() {
    let json: serde_json::Value = serde_json::from_str(&report().json()).expect("JSON");
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).expect("text"));
}

#[test]
fn figures_without_successes_are_zero_and_not_infinite() {
    let mut rows = Rows::default();
    rows.add("get", "a", &outcome(5, 1, Some(1), 0));
    rows.add("get", "b", &outcome(0, 1, Some(1), 500));
    let rows = rows.finish();
    assert_eq!((rows[1].median.throughput, rows[1].median.server_cpu_ms, rows[1].first_is_times), (0.0, None, None));
    assert_eq!(rows[1].failures["500"], 1);
}

#[test]
fn numbers_have_the_digits_that_count() {
    let cases =
        [(0.0, "0.000"), (0.0304, "0.030"), (1.239, "1.24"), (12.39, "12.4"), (2612.4, "2612"), (26_023.6, "26,023")];
    for (value, text) in cases {
        assert_eq!(number(value), text);
    }
}
