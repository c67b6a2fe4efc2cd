//! Jobs and CronJobs (`pkg/apis/batch/validation`).

use std::collections::HashSet;

use api::{Value, names};
use jiff::tz::TimeZone;

use super::{
    at::{At, IMMUTABLE},
    common, cron, pod,
};

const COMPLETIONS_HIGH: i64 = 100_000;
const PARALLELISM_HIGH: i64 = 10_000;
const MANAGED_BY_MAX: usize = 63;
const RULES_MAX: usize = 20;

fn is_indexed(spec: &At) -> bool {
    spec.get("completionMode").text() == "Indexed"
}

pub(super) fn job(at: &At) {
    generated_selector(at);
    job_changed(at);
    let spec = at.get("spec");
    let metadata = at.get("metadata");
    let name = metadata.get("name");
    if let Some(count) = spec.get("completions").int().filter(|count| *count > 0 && is_indexed(&spec)) {
        let host = format!("{}-{}", name.text(), count - 1);
        if !names::dns1123_label(&host).is_empty() {
            name.invalid(format!("will not able to create pod with invalid DNS label: {host}"));
        }
    }
}

/// `validateGeneratedSelector`.
fn generated_selector(at: &At) {
    let (spec, metadata) = (at.get("spec"), at.get("metadata"));
    if spec.get("manualSelector").is_true() || !spec.get("selector").is_set() {
        return;
    }
    let (uid, name) = (metadata.get("uid").text(), metadata.get("name").text());
    let template = spec.get("template");
    let own = template.get("metadata");
    let labels = own.get("labels");
    let wanted = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    for (key, value) in wanted {
        let label = labels.key(key);
        if !label.is_set() {
            label.required(&format!("must be '{value}'"));
        } else if label.text() != value {
            label.invalid_value(labels.value(), format!("must be '{value}'"));
        }
    }
    let mut expected = Value::object();
    for (key, value) in wanted {
        expected.set(&[key], value);
    }
    let selector = spec.get("selector");
    let parsed = api::selector::LabelSelector::from_value(Some(selector.value()));
    if parsed.is_ok_and(|parsed| !parsed.matches_with(|key| expected.get(key).and_then(Value::as_str))) {
        selector.invalid("`selector` not auto-generated");
    }
}

/// `ValidateJobSpec`.
pub(super) fn job_changed(at: &At) {
    let spec = at.get("spec");
    job_spec(&spec);
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    if !selector.is_set() {
        selector.required("");
    }
    common::label_selector(&selector);
    let metadata = template.get("metadata");
    let labels = metadata.get("labels");
    if common::selects(&selector, &labels) == Some(false) {
        labels.invalid("`selector` does not match template `labels`");
    }
}

