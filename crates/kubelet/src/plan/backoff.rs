//! Crash-loop back-off: upstream's `flowcontrol.Backoff` as pure functions (10 s doubling to 5 min, forgotten after 10 min).

use jiff::{SignedDuration, Timestamp};

use super::observed::BackOff;

pub const INITIAL: SignedDuration = SignedDuration::from_secs(10);
pub const MAX: SignedDuration = SignedDuration::from_secs(300);

fn expired(back_off: &BackOff, event: Timestamp) -> bool {
    event.duration_since(back_off.updated) > MAX * 2
}

/// Until when a container that ended at `event` has to wait; `None`: it may start now.
pub fn until(back_off: Option<&BackOff>, event: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let back_off = back_off.filter(|back_off| !expired(back_off, event))?;
    let end = event.checked_add(back_off.delay).ok()?;
    (end > now).then_some(end)
}

/// The back-off after a start at `now` of a container that ended at `event`.
pub fn next(back_off: Option<&BackOff>, event: Timestamp, now: Timestamp) -> BackOff {
    let delay = match back_off.filter(|back_off| !expired(back_off, event)) {
        Some(back_off) => (back_off.delay * 2).min(MAX),
        None => INITIAL,
    };
    BackOff { delay, updated: now }
}

/// As Go prints it in upstream's messages: `10s`, `1m20s`, `5m0s`.
pub fn print(delay: SignedDuration) -> String {
    match (delay.as_secs() / 60, delay.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_five_minutes_and_forgets_after_ten() {
        let mut now = Timestamp::UNIX_EPOCH;
        let mut back_off = None;
        let mut delays = Vec::new();
        for _ in 0..7 {
            let next = next(back_off.as_ref(), now, now);
            delays.push(print(next.delay));
            back_off = Some(next);
            now += next.delay;
        }
        assert_eq!(delays, ["10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]);
        let event = now + SignedDuration::from_secs(601);
        assert_eq!(until(back_off.as_ref(), event, event), None);
        assert_eq!(next(back_off.as_ref(), event, event).delay, INITIAL);
        let event = now + SignedDuration::from_secs(10);
        assert_eq!(until(back_off.as_ref(), event, event), Some(event + MAX));
    }
}
