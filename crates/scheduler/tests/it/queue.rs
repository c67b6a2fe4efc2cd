//! The queue: order, backoff, events, and what must hold after any sequence of calls.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use scheduler::queue::{Delays, SchedulingQueue, Setback};
use serde_json::json;

use crate::fixtures::{info, pod};

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn rejected() -> Setback {
    Setback::Rejected(BTreeSet::from(["NodeResourcesFit"]))
}

fn pop(queue: &mut SchedulingQueue, seconds: i64) -> Option<String> {
    queue.pop(at(seconds)).map(|pod| pod.name().to_owned())
}

#[test]
fn the_more_important_goes_first_and_then_the_older() {
    let mut queue = SchedulingQueue::new(Delays::default());
    for (name, priority, second) in [("late", 0, 3), ("early", 0, 1), ("high", 5, 9)] {
        queue.add(info(pod(name, json!({ "spec": { "priority": priority } }))), at(second));
    }
    let order: Vec<_> = std::iter::from_fn(|| pop(&mut queue, 10)).collect();
    assert_eq!(order, ["high", "early", "late"]);
}

#[test]
fn an_unschedulable_pod_waits_for_a_helpful_event_or_five_minutes() {
    let mut queue = SchedulingQueue::new(Delays::default());
    queue.add(info(pod("p", json!({}))), at(0));
    assert_eq!(pop(&mut queue, 0).as_deref(), Some("p"));
    queue.set_back("uid-p", rejected(), at(0));
    queue.requeue(at(1), |_, rejectors| rejectors.contains("NodeAffinity"));
    assert_eq!(pop(&mut queue, 100), None);
    queue.requeue(at(100), |_, rejectors| rejectors.contains("NodeResourcesFit"));
    assert_eq!(pop(&mut queue, 100).as_deref(), Some("p"));
    queue.set_back("uid-p", rejected(), at(100));
    assert_eq!(queue.next_wakeup(), Some(at(400)));
    assert_eq!(pop(&mut queue, 399), None);
    assert_eq!(pop(&mut queue, 400).as_deref(), Some("p"));
}

#[test]
fn backoff_doubles_up_to_its_limit_and_is_cut_short_only_for_rejected_pods() {
    let mut queue = SchedulingQueue::new(Delays::default());
    queue.add(info(pod("p", json!({}))), at(0));
    let mut now = 0;
    for expect in [1, 2, 4, 8, 10, 10] {
        assert_eq!(pop(&mut queue, now).as_deref(), Some("p"));
        queue.set_back("uid-p", Setback::Error, at(now));
        assert_eq!(queue.next_wakeup(), Some(at(now + expect)));
        assert_eq!(pop(&mut queue, now + expect - 1), None);
        now += expect;
    }
    assert_eq!(pop(&mut queue, now).as_deref(), Some("p"));
    queue.set_back("uid-p", rejected(), at(now));
    queue.requeue(at(now), |_, _| true);
    assert_eq!(queue.counts(), (0, 1, 0), "it backs off");
    assert_eq!(pop(&mut queue, now).as_deref(), Some("p"), "nothing else is ready");
}

#[test]
fn gates_keep_a_pod_back_until_they_are_gone() {
    let mut queue = SchedulingQueue::new(Delays::default());
    queue.add(info(pod("p", json!({ "spec": { "schedulingGates": [{ "name": "g" }] } }))), at(0));
    assert_eq!(pop(&mut queue, 1000), None);
    queue.update(info(pod("p", json!({}))), at(1000));
    assert_eq!(pop(&mut queue, 1000).as_deref(), Some("p"));
}

#[derive(Clone, Debug)]
enum Call {
    Add(u8, bool),
    Update(u8, bool),
    Remove(u8),
    Pop,
    SetBack(u8, bool),
    Requeue(u8),
    Wait(u16),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        (0..6_u8, any::<bool>()).prop_map(|(pod, gated)| Call::Add(pod, gated)),
        (0..6_u8, any::<bool>()).prop_map(|(pod, gated)| Call::Update(pod, gated)),
        (0..6_u8).prop_map(Call::Remove),
        Just(Call::Pop),
        (0..6_u8, any::<bool>()).prop_map(|(pod, error)| Call::SetBack(pod, error)),
        (0..6_u8).prop_map(Call::Requeue),
        (0..400_u16).prop_map(Call::Wait),
    ]
}

proptest! {
    /// Every pod stands in exactly the place it is said to stand in, and none waits for ever: given time and no further
    /// events, every pod that is neither gated nor taken comes out.
    #[test]
    fn no_pod_is_lost_or_doubled(calls in prop::collection::vec(call(), 1..60)) {
        let mut queue = SchedulingQueue::new(Delays::default());
        let mut now = 0;
        let make = |id: u8, gated: bool| {
            let gates = if gated { json!([{ "name": "g" }]) } else { json!([]) };
            info(pod(&id.to_string(), json!({ "spec": { "priority": i32::from(id) % 3, "schedulingGates": gates } })))
        };
        let uid = |id: u8| format!("uid-{id}");
        for call in calls {
            match call {
                Call::Add(id, gated) => queue.add(make(id, gated), at(now)),
                Call::Update(id, gated) => queue.update(make(id, gated), at(now)),
                Call::Remove(id) => drop(queue.remove(&uid(id))),
                Call::Pop => drop(queue.pop(at(now))),
                Call::SetBack(id, error) => queue.set_back(&uid(id), if error { Setback::Error } else { rejected() }, at(now)),
                Call::Requeue(id) => queue.requeue(at(now), |pod, _| pod.uid() == uid(id)),
                Call::Wait(seconds) => now += i64::from(seconds),
            }
            prop_assert_eq!(queue.check(), Ok(()));
        }
        let (active, backoff, unschedulable) = queue.counts();
        let gated = (0..6).filter(|id| queue.get(&uid(*id)).is_some_and(|pod| pod.is_gated())).count();
        let popped = std::iter::from_fn(|| queue.pop(at(now + 1000))).count();
        prop_assert!(popped + gated >= active + backoff + unschedulable, "{popped} of {active} {backoff} {unschedulable}");
    }
}
