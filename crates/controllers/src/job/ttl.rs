//! Finished Jobs are deleted ttlSecondsAfterFinished later (upstream pkg/controller/ttlafterfinished).

use client::{DeleteParams, Informer, Kind, ObjectKey, Propagation, kinds::batch::v1::Job};
use jiff::Timestamp;

use super::conditions::finished_at;
use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller},
    shared::{after_seconds, is_deleting, owners, until},
};

struct TtlController(Informer<Job>);

fn plan(job: &Job, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let ttl = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished);
    let (Some(ttl), Some(finished), false) = (ttl, finished_at(job), is_deleting(job)) else {
        return plan;
    };
    match until(after_seconds(finished, ttl.into()), now) {
        Some(left) => plan.requeue_after(left),
        None => {
            // Held to what was seen, as the ttl may have been raised since.
            let params = DeleteParams {
                uid: Some(job.uid().into()),
                resource_version: Some(job.resource_version().into()),
                propagation: Some(Propagation::Foreground),
                ..DeleteParams::default()
            };
            plan.delete_with(job, params);
        }
    }
    plan
}

impl Controller for TtlController {
    fn name(&self) -> &'static str {
        "ttl-after-finished-controller"
    }

    fn plan(&self, key: &ObjectKey, context: &Context) -> Plan {
        self.0.get(&key.namespace, &key.name).map(|job| plan(&job, context.now)).unwrap_or_default()
    }
}

pub fn register(setup: &mut Setup) {
    let jobs = setup.informer::<Job>();
    let queue = setup.queue("ttl-after-finished-controller");
    owners::enqueue_self(&jobs, &queue);
    setup.run(TtlController(jobs), queue, 2);
}
