//! ServiceCIDRs: ready to give addresses, and kept until none of their addresses would be left without a range (upstream
//! pkg/controller/servicecidrs).

use std::time::Duration;

use client::{
    Delta, Informer, Kind, ObjectKey, PatchKind, WorkQueue,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    kinds::networking::v1::{IPAddress, ServiceCIDR},
};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller},
    shared::{finalizers, has_finalizer, is_deleting, label, range::Range, until},
};

const NAME: &str = "service-cidr-controller";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: (&str, &str, &str) = ("True", "", "Kubernetes Service CIDR is ready");
const TERMINATING: (&str, &str, &str) = (
    "False",
    "Terminating",
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
);
/// After this long every API server knows that the range is going and gives no address from it.
const GRACE: Duration = Duration::from_secs(10);

fn ranges(object: &ServiceCIDR) -> Vec<Range> {
    let texts = object.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    texts.filter_map(|text| Range::parse(text)).collect()
}

/// Whether no address would be orphaned: all ranges lie in others, or no address is in this one alone.
fn can_go(object: &ServiceCIDR, others: &[&ServiceCIDR], addresses: &[&IPAddress]) -> bool {
    let own = ranges(object);
    let others: Vec<Range> = others.iter().flat_map(|other| ranges(other)).collect();
    let is_in = |ranges: &[Range], inner: &Range| ranges.iter().any(|range| range.contains(inner));
    if own.iter().all(|range| is_in(&others, range)) {
        return true;
    }
    let is_allocated =
        |address: &&&IPAddress| label(**address, "ipaddress.kubernetes.io/managed-by") == Some("ipallocator.k8s.io");
    let allocated = addresses.iter().filter(is_allocated).filter_map(|address| address.name().parse().ok());
    !allocated.map(Range::of).any(|address| is_in(&own, &address) && !is_in(&others, &address))
}

pub fn plan(object: &ServiceCIDR, others: &[&ServiceCIDR], addresses: &[&IPAddress], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let is_kept = has_finalizer(object, FINALIZER);
    if !is_deleting(object) {
        if !is_kept {
            finalizers::keep(&mut plan, object, FINALIZER);
        }
        condition(&mut plan, object, READY, now);
    } else if is_kept && !can_go(object, others, addresses) {
        condition(&mut plan, object, TERMINATING, now);
    } else if is_kept {
        let deleted = object.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
        match until(deleted + GRACE, now) {
            Some(left) => plan.requeue_after(left),
            None => finalizers::let_go(&mut plan, object, FINALIZER),
        }
    }
    plan
}

fn condition(plan: &mut Plan, object: &ServiceCIDR, (status, reason, message): (&str, &str, &str), now: Timestamp) {
    let all: Vec<Condition> = object.status.clone().and_then(|status| status.conditions).unwrap_or_default();
    let (ready, mut others): (Vec<_>, Vec<_>) = all.into_iter().partition(|condition| condition.type_ == "Ready");
    let is_said = |was: &Condition| (&*was.status, &*was.reason, &*was.message) == (status, reason, message);
    if ready.first().is_some_and(is_said) {
        return;
    }
    let same = ready.into_iter().find(|was| was.status == status);
    others.push(Condition {
        type_: "Ready".into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: same.map_or(Time(now), |was| was.last_transition_time),
        observed_generation: None,
    });
    plan.patch_status(object, PatchKind::Merge, &json!({"status": {"conditions": others}})).ignore_not_found();
}

struct ServiceCidrs {
    ranges: Informer<ServiceCIDR>,
    addresses: Informer<IPAddress>,
}

impl Controller for ServiceCidrs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &ObjectKey, context: &Context) -> Plan {
        let all = self.ranges.list();
        let Some(object) = all.iter().find(|object| object.name() == key.name) else { return Plan::default() };
        let others: Vec<&ServiceCIDR> =
            all.iter().filter(|other| other.name() != key.name).map(|other| &**other).collect();
        // Only one that is going asks whose its addresses are.
        let addresses = if is_deleting(&**object) { self.addresses.list() } else { Vec::new() };
        let addresses: Vec<&IPAddress> = addresses.iter().map(|address| &**address).collect();
        plan(object, &others, &addresses, context.now)
    }
}

pub fn register(setup: &mut Setup) {
    let ranges = setup.informer::<ServiceCIDR>();
    let addresses = setup.informer::<IPAddress>();
    let queue = setup.queue(NAME);
    // A range or an address that comes or goes may hold up one that is going, or let it go.
    fn again(ranges: &Informer<ServiceCIDR>, queue: &WorkQueue<ObjectKey>) {
        ranges.list().iter().filter(|range| is_deleting(&***range)).for_each(|range| queue.add(range.key()));
    }
    let (to, all) = (queue.clone(), ranges.clone());
    ranges.on_event(move |delta| {
        if let Delta::Added(range) | Delta::Updated { new: range, .. } = delta {
            to.add(range.key());
        }
        again(&all, &to);
    });
    let (to, all) = (queue.clone(), ranges.clone());
    addresses.on_event(move |delta| {
        if !matches!(delta, Delta::Updated { .. }) {
            again(&all, &to);
        }
    });
    setup.run(ServiceCidrs { ranges, addresses }, queue, 1);
}
