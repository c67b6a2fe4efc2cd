//! When requests start: each as soon as its connection is free, or at a fixed rate whatever the server does.

use std::{
    io,
    time::{Duration, Instant},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// A fixed rate. Request `k` is due at `k / rate` after the start: rounding does not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Requests per second.
    pub rate: u32,
}

impl Schedule {
    /// When a request is due, after the start.
    pub fn due(self, number: u64) -> Duration {
        let ns = u128::from(number) * 1_000_000_000 / u128::from(self.rate.max(1));
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// How many requests are due within a time.
    pub fn requests(self, time: Duration) -> u64 {
        let requests = (time.as_nanos() * u128::from(self.rate)).div_ceil(1_000_000_000);
        u64::try_from(requests).unwrap_or(u64::MAX)
    }
}

/// A timer that is exact to some ten microseconds; the runtime's own is to a millisecond, which is longer than many
/// requests take.
pub struct Timer {
    fd: AsyncFd<std::os::fd::OwnedFd>,
}

impl Timer {
    pub fn new() -> io::Result<Timer> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // SAFETY: the descriptor is owned, stays open as long as this, and is always the same.
        Ok(Timer { fd: unsafe { AsyncFd::register(fd) }? })
    }

    pub async fn until(&mut self, time: Instant) -> io::Result<()> {
        let wait = time.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            return Ok(());
        }
        let seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
        let value = Timespec { tv_sec: seconds, tv_nsec: i64::from(wait.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.fd.readable().await?;
            let mut expirations = [0; 8];
            if let Ok(read) = ready.try_io(|fd| Ok(rustix::io::read(fd, &mut expirations)?)) {
                return read.map(drop);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_the_rate_and_rounding_does_not_add_up() {
        let schedule = Schedule { rate: 3 };
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(1), Duration::from_nanos(333_333_333));
        assert_eq!(schedule.due(3_000_000), Duration::from_secs(1_000_000));
        for rate in [1, 7, 999, 1000, 50_000] {
            let schedule = Schedule { rate };
            let requests = schedule.requests(Duration::from_millis(2500));
            assert!(schedule.due(requests - 1) < Duration::from_millis(2500), "the last is within");
            assert!(schedule.due(requests) >= Duration::from_millis(2500), "the next is not");
        }
    }

    #[tokio::test]
    async fn the_timer_waits_and_is_not_a_millisecond_late() {
        let mut timer = Timer::new().expect("a timer");
        let mut late = Vec::new();
        for _ in 0..50 {
            let due = Instant::now() + Duration::from_micros(300);
            timer.until(due).await.expect("waited");
            late.push(Instant::now().checked_duration_since(due).expect("never early"));
        }
        late.sort();
        assert!(late[10] < Duration::from_micros(900), "{late:?}");
        timer.until(Instant::now()).await.expect("what is past is due");
    }
}