fn job_spec(spec: &At) {
    for name in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        spec.get(name).non_negative();
    }
    if spec.get("maxFailedIndexes").is_set() && !spec.get("backoffLimitPerIndex").is_set() {
        spec.get("backoffLimitPerIndex").required("when maxFailedIndexes is specified");
    }
    let manager = spec.get("managedBy");
    if manager.is_set() {
        common::domain_prefixed_path(&manager);
        manager.max_bytes(MANAGED_BY_MAX);
    }
    spec.get("completionMode").one_of_if_set(&["NonIndexed", "Indexed"]);
    if is_indexed(spec) {
        indexed(spec);
    } else if !spec.get("completionMode").is_set() || spec.get("completionMode").text() == "NonIndexed" {
        for name in ["backoffLimitPerIndex", "maxFailedIndexes"].into_iter().filter(|name| spec.get(name).is_set()) {
            spec.get(name).invalid("requires indexed completion mode");
        }
    }
    failure_policy(spec);
    success_policy(spec);
    let (failure, replacement) = (spec.get("podFailurePolicy"), spec.get("podReplacementPolicy"));
    if failure.is_set() {
        replacement.one_of_if_set(&["Failed"]);
    } else {
        replacement.one_of_if_set(&["Failed", "TerminatingOrFailed"]);
    }
    let template = spec.get("template");
    pod::template(&template);
    let pod = template.get("spec");
    let policy = pod.get("restartPolicy");
    match policy.text() {
        "" | "Always" => policy.required("valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if failure.is_set() => {
            policy.invalid("only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" | "Never" => {}
        _ => policy.not_supported(&["OnFailure", "Never"]),
    }
}

fn indexed(spec: &At) {
    let (completions, parallelism, failed) =
        (spec.get("completions"), spec.get("parallelism"), spec.get("maxFailedIndexes"));
    if !completions.is_set() {
        completions.required("when completion mode is Indexed");
    }
    let above = |at: &At<'_, '_>, max: i64| at.int().is_some_and(|number| number > max);
    if above(&parallelism, COMPLETIONS_HIGH) {
        parallelism
            .invalid(format!("must be less than or equal to {COMPLETIONS_HIGH} when completion mode is Indexed"));
    }
    if completions.int().is_some_and(|count| above(&failed, count)) {
        failed.invalid("must be less than or equal to completions");
    }
    if above(&failed, COMPLETIONS_HIGH) {
        failed.invalid(format!("must be less than or equal to {COMPLETIONS_HIGH}"));
    }
    if above(&completions, COMPLETIONS_HIGH) && spec.get("backoffLimitPerIndex").is_set() {
        if !failed.is_set() {
            failed.required(&format!("must be specified when completions is above {COMPLETIONS_HIGH}"));
        }
        for amount in [&parallelism, &failed].into_iter().filter(|amount| above(amount, PARALLELISM_HIGH)) {
            amount.invalid(format!("must be less than or equal to {PARALLELISM_HIGH} when completions are above {COMPLETIONS_HIGH} and used with backoff limit per index"));
        }
    }
}

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

/// Go prints a list of texts like this.
fn go_list(texts: &[&str]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn failure_policy(spec: &At) {
    let policy = spec.get("podFailurePolicy");
    let rules = policy.get("rules");
    if rules.len() > RULES_MAX {
        rules.too_many(RULES_MAX);
    }
    for rule in rules.items() {
        let action = rule.get("action");
        if action.need_because(&go_list(&ACTIONS)) {
            action.one_of(&ACTIONS);
        }
        if action.text() == "FailIndex" && !spec.get("backoffLimitPerIndex").is_set() {
            action.invalid("requires the backoffLimitPerIndex to be set");
        }
        let (codes, conditions) = (rule.get("onExitCodes"), rule.get("onPodConditions"));
        if codes.is_set() {
            exit_codes(&codes, spec);
        }
        if conditions.len() > RULES_MAX {
            conditions.too_many(RULES_MAX);
        }
        for condition in conditions.items() {
            condition.get("type").named(names::qualified_name);
            if condition.get("status").need_because(&go_list(&STATUSES)) {
                condition.get("status").one_of(&STATUSES);
            }
        }
        match (codes.is_set(), !conditions.is_empty()) {
            (true, true) => rule.invalid_unseen("specifying both OnExitCodes and OnPodConditions is not supported"),
            (false, false) => rule.invalid_unseen("specifying one of OnExitCodes and OnPodConditions is required"),
            _ => {}
        }
    }
}

fn exit_codes(at: &At, spec: &At) {
    let (operator, values, name) = (at.get("operator"), at.get("values"), at.get("containerName"));
    if operator.need_because(&go_list(&["In", "NotIn"])) {
        operator.one_of(&["In", "NotIn"]);
    }
    let pod = spec.get("template");
    let pod = pod.get("spec");
    let known = ["containers", "initContainers"]
        .iter()
        .any(|list| pod.get(list).items().any(|container| container.get("name").same(&name)));
    if name.is_set() && !known {
        name.invalid("must be one of the container or initContainer names in the pod template");
    }
    match values.len() {
        0 => values.invalid_value(Value::Null, "at least one value is required"),
        count if count > 255 => values.too_many(255),
        _ => {}
    }
    let (mut seen, mut last, mut is_sorted) = (HashSet::new(), i64::MIN, true);
    for value in values.items() {
        let code = value.int().unwrap_or(0);
        if operator.text() == "In" && code == 0 {
            value.invalid("must not be 0 for the In operator");
        }
        if !seen.insert(code) {
            value.duplicate();
        }
        is_sorted &= last <= code;
        last = code;
    }
    if !is_sorted {
        values.invalid("must be ordered");
    }
}

fn success_policy(spec: &At) {
    let policy = spec.get("successPolicy");
    if !policy.is_set() {
        return;
    }
    if !is_indexed(spec) {
        return policy.invalid("requires indexed completion mode");
    }
    let rules = policy.get("rules");
    rules.need_because("at least one rules must be specified when the successPolicy is specified");
    if rules.len() > RULES_MAX {
        rules.too_many(RULES_MAX);
    }
    let completions = spec.get("completions").int().unwrap_or(0);
    for rule in rules.items() {
        let (count, indexes) = (rule.get("succeededCount"), rule.get("succeededIndexes"));
        if !count.is_set() && !indexes.is_set() {
            rule.required("at least one of succeededCount or succeededIndexes must be specified");
        }
        indexes.max_bytes(64 * 1024);
        let total = total_indexes(indexes.text(), completions);
        if let Err(why) = &total {
            indexes.invalid(format!("error parsing succeededIndexes: {why}"));
        }
        count.non_negative();
        let above = |most: i64| count.int().is_some_and(|count| count > most);
        if above(completions) {
            count.invalid(format!("must be less than or equal to {completions} (the number of specified completions)"));
        }
        let total = total.unwrap_or(0);
        if indexes.is_set() && above(total) {
            count.invalid(format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            ));
        }
    }
}

/// How many indexes a text like `1,3-5` names (`validateIndexesFormat`).
fn total_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, None::<i64>);
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let limits: Vec<&str> = interval.split('-').collect();
        if limits.len() > 2 {
            return Err(format!(
                "the fragment {interval:?} violates the requirement that an index interval can have at most two parts separated by '-'"
            ));
        }
        let mut numbers = [0; 2];
        for (number, limit) in numbers.iter_mut().zip(&limits) {
            *number = limit.parse().map_err(|_| format!("cannot convert string to integer for index: {limit:?}"))?;
            if *number >= completions {
                return Err(format!("too large index: {limit:?}"));
            }
        }
        let [first, mut end] = numbers;
        if limits.len() == 1 {
            end = first;
        } else if first >= end {
            return Err(format!("non-increasing order, previous: {first}, current: {end}"));
        }
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// `ValidateJobSpecUpdate`.
pub(super) fn job_update(at: &At, old: &At) {
    let (spec, before) = (at.get("spec"), old.get("spec"));
    let completions = spec.get("completions");
    if !is_indexed(&spec) {
        completions.immutable(&before.get("completions"));
    } else if completions.is_set()
        && !completions.same(&before.get("completions"))
        && !completions.same(&spec.get("parallelism"))
    {
        completions.invalid("can only be modified in tandem with spec.parallelism");
    }
    spec.get("selector").immutable(&before.get("selector"));
    template_update(&spec, &before, old);
    for name in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        spec.get(name).immutable(&before.get(name));
    }
}

