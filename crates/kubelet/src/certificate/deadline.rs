//! When a certificate is replaced (client-go `certificate_manager.go`: `nextRotationDeadline`, `certSatisfiesTemplate`).

use jiff::{SignedDuration, Timestamp};

use super::{Facts, NODES_GROUP, Template};

/// Of a certificate's life, after which it is replaced: between seven and nine tenths, so that machines that joined
/// together do not all ask at once.
const EARLIEST: f64 = 0.7;
const SPREAD: f64 = 0.2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    Now(Reason),
    /// Then, if nothing changes before.
    At(Timestamp),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Missing,
    /// It is for another user or lacks the group.
    Subject,
    /// It lacks a name or address that the node is reached by; further ones do not matter.
    Names,
    Due,
}

/// `jitter` from 0 to 1 says where in the time of replacement this machine's turn is. It is to be drawn once for each
/// certificate.
pub fn rotation(current: Option<&Facts>, wanted: &Template, jitter: f64, now: Timestamp) -> Rotation {
    let Some(facts) = current else { return Rotation::Now(Reason::Missing) };
    if facts.common_name != wanted.common_name() || !facts.organizations.contains(NODES_GROUP) {
        return Rotation::Now(Reason::Subject);
    }
    if !wanted.dns_names.is_subset(&facts.dns_names) || !wanted.ip_addresses.is_subset(&facts.ip_addresses) {
        return Rotation::Now(Reason::Names);
    }
    let deadline = deadline(facts, jitter);
    if deadline <= now { Rotation::Now(Reason::Due) } else { Rotation::At(deadline) }
}

/// Within the certificate's life, whatever `jitter` is.
pub fn deadline(facts: &Facts, jitter: f64) -> Timestamp {
    let life = facts.not_after.duration_since(facts.not_before).max(SignedDuration::ZERO);
    let share = EARLIEST + SPREAD * if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
    facts.not_before.saturating_add(life.mul_f64(share)).unwrap_or(facts.not_after)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn facts(from: i64, to: i64) -> Facts {
        Facts {
            common_name: "system:node:n1".into(),
            organizations: BTreeSet::from(["system:nodes".to_owned()]),
            dns_names: BTreeSet::from(["n1".to_owned(), "old".to_owned()]),
            ip_addresses: BTreeSet::new(),
            not_before: at(from),
            not_after: at(to),
            public_key: Vec::new(),
        }
    }

    #[test]
    fn a_certificate_is_replaced_when_it_does_not_fit_or_its_time_has_come() {
        let client = Template::client("n1");
        let serving = |name: &str| Template { dns_names: BTreeSet::from([name.to_owned()]), ..Template::client("n1") };
        let fitting = facts(0, 1000);
        let cases = [
            (None, client.clone(), 0, Rotation::Now(Reason::Missing)),
            (Some(fitting.clone()), client.clone(), 0, Rotation::At(at(800))),
            (Some(fitting.clone()), client.clone(), 799, Rotation::At(at(800))),
            (Some(fitting.clone()), client.clone(), 800, Rotation::Now(Reason::Due)),
            (Some(fitting.clone()), client.clone(), 5000, Rotation::Now(Reason::Due)),
            (Some(fitting.clone()), serving("n1"), 0, Rotation::At(at(800))),
            (Some(fitting.clone()), serving("new"), 0, Rotation::Now(Reason::Names)),
            (Some(fitting.clone()), Template::client("n2"), 0, Rotation::Now(Reason::Subject)),
            (Some(Facts { organizations: BTreeSet::new(), ..fitting }), client, 0, Rotation::Now(Reason::Subject)),
        ];
        for (current, wanted, now, expected) in cases {
            assert_eq!(rotation(current.as_ref(), &wanted, 0.5, at(now)), expected, "{current:?} {wanted:?} {now}");
        }
    }

    proptest! {
        #[test]
        fn the_deadline_lies_between_seven_and_nine_tenths(
            from in -1_000_000_000i64..4_000_000_000,
            life in 0i64..400_000_000,
            jitter in 0.0f64..=1.0,
        ) {
            let at = deadline(&facts(from, from + life), jitter).duration_since(at(from)).as_secs_f64();
            let life = life as f64;
            prop_assert!(at >= life * 0.7 - 1e-3 && at <= life * 0.9 + 1e-3, "{at} of {life}");
        }

        #[test]
        fn no_jitter_leads_out_of_the_certificates_life(jitter in any::<f64>()) {
            let at = deadline(&facts(100, 1100), jitter).as_second();
            prop_assert!((800..=1000).contains(&at));
        }
    }
}
