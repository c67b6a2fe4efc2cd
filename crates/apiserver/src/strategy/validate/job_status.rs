//! The status of Jobs (`pkg/apis/batch/validation`: ValidateJobStatusUpdate; when each rule holds: `pkg/registry/batch/job`,
//! getStatusValidationOptions). A rule holds where what it is about changes, so that a status that is wrong in one point can
//! still be mended in another.

use std::collections::HashSet;

use super::at::At;

const IMMUTABLE: &str = "field is immutable";

/// The status before or after.
struct Status<'s, 'v> {
    at: &'s At<'v, 's>,
}

impl Status<'_, '_> {
    fn has(&self, kind: &str, status: &str) -> bool {
        let mut conditions = self.at.value().get("conditions").and_then(api::Value::as_array).into_iter().flatten();
        conditions.any(|condition| condition.str_at(&["type"]) == kind && condition.str_at(&["status"]) == status)
    }

    fn is(&self, kind: &str) -> bool {
        self.has(kind, "True")
    }

    fn is_finished(&self) -> bool {
        self.is("Complete") || self.is("Failed")
    }
}

pub(super) fn check(at: &At, old: &At) {
    let (place, place_before) = (at.get("status"), old.get("status"));
    let (now, before) = (Status { at: &place }, Status { at: &place_before });
    let spec = at.get("spec");
    for name in ["active", "succeeded", "failed", "ready", "terminating"] {
        place.get(name).non_negative();
    }
    uncounted(&place);
    times(&now, &before, &spec);
    outcome(&now, &before, &spec);
    finished(&now, &before, &spec);
    indexes(&now, &before, &spec);
    kept(&now, &before, &spec);
}

fn changes(now: &Status, before: &Status, names: &[&str]) -> bool {
    names.iter().any(|name| !now.at.get(name).same(&before.at.get(name)))
}

fn flips(now: &Status, before: &Status, kinds: &[&str]) -> bool {
    kinds.iter().any(|kind| now.is(kind) != before.is(kind))
}

fn uncounted(status: &At) {
    let lists = status.get("uncountedTerminatedPods");
    let mut seen: HashSet<&str> = HashSet::new();
    for name in ["succeeded", "failed"] {
        for uid in lists.get(name).items() {
            match uid.text() {
                "" => uid.invalid("must not be empty"),
                text if seen.insert(text) => {}
                _ => uid.duplicate(),
            }
        }
    }
}

fn times(now: &Status, before: &Status, spec: &At) {
    let (start, completion) = (now.at.get("startTime"), now.at.get("completionTime"));
    let is_complete = now.is("Complete");
    if flips(now, before, &["Complete"]) || changes(now, before, &["completionTime"]) {
        if completion.is_set() && !is_complete {
            completion.invalid("cannot set completionTime when there is no Complete=True condition");
        }
        if !completion.is_set() && is_complete {
            completion.required("completionTime is required for Complete jobs");
        }
    }
    let instant = |at: &At| api::time::parse(at.text()).ok();
    if changes(now, before, &["startTime", "completionTime"])
        && let (Some(start), Some(end)) = (instant(&start), instant(&completion))
        && end < start
    {
        completion.invalid("must be equal to or after `startTime`");
    }
    let is_empty_and_suspended = spec.get("suspend").is_true() && spec.get("completions").int() == Some(0);
    let begins = now.is_finished() != before.is_finished() || changes(now, before, &["startTime"]);
    if begins && !is_empty_and_suspended && !start.is_set() && now.is_finished() {
        start.required("startTime is required for finished job");
    }
}

