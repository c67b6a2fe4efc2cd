//! Waiting times that double, with jitter, so that many clients that lost one server do not return as one.

use std::time::Duration;

pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    /// 50 ms, 100, 200, 400, then client-go's 800 ms doubling to 30 s: the first tries are for a server that is just
    /// starting beside us.
    pub fn reflector() -> Backoff {
        Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(30), attempts: 0 }
    }

    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The next delay without jitter.
    fn next(&mut self) -> Duration {
        let delay = self.first * 2u32.pow(self.attempts.min(16));
        self.attempts = self.attempts.saturating_add(1);
        delay.min(self.longest)
    }

    /// Waits for the next delay, up to half of it longer.
    pub async fn wait(&mut self) {
        let delay = self.next();
        tokio::time::sleep(delay.mul_f64(rand::random_range(1.0..1.5))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_limit_and_starts_over_after_a_reset() {
        let mut backoff = Backoff::reflector();
        let delays: Vec<u128> = (0..12).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(delays, [50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 50);
    }
}
