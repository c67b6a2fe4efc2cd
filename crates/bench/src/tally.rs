//! What the workers of one measurement have counted.

use std::{collections::BTreeMap, io, time::Instant};

use crate::{connection::Answer, histogram::Histogram};

#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Of successes alone: an answer outside 2xx is fast for the wrong reason.
    pub latencies: Histogram,
    /// Of their bodies.
    pub bytes: u64,
    /// Everything else, by status or kind of failure.
    pub failures: BTreeMap<String, u64>,
    /// When the last was done.
    pub last: Option<Instant>,
}

impl Tally {
    /// `begin` is when the request was sent, or when it should have been.
    pub fn add(&mut self, begin: Instant, end: Instant, outcome: &io::Result<Answer>) {
        self.last = self.last.max(Some(end));
        match outcome {
            Ok(answer) if answer.is_success() => {
                self.latencies.add(end.saturating_duration_since(begin));
                self.bytes += answer.bytes;
            }
            Ok(answer) => self.fail(&answer.status.to_string(), 1),
            Err(error) => self.fail(&format!("connection: {}", error.kind()), 1),
        }
    }

    pub fn fail(&mut self, what: &str, times: u64) {
        if times > 0 {
            *self.failures.entry(what.to_owned()).or_default() += times;
        }
    }

    pub fn merge(&mut self, other: &Tally) {
        self.latencies.merge(&other.latencies);
        self.bytes += other.bytes;
        self.last = self.last.max(other.last);
        for (what, times) in &other.failures {
            self.fail(what, *times);
        }
    }

    /// `3 x 409, 1 x 500`; empty without failures.
    pub fn failures_text(&self) -> String {
        let all: Vec<String> = self.failures.iter().map(|(what, times)| format!("{times} x {what}")).collect();
        all.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_2xx_is_a_success() {
        let mut tally = Tally::default();
        let begin = Instant::now();
        for status in [200, 201, 299, 300, 404, 429, 429, 500] {
            tally.add(begin, begin + Duration::from_millis(status), &Ok(Answer { status: status as u16, bytes: 10 }));
        }
        tally.add(begin, begin, &Err(io::ErrorKind::UnexpectedEof.into()));
        assert_eq!((tally.latencies.len(), tally.bytes), (3, 30));
        assert_eq!(tally.latencies.max(), Duration::from_millis(299));
        assert_eq!(tally.failures_text(), "1 x 300, 1 x 404, 2 x 429, 1 x 500, 1 x connection: unexpected end of file");
        let mut sum = tally.clone();
        sum.merge(&tally);
        assert_eq!((sum.latencies.len(), sum.failures["429"]), (6, 4));
    }
}
