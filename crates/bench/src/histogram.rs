//! Latencies in buckets whose width grows with the value, as HdrHistogram has them: small, fast, at most 0.8% off.

use std::time::Duration;

/// Values below `2^(BITS + 1)` ns have a bucket each; above, each power of two has `2^BITS` of them.
const BITS: u32 = 7;

#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_ns: u64,
}

fn bucket(ns: u64) -> usize {
    let shift = (63 - (ns | 1).leading_zeros()).saturating_sub(BITS);
    // The leading bits, and before them as many buckets as the smaller powers of two have.
    ((u64::from(shift) << BITS) + (ns >> shift)) as usize
}

/// The largest value of a bucket.
fn upper_ns(bucket: usize) -> u64 {
    let shift = (bucket >> BITS).saturating_sub(1);
    let leading = (bucket - (shift << BITS)) as u64;
    (((u128::from(leading) + 1) << shift) - 1) as u64
}

impl Histogram {
    pub fn add(&mut self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket(ns);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    pub fn merge(&mut self, other: &Histogram) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    pub fn len(&self) -> u64 {
        self.total
    }

    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// The time that a share of the values (in thousandths: 999 is p99.9) needed at most, by the nearest rank. The answer
    /// is the upper end of that value's bucket, and never above the maximum.
    pub fn percentile(&self, per_mille: u64) -> Duration {
        let rank = (u128::from(self.total) * u128::from(per_mille)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank {
                return Duration::from_nanos(upper_ns(bucket).min(self.max_ns));
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket_that_is_narrow_enough() {
        let around = (0..64).flat_map(|bit| [-1, 0, 1].map(|off| (1_u64 << bit).wrapping_add_signed(off)));
        for ns in around.chain(0..3000).chain([u64::MAX]) {
            let upper = upper_ns(bucket(ns));
            assert!(upper >= ns && (upper - ns) as f64 <= ns as f64 / 128.0, "{ns} in a bucket up to {upper}");
            assert!(bucket(ns) == 0 || upper_ns(bucket(ns) - 1) < ns, "{ns} belongs one bucket lower");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        // A long tail, as latencies have it, in no order and in two parts.
        let values: Vec<u64> = (0..20_000_u64).map(|n| 1000 + (n * 7919 % 20_000).pow(2)).collect();
        let (mut whole, mut part) = (Histogram::default(), Histogram::default());
        for (place, ns) in values.iter().enumerate() {
            if place % 3 == 0 { &mut whole } else { &mut part }.add(Duration::from_nanos(*ns));
        }
        whole.merge(&part);
        let mut sorted = values;
        sorted.sort_unstable();
        for per_mille in [1, 500, 900, 990, 999, 1000] {
            let exact = sorted[(sorted.len() * per_mille).div_ceil(1000) - 1] as f64;
            let found = whole.percentile(per_mille as u64).as_nanos() as f64;
            assert!(found >= exact && found <= exact * 1.008, "{per_mille}: {found} for {exact}");
        }
        assert_eq!(whole.len(), 20_000);
        assert_eq!(whole.percentile(1000), whole.max());
        assert_eq!(whole.max().as_nanos() as u64, sorted[19_999]);
    }

    #[test]
    fn nothing_measured_is_zero() {
        assert!(Histogram::default().is_empty());
        assert_eq!(Histogram::default().percentile(500), Duration::ZERO);
    }
}