/// A Job that is suspended and has no pods may be told where they run and what they ask for.
fn template_update(spec: &At, before: &At, old: &At) {
    let (template, was) = (spec.get("template"), before.get("template"));
    if template.same(&was) {
        return;
    }
    let status = old.get("status");
    let may_change = before.get("suspend").is_true() && status.get("active").int().unwrap_or(0) == 0;
    let mut rest = was.value().clone();
    if may_change {
        let now = template.value();
        let free: [&[&str]; 6] = [
            &["metadata", "annotations"],
            &["metadata", "labels"],
            &["spec", "affinity", "nodeAffinity"],
            &["spec", "nodeSelector"],
            &["spec", "tolerations"],
            &["spec", "schedulingGates"],
        ];
        for path in free {
            match now.at(path) {
                Some(value) => rest.set(path, value.clone()),
                None => rest.take(path).is_some(),
            };
        }
        if now.at(&["spec", "affinity"]).is_none()
            && rest.at(&["spec", "affinity"]).and_then(Value::as_object).is_some_and(api::Map::is_empty)
        {
            rest.take(&["spec", "affinity"]);
        }
        for list in ["containers", "initContainers"] {
            let containers = now.at(&["spec", list]).and_then(Value::as_array).unwrap_or_default();
            let old = rest.at_mut(&["spec", list]).and_then(Value::as_array_mut).into_iter().flatten();
            for (old, new) in old.zip(containers).filter(|(old, new)| old.get("name") == new.get("name")) {
                match new.get("resources") {
                    Some(resources) => old.set(&["resources"], resources.clone()),
                    None => old.take(&["resources"]).is_some(),
                };
            }
        }
    }
    if rest != *template.value() {
        template.invalid(IMMUTABLE);
    }
}