/// Which conditions go together.
fn outcome(now: &Status, before: &Status, spec: &At) {
    let conditions = now.at.get("conditions");
    for (one, other, detail) in [
        ("Complete", "Failed", "cannot set Complete=True and Failed=true conditions"),
        ("Complete", "FailureTarget", "cannot set Complete=True and FailureTarget=true conditions"),
    ] {
        if flips(now, before, &[one, other]) && now.is(one) && now.is(other) {
            conditions.invalid_unseen(detail);
        }
    }
    let failed = flips(now, before, &["Failed"]) || changes(now, before, &["failedIndexes"]);
    if failed && now.is("Failed") && !now.is("FailureTarget") {
        conditions.invalid_unseen("cannot set Failed=True condition without the FailureTarget=true condition");
    }
    if flips(now, before, &["Complete", "SuccessCriteriaMet"]) && now.is("Complete") && !now.is("SuccessCriteriaMet") {
        conditions.invalid_unseen("cannot set Complete=True condition without the SuccessCriteriaMet=true condition");
    }
    for (other, detail) in [
        ("Failed", "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
        ("FailureTarget", "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"),
    ] {
        if now.is("SuccessCriteriaMet") && now.is(other) {
            conditions.invalid_unseen(detail);
        }
    }
    if spec.get("successPolicy").is_set() && now.is("Complete") && !now.is("SuccessCriteriaMet") {
        let detail = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        conditions.invalid_unseen(detail);
    }
}

/// A Job that has ended has no pods left.
fn finished(now: &Status, before: &Status, _spec: &At) {
    let finishes = now.is_finished() != before.is_finished();
    let count = |name: &str| now.at.get(name).int().unwrap_or(0);
    if now.is_finished() {
        if (finishes || changes(now, before, &["active"])) && count("active") > 0 {
            now.at.get("active").invalid("active>0 is invalid for finished job");
        }
        let pods = now.at.get("uncountedTerminatedPods");
        let some = ["succeeded", "failed"].iter().any(|name| !pods.get(name).is_empty());
        if (finishes || changes(now, before, &["uncountedTerminatedPods"])) && some {
            pods.invalid("must be empty for finished job");
        }
        if (finishes || changes(now, before, &["terminating"])) && count("terminating") > 0 {
            now.at.get("terminating").invalid("terminating>0 is invalid for finished job");
        }
    }
    let ready = now.at.get("ready");
    if changes(now, before, &["ready", "active"]) && ready.int().is_some_and(|ready| ready > count("active")) {
        ready.invalid("cannot set more ready pods than active");
    }
}

fn indexes(now: &Status, before: &Status, spec: &At) {
    let (completed, failed) = (now.at.get("completedIndexes"), now.at.get("failedIndexes"));
    let (new_completed, new_failed) =
        (changes(now, before, &["completedIndexes"]), changes(now, before, &["failedIndexes"]));
    let completions = spec.get("completions").int();
    let per_index = spec.get("backoffLimitPerIndex").is_set();
    if let Some(completions) = completions {
        if let (true, Err(error)) = (new_completed, intervals(completed.text(), completions)) {
            completed.invalid(format!("error parsing completedIndexes: {error}"));
        }
        if let (true, Err(error)) = (new_failed && per_index, intervals(failed.text(), completions)) {
            failed.invalid(format!("error parsing failedIndexes: {error}"));
        }
    }
    if new_completed && !completed.is_empty() && spec.get("completionMode").text() != "Indexed" {
        completed.invalid("cannot set non-empty completedIndexes when non-indexed completion mode");
    }
    if new_failed && failed.is_set() && !per_index {
        failed.invalid("cannot set non-null failedIndexes when backoffLimitPerIndex is null");
    }
    if (new_completed || new_failed)
        && let Some(index) = completions.and_then(|completions| overlap(completed.text(), failed.text(), completions))
    {
        failed.invalid(format!("failedIndexes and completedIndexes overlap at index: {index}"));
    }
}

/// `1,3-5`: first and last index of each interval.
fn intervals(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut all: Vec<(i64, i64)> = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = interval(part, completions)?;
        if let Some((_, previous)) = all.last().filter(|(_, previous)| *previous >= first) {
            return Err(format!("non-increasing order, previous: {previous}, current: {first}"));
        }
        all.push((first, last));
    }
    Ok(all)
}

fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let index = |text: &str| match text.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
        Ok(index) if index >= completions => Err(format!("too large index: {text:?}")),
        Ok(index) => Ok(index),
    };
    match text.split('-').collect::<Vec<_>>()[..] {
        [only] => index(only).map(|index| (index, index)),
        [first, last] => {
            let (first, last) = (index(first)?, index(last)?);
            if first >= last {
                return Err(format!("non-increasing order, previous: {first}, current: {last}"));
            }
            Ok((first, last))
        }
        _ => Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

/// The first index that is in both. What cannot be read is another rule's to report.
fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let [mut completed, mut failed] =
        [completed, failed].map(|text| text.split(',').filter_map(|part| interval(part, completions).ok()).peekable());
    while let (Some(one), Some(other)) = (completed.peek(), failed.peek()) {
        if one.1 < other.0 {
            completed.next();
        } else if other.1 < one.0 {
            failed.next();
        } else {
            return Some(one.0.max(other.0));
        }
    }
    None
}

/// What does not go back.
fn kept(now: &Status, before: &Status, spec: &At) {
    let conditions = now.at.get("conditions");
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if before.is(kind) && !now.is(kind) {
            conditions.invalid_unseen(&format!("cannot disable the terminal {kind}=True condition"));
        }
    }
    let decreases = |name: &str| now.at.get(name).int().unwrap_or(0) < before.at.get(name).int().unwrap_or(0);
    if decreases("failed") {
        now.at
            .get("failed")
            .invalid_value(now.at.get("failed").int().unwrap_or(0), "cannot decrease the failed counter");
    }
    let is_indexed = spec.get("completionMode").text() == "Indexed";
    let may_shrink = is_indexed && spec.get("completions").same(&spec.get("parallelism"));
    if !may_shrink && decreases("succeeded") {
        let count = now.at.get("succeeded").int().unwrap_or(0);
        now.at.get("succeeded").invalid_value(count, "cannot decrease the succeeded counter");
    }
    let (completion, was) = (now.at.get("completionTime"), before.at.get("completionTime"));
    if completion.is_set() && was.is_set() && !completion.same(&was) {
        completion.invalid(IMMUTABLE);
    }
    let (start, was) = (now.at.get("startTime"), before.at.get("startTime"));
    let resumes = before.is("Suspended") && now.has("Suspended", "False");
    if was.is_set() && !start.same(&was) && !spec.get("suspend").is_true() && !resumes {
        start.invalid("field is immutable for unsuspended job once set");
    }
    if before.is("SuccessCriteriaMet") && !now.is("SuccessCriteriaMet") {
        conditions.invalid_unseen("cannot disable the SuccessCriteriaMet=True condition");
    }
    if before.is("Complete") && !before.is("SuccessCriteriaMet") && now.is("SuccessCriteriaMet") {
        conditions.invalid_unseen("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions");
    }
}
