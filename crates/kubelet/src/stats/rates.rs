//! CPU use as a rate, from counters that only grow.

use std::collections::HashMap;

use jiff::Timestamp;

/// Closer samples than this say little.
const SPAN_MS_MIN: i128 = 1000;

/// Remembers the last sample of each key.
#[derive(Debug, Default)]
pub(super) struct Rates {
    last: HashMap<String, Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Timestamp,
    total: u64,
    rate: Option<u64>,
}

impl Rates {
    /// `total` nanoseconds of CPU consumed at `now` as nanocores since the sample before. `None` at first, and where the
    /// counter went back.
    pub(super) fn observe(&mut self, key: &str, total: u64, now: Timestamp) -> Option<u64> {
        let Some(last) = self.last.get(key).copied() else {
            self.last.insert(key.to_owned(), Sample { at: now, total, rate: None });
            return None;
        };
        let span = now.as_nanosecond() - last.at.as_nanosecond();
        if span < SPAN_MS_MIN * 1_000_000 {
            return last.rate;
        }
        let rate = total
            .checked_sub(last.total)
            .and_then(|used| u64::try_from(i128::from(used).saturating_mul(1_000_000_000) / span).ok());
        self.last.insert(key.to_owned(), Sample { at: now, total, rate });
        rate
    }

    /// Forgets what is older than this: containers that are gone.
    pub(super) fn forget_before(&mut self, time: Timestamp) {
        self.last.retain(|_, sample| sample.at >= time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_of_a_counter() {
        let at = |milliseconds: i64| Timestamp::from_millisecond(milliseconds).expect("time");
        let mut rates = Rates::default();
        let second = 1_000_000_000;
        for (time, total, expect) in [
            (0, 5 * second, None),
            (500, 6 * second, None),
            (2000, 6 * second, Some(500_000_000)),
            (2100, 9 * second, Some(500_000_000)),
            (4000, 10 * second, Some(2_000_000_000)),
            (6000, 0, None),
            (8000, second, Some(500_000_000)),
        ] {
            assert_eq!(rates.observe("c", total, at(time)), expect, "at {time} ms");
        }
        rates.forget_before(at(9000));
        assert_eq!(rates.observe("c", 9 * second, at(10_000)), None);
    }
}