const CRON_NAME_MAX: usize = 52;

pub(super) fn cron_job(at: &At) {
    cron_job_changed(at);
    let spec = at.get("spec");
    time_zone(&spec.get("timeZone"));
    in_schedule(&spec, false);
    let metadata = at.get("metadata");
    let name = metadata.get("name");
    if name.text().len() > CRON_NAME_MAX {
        name.invalid("must be no more than 52 characters");
    }
}

pub(super) fn cron_job_changed(at: &At) {
    let spec = at.get("spec");
    let schedule = spec.get("schedule");
    if schedule.need()
        && let Err(why) = cron::check(schedule.text())
    {
        schedule.invalid(why);
    }
    for name in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        spec.get(name).non_negative();
    }
    spec.get("concurrencyPolicy").need_one_of(&["Allow", "Forbid", "Replace"]);
    let template = spec.get("jobTemplate");
    let job = template.get("spec");
    job_spec(&job);
    if job.get("selector").is_set() {
        job.get("selector").invalid("`selector` will be auto-generated");
    }
    if job.get("manualSelector").is_true() {
        job.get("manualSelector").not_supported(&["nil", "false"]);
    }
}

pub(super) fn cron_job_update(at: &At, old: &At) {
    let (spec, before) = (at.get("spec"), old.get("spec"));
    let zone = spec.get("timeZone");
    if !zone.same(&before.get("timeZone")) {
        time_zone(&zone);
    }
    in_schedule(&spec, before.get("schedule").text().contains("TZ"));
}

/// A time zone in the schedule is only kept where it was.
fn in_schedule(spec: &At, was_there: bool) {
    let schedule = spec.get("schedule");
    match schedule.text().contains("TZ") {
        true if !was_there => {
            schedule.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        }
        true if spec.get("timeZone").is_set() => {
            schedule.invalid("cannot use both timeZone field and TZ or CRON_TZ in schedule");
        }
        _ => {}
    }
}

fn time_zone(at: &At) {
    let name = at.text();
    if !at.is_set() {
        return;
    }
    if name.is_empty() {
        return at.invalid("timeZone must be nil or non-empty string");
    }
    let is_good = |part: &str| {
        let plain = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte));
        !matches!(part, "." | "..") && !part.starts_with('-') && plain && (1..=14).contains(&part.len())
    };
    if !name.split('/').all(is_good) {
        return at.invalid(format!("unknown time zone {name}"));
    }
    if name.eq_ignore_ascii_case("Local") {
        at.invalid("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
    } else if TimeZone::get(name).is_err() {
        at.invalid(format!("unknown time zone {name}"));
    }
}
