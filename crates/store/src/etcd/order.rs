//! Which member is asked first: the first that was named, as long as it answers. Whoever names the member on its own host
//! first does not notice when others go; and comes back to it soon after it was the one that went.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// For how long a member that failed is asked after the others; doubled with each further failure.
const LEFT_OUT_MIN: Duration = Duration::from_secs(1);
const LEFT_OUT_MAX: Duration = Duration::from_secs(10);

pub(super) struct Order {
    members: Mutex<Vec<Mark>>,
}

/// What is remembered of a member.
#[derive(Clone, Copy, Default)]
struct Mark {
    failures: u32,
    /// Left out until then.
    until: Option<Instant>,
}

impl Order {
    pub fn new(members: usize) -> Order {
        Order { members: Mutex::new(vec![Mark::default(); members]) }
    }

    /// The next to ask, of those that have not been `tried`; those that failed lately come last.
    pub fn next(&self, tried: &[usize], now: Instant) -> Option<usize> {
        let members = self.members.lock();
        let untried = || (0..members.len()).filter(|at| !tried.contains(at));
        untried().find(|at| members[*at].until.is_none_or(|until| until <= now)).or_else(|| untried().next())
    }

    pub fn answered(&self, at: usize) {
        self.members.lock()[at] = Mark::default();
    }

    pub fn failed(&self, at: usize, now: Instant) {
        let mark = &mut self.members.lock()[at];
        // Requests that were under way together fail together, and count as one failure.
        if mark.until.is_none_or(|until| until <= now) {
            let time = LEFT_OUT_MIN.saturating_mul(1 << mark.failures.min(8)).min(LEFT_OUT_MAX);
            *mark = Mark { failures: mark.failures + 1, until: Some(now + time) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_member_is_left_out_for_a_while_and_then_asked_again() {
        let (order, start) = (Order::new(3), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(order.next(&[], start), Some(0));
        order.failed(0, start);
        order.failed(0, start);
        assert_eq!(order.next(&[0], start), Some(1));
        assert_eq!(order.next(&[], after(999)), Some(1));
        assert_eq!(order.next(&[], after(1000)), Some(0));
        order.failed(0, after(1000));
        assert_eq!(order.next(&[], after(2900)), Some(1), "twice as long");
        assert_eq!(order.next(&[], after(3000)), Some(0));
        order.answered(0);
        order.failed(0, after(4000));
        assert_eq!(order.next(&[], after(5000)), Some(0), "what was is forgotten");
    }

    #[test]
    fn all_are_asked_when_all_have_failed() {
        let (order, now) = (Order::new(2), Instant::now());
        order.failed(0, now);
        order.failed(1, now);
        assert_eq!(order.next(&[], now), Some(0));
        assert_eq!(order.next(&[0], now), Some(1));
        assert_eq!(order.next(&[0, 1], now), None);
    }
}
