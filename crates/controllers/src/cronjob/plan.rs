//! One pass over a CronJob (upstream cronjob_controllerv2.go `syncCronJob`).
//!
//! A Job's name says which scheduled time it is for, so that the same time is never run twice. It is entered in
//! status.active in the pass after the one that created it, when its UID is known.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use client::{
    Kind,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    kinds::{
        batch::v1::{CronJob, CronJobStatus, Job},
        core::v1::ObjectReference,
    },
};
use jiff::{Timestamp, tz::TimeZone};

use super::schedule::{Schedule, zone};
use crate::{
    plan::{Plan, PlannedEvent},
    shared::{after_seconds, created_at, is_deleting, owners, template, until},
};

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// So many missed times are worth a warning.
const MANY_MISSED: usize = 100;

pub struct Inputs {
    pub cron: Arc<CronJob>,
    /// The Jobs it controls.
    pub jobs: Vec<Arc<Job>>,
}

fn outcome(job: &Job) -> Option<&'static str> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ended = conditions.filter(|condition| condition.status == "True");
    ended.find_map(|condition| match condition.type_.as_str() {
        "Complete" => Some("Complete"),
        "Failed" => Some("Failed"),
        _ => None,
    })
}

pub fn plan(inputs: &Inputs, is_taken: impl Fn(&str) -> bool, now: Timestamp) -> Plan {
    let cron = &*inputs.cron;
    let mut plan = Plan::default();
    let before = cron.status.clone().unwrap_or_default();
    let mut status = before.clone();
    follow_jobs(&mut plan, inputs, &mut status);
    clean_up(&mut plan, inputs);
    let is_suspended = cron.spec.suspend == Some(true);
    if !is_deleting(cron) && !is_suspended {
        run(&mut plan, inputs, &mut status, is_taken, now);
    }
    if status != before {
        plan.update_status(&CronJob { status: Some(status), ..cron.clone() });
    }
    plan
}

/// Enters running Jobs in status.active and takes finished and vanished ones out.
fn follow_jobs(plan: &mut Plan, inputs: &Inputs, status: &mut CronJobStatus) {
    let cron = &*inputs.cron;
    let mut active = status.active.take().unwrap_or_default();
    let known: BTreeSet<String> = active.iter().filter_map(|reference| reference.uid.clone()).collect();
    for job in &inputs.jobs {
        match (outcome(job), known.contains(job.uid())) {
            (Some(end), true) => {
                let message = format!("Saw completed job: {}, condition: {end}", job.name());
                plan.event(PlannedEvent::normal(cron, "SawCompletedJob", message));
            }
            (None, false) => active.push(reference(job)),
            _ => {}
        }
        let completed = job.status.as_ref().and_then(|status| status.completion_time.clone());
        if outcome(job) == Some("Complete")
            && completed.as_ref().map(|time| time.0) > status.last_successful_time.as_ref().map(|time| time.0)
        {
            status.last_successful_time = completed;
        }
    }
    active.retain(|reference| {
        let job = inputs.jobs.iter().find(|job| Some(job.uid()) == reference.uid.as_deref());
        job.is_some_and(|job| outcome(job).is_none())
    });
    status.active = (!active.is_empty()).then_some(active);
}

fn reference(job: &Job) -> ObjectReference {
    client::reference(job)
}

fn clean_up(plan: &mut Plan, inputs: &Inputs) {
    let spec = &inputs.cron.spec;
    let limits = [
        ("Complete", spec.successful_jobs_history_limit.unwrap_or(3)),
        ("Failed", spec.failed_jobs_history_limit.unwrap_or(1)),
    ];
    for (end, limit) in limits {
        let mut ended: Vec<&Arc<Job>> =
            inputs.jobs.iter().filter(|job| outcome(job) == Some(end) && !is_deleting(&***job)).collect();
        ended.sort_by_key(|job| {
            (
                job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0),
                job.name().to_owned(),
            )
        });
        let surplus = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        for job in ended.into_iter().take(surplus) {
            delete(plan, inputs, job);
        }
    }
}

fn delete(plan: &mut Plan, inputs: &Inputs, job: &Job) {
    let message = format!("Deleted job {}", job.name());
    plan.delete(job).then(PlannedEvent::normal(&*inputs.cron, "SuccessfulDelete", message));
}

fn run(plan: &mut Plan, inputs: &Inputs, status: &mut CronJobStatus, is_taken: impl Fn(&str) -> bool, now: Timestamp) {
    let cron = &*inputs.cron;
    let spec = cron.spec.clone();
    let zone = match zone(spec.time_zone.as_deref()) {
        Ok(zone) => zone,
        Err(error) => return plan.event(PlannedEvent::warning(cron, "UnknownTimeZone", error.to_string())),
    };
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            return plan.event(PlannedEvent::warning(cron, "UnparseableSchedule", message));
        }
    };
    if let Some(wait) = schedule.next(now, &zone).and_then(|next| until(next, now)) {
        plan.requeue_after(wait + Duration::from_millis(100));
    }
    let mut since = status.last_schedule_time.as_ref().map_or_else(|| created_at(cron), |time| time.0);
    if let Some(deadline) = spec.starting_deadline_seconds {
        since = since.max(after_seconds(now, -deadline));
    }
    let Some(scheduled) = schedule.last(since, now, &zone) else {
        return;
    };
    warn_of_missed(plan, cron, &schedule, &zone, since, now);
    let name = format!("{}-{}", cron.name(), scheduled.as_second().div_euclid(60));
    if is_taken(&name) {
        status.last_schedule_time = Some(Time(scheduled));
        return;
    }
    let running = inputs.jobs.iter().filter(|job| outcome(job).is_none());
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if running.clone().next().is_some() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            return plan.event(PlannedEvent::normal(cron, "JobAlreadyActive", message));
        }
        Some("Replace") => running.filter(|job| !is_deleting(&***job)).for_each(|job| delete(plan, inputs, job)),
        _ => {}
    }
    let message = format!("Created job {name}");
    plan.create(&new_job(cron, name, scheduled, &zone))
        .ignore_already_exists()
        .then(PlannedEvent::normal(cron, "SuccessfulCreate", message))
        .on_failure(PlannedEvent::warning(cron, "FailedCreate", "Error creating job: "));
    status.last_schedule_time = Some(Time(scheduled));
}

fn warn_of_missed(
    plan: &mut Plan,
    cron: &CronJob,
    schedule: &Schedule,
    zone: &TimeZone,
    since: Timestamp,
    now: Timestamp,
) {
    let mut at = since;
    for _ in 0..MANY_MISSED {
        match schedule.next(at, zone).filter(|next| *next <= now) {
            Some(next) => at = next,
            None => return,
        }
    }
    let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
    plan.event(PlannedEvent::warning(cron, "TooManyMissedTimes", message));
}

fn new_job(cron: &CronJob, name: String, scheduled: Timestamp, zone: &TimeZone) -> Job {
    let template = cron.spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let local = scheduled.to_zoned(zone.clone());
    let text =
        if *zone == TimeZone::UTC { scheduled.to_string() } else { local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string() };
    annotations.insert(SCHEDULED_AT.into(), text);
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(cron.namespace().into()),
            labels: meta.labels.and_then(template::some),
            annotations: Some(annotations),
            owner_references: Some(vec![owners::controller_ref(cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}
