//! Job: pods that run to completion, and the clean-up of finished Jobs (upstream pkg/controller/job, ttlafterfinished).

mod conditions;
mod indexes;
mod manage;
mod plan;
mod pods;
mod policy;
mod tracking;
mod ttl;

use client::{
    Informer, Kind, ObjectKey,
    kinds::{batch::v1::Job, core::v1::Pod},
};

pub use indexes::Indexes;
pub use plan::{Inputs, plan};
pub use ttl::register as register_ttl;

use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller},
    shared::{has_finalizer, label, owners, selector},
};

/// Pods keep it until they are counted in the Job's status.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Index of pods with the finalizer by the name of the Job they are (or were) of.
const TRACKED: &str = "job-tracking";

struct JobController {
    jobs: Informer<Job>,
    pods: Informer<Pod>,
}

impl Controller for JobController {
    fn name(&self) -> &'static str {
        "job-controller"
    }

    fn plan(&self, key: &ObjectKey, context: &Context) -> Plan {
        match self.jobs.get(&key.namespace, &key.name) {
            Some(job) => {
                let tracked = self.pods.by_index(TRACKED, &key.to_string());
                let orphans = tracked
                    .into_iter()
                    .filter(|pod| owners::controller_of(&**pod).is_none_or(|owner| owner.uid != job.uid()));
                let inputs = Inputs { pods: owners::candidates(&self.pods, &*job), orphans: orphans.collect(), job };
                plan(&inputs, context.now)
            }
            None => plan::plan_orphans(&self.pods.by_index(TRACKED, &key.to_string())),
        }
    }
}

fn job_name(pod: &Pod) -> Option<&str> {
    match owners::controller_of(pod) {
        Some(reference) => owners::names_kind::<Job>(reference).then_some(&*reference.name),
        None => label(pod, "batch.kubernetes.io/job-name").or(label(pod, "job-name")),
    }
}

pub fn register(setup: &mut Setup) {
    let jobs = setup.informer::<Job>();
    let pods = setup.informer::<Pod>();
    let queue = setup.queue("job-controller");
    owners::index_by_controller(&pods);
    pods.add_index(TRACKED, |pod| {
        let name = job_name(pod).filter(|_| has_finalizer(pod, TRACKING));
        name.map(|name| format!("{}/{name}", pod.namespace())).into_iter().collect()
    });
    owners::enqueue_self(&jobs, &queue);
    owners::enqueue_controller::<Pod, Job>(&pods, &queue);
    owners::enqueue_adopters(&pods, &jobs, &queue, |job| {
        selector::compile(job.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
    });
    let to = queue.clone();
    pods.on_event(move |delta| {
        let pod = owners::newest(delta);
        if let (None, true, Some(name)) =
            (owners::controller_of(&**pod), has_finalizer(&**pod, TRACKING), job_name(pod))
        {
            to.add(ObjectKey::new(pod.namespace(), name));
        }
    });
    setup.run(JobController { jobs, pods }, queue, 5);
}
