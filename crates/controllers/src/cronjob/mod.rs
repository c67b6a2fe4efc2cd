//! CronJob: Jobs by the clock (upstream pkg/controller/cronjob).

mod plan;
mod schedule;

use client::{
    Informer, Kind, ObjectKey,
    kinds::batch::v1::{CronJob, Job},
};

pub use plan::{Inputs, plan};
pub use schedule::{Schedule, ScheduleError};

use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller},
    shared::owners,
};

struct CronJobController {
    crons: Informer<CronJob>,
    jobs: Informer<Job>,
}

impl Controller for CronJobController {
    fn name(&self) -> &'static str {
        "cronjob-controller"
    }

    fn plan(&self, key: &ObjectKey, context: &Context) -> Plan {
        let Some(cron) = self.crons.get(&key.namespace, &key.name) else {
            return Plan::default();
        };
        let jobs = self.jobs.by_index(owners::BY_CONTROLLER, cron.uid());
        let is_taken = |name: &str| self.jobs.get(&key.namespace, name).is_some();
        plan(&Inputs { cron, jobs }, is_taken, context.now)
    }
}

pub fn register(setup: &mut Setup) {
    let crons = setup.informer::<CronJob>();
    let jobs = setup.informer::<Job>();
    let queue = setup.queue("cronjob-controller");
    owners::index_by_controller(&jobs);
    owners::enqueue_self(&crons, &queue);
    owners::enqueue_controller::<Job, CronJob>(&jobs, &queue);
    setup.run(CronJobController { crons, jobs }, queue, 5);
}
