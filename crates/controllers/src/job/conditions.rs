//! A Job's conditions.

use client::{
    apimachinery::pkg::apis::meta::v1::Time,
    kinds::batch::v1::{Job, JobCondition, JobStatus},
};
use jiff::Timestamp;

pub const COMPLETE: &str = "Complete";
pub const FAILED: &str = "Failed";
/// Said before the Job is Failed, while its pods still end.
pub const FAILURE_TARGET: &str = "FailureTarget";
/// Said before the Job is Complete, while its pods still end.
pub const SUCCESS_MET: &str = "SuccessCriteriaMet";

pub fn new(name: &str, status: &str, reason: &str, message: impl Into<String>, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: name.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

pub fn find<'a>(status: &'a JobStatus, name: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == name)
}

pub fn holds(status: &JobStatus, name: &str) -> bool {
    find(status, name).is_some_and(|condition| condition.status == "True")
}

pub fn is_finished(job: &Job) -> bool {
    job.status.as_ref().is_some_and(|status| holds(status, COMPLETE) || holds(status, FAILED))
}

/// When the Job finished.
pub fn finished_at(job: &Job) -> Option<Timestamp> {
    let ended =
        |condition: &&JobCondition| matches!(&*condition.type_, COMPLETE | FAILED) && condition.status == "True";
    let condition = job.status.as_ref()?.conditions.iter().flatten().find(ended)?;
    condition.last_transition_time.as_ref().map(|time| time.0)
}

/// Sets a condition whose status or reason changed; a False one is not made up. True where anything changed.
pub fn ensure(status: &mut JobStatus, condition: JobCondition) -> bool {
    let all = status.conditions.get_or_insert_default();
    match all.iter_mut().find(|known| known.type_ == condition.type_) {
        Some(known)
            if known.status == condition.status
                && known.reason == condition.reason
                && known.message == condition.message =>
        {
            false
        }
        Some(known) => {
            *known = condition;
            true
        }
        None if condition.status == "False" => {
            if all.is_empty() {
                status.conditions = None;
            }
            false
        }
        None => {
            all.push(condition);
            true
        }
    }
}
