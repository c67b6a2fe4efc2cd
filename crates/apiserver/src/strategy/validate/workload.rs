//! Workloads that run until they are deleted (`pkg/apis/apps/validation`, ReplicationControllers of the core group).

use api::Value;

use super::{
    at::{At, IMMUTABLE},
    claim, common,
    pod::{self, Context},
};

const NO_MATCH: &str = "`selector` does not match template `labels`";

/// A selector that selects something and meets the template's labels.
fn selector(spec: &At, kind: &str) {
    let selector = spec.get("selector");
    if !selector.is_set() {
        selector.required("");
    } else {
        common::label_selector(&selector);
        if common::is_empty_selector(&selector) {
            selector.invalid(format!("empty selector is invalid for {kind}"));
        }
    }
    let template = spec.get("template");
    let metadata = template.get("metadata");
    let labels = metadata.get("labels");
    // No selector selects nothing; an empty one, everything.
    let matters = !selector.is_set() || !common::is_empty_selector(&selector);
    match common::selects(&selector, &labels) {
        Some(false) if matters => labels.invalid(NO_MATCH),
        None => selector.invalid(if kind == "deployment" { "invalid label selector" } else { "" }),
        _ => {}
    }
}

/// The pods of a template run always and without a deadline.
fn runs_always(template: &At, kind: &str) {
    let spec = template.get("spec");
    let policy = spec.get("restartPolicy");
    if policy.text() != "Always" {
        policy.not_supported(&["Always"]);
    }
    spec.get("activeDeadlineSeconds").forbid(&format!("activeDeadlineSeconds in {kind} is not Supported"));
}

fn counts(spec: &At, names: &[&str]) {
    names.iter().for_each(|name| spec.get(name).non_negative());
}

pub(super) fn selector_stays(at: &At, old: &At) {
    at.get("spec").get("selector").immutable(&old.get("spec").get("selector"));
}

pub(super) fn replica_set(at: &At) {
    let spec = at.get("spec");
    counts(&spec, &["replicas", "minReadySeconds"]);
    selector(&spec, "deployment");
    let template = spec.get("template");
    pod::template(&template);
    runs_always(&template, "ReplicaSet");
}

pub(super) fn deployment(at: &At) {
    let spec = at.get("spec");
    counts(&spec, &["replicas"]);
    selector(&spec, "deployment");
    let template = spec.get("template");
    pod::template(&template);
    runs_always(&template, "ReplicaSet");
    deployment_strategy(&spec.get("strategy"));
    counts(&spec, &["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"]);
    let deadline = spec.get("progressDeadlineSeconds");
    if deadline.int().is_some_and(|deadline| deadline <= spec.get("minReadySeconds").int().unwrap_or(0)) {
        deadline.invalid("must be greater than minReadySeconds");
    }
}

fn deployment_strategy(at: &At) {
    let rolling = at.get("rollingUpdate");
    match at.get("type").text() {
        "Recreate" => rolling.forbid("may not be specified when strategy `type` is 'Recreate'"),
        "RollingUpdate" if !rolling.is_set() => rolling.required("this should be defaulted and never be nil"),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            common::int_or_percent(&unavailable);
            common::int_or_percent(&surge);
            if common::int_or_percent_value(&unavailable) == 0 && common::int_or_percent_value(&surge) == 0 {
                unavailable.invalid("may not be 0 when `maxSurge` is 0");
            }
            common::at_most_all(&unavailable);
        }
        _ => at.not_supported(&["Recreate", "RollingUpdate"]),
    }
}

pub(super) fn daemon_set(at: &At) {
    let spec = at.get("spec");
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    common::label_selector(&selector);
    let metadata = template.get("metadata");
    let labels = metadata.get("labels");
    if common::selects(&selector, &labels) == Some(false) {
        labels.invalid(NO_MATCH);
    }
    if selector.is_set() && common::is_empty_selector(&selector) {
        selector.invalid("empty selector is invalid for daemonset");
    }
    pod::template(&template);
    runs_always(&template, "DaemonSet");
    counts(&spec, &["minReadySeconds", "revisionHistoryLimit"]);
    let strategy = spec.get("updateStrategy");
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.is_set() => rolling.required(""),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            for amount in [&unavailable, &surge] {
                common::int_or_percent(amount);
                common::at_most_all(amount);
            }
            match (common::int_or_percent_value(&unavailable) != 0, common::int_or_percent_value(&surge) != 0) {
                (true, true) => surge.invalid("may not be set when maxUnavailable is non-zero"),
                (false, false) => unavailable.required("cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        _ => strategy.not_supported(&["RollingUpdate", "OnDelete"]),
    }
}

pub(super) fn stateful_set(at: &At) {
    stateful_set_spec(&at.get("spec"), true);
}

/// Claim templates and the service's name do not change, so that what is there may stay.
pub(super) fn stateful_set_changed(at: &At) {
    stateful_set_spec(&at.get("spec"), false);
}

/// `ValidateStatefulSetSpec`.
fn stateful_set_spec(spec: &At, is_new: bool) {
    let management = spec.get("podManagementPolicy");
    if management.need() && !matches!(management.text(), "OrderedReady" | "Parallel") {
        management.invalid("must be 'OrderedReady' or 'Parallel'");
    }
    let strategy = spec.get("updateStrategy");
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "" => strategy.required(""),
        "OnDelete" if rolling.is_set() => rolling.invalid("only allowed for updateStrategy 'RollingUpdate'"),
        "OnDelete" => {}
        "RollingUpdate" => {
            rolling.get("partition").non_negative();
            let unavailable = rolling.get("maxUnavailable");
            if unavailable.is_set() {
                common::int_or_percent(&unavailable);
                if common::int_or_percent_value(&unavailable) == 0 {
                    unavailable.invalid("cannot be 0");
                }
                common::at_most_all(&unavailable);
            }
        }
        _ => strategy.invalid("must be 'RollingUpdate' or 'OnDelete'"),
    }
    let retention = spec.get("persistentVolumeClaimRetentionPolicy");
    if retention.is_set() {
        for name in ["whenDeleted", "whenScaled"] {
            retention.get(name).one_of(&["Retain", "Delete"]);
        }
    }
    let claims = spec.get("volumeClaimTemplates");
    for template in claims.items().filter(|_| is_new) {
        claim::spec(&template.get("spec"));
    }
    counts(spec, &["replicas", "minReadySeconds"]);
    spec.get("ordinals.start").holding(&spec.get("ordinals").get("start")).non_negative();
    if is_new {
        spec.get("serviceName").named_if_set(api::names::dns1123_label);
    }
    selector(spec, "statefulset");
    let template = spec.get("template");
    if common::selects(&spec.get("selector"), &template.get("labels")).is_some() {
        pod::template_in(&template, &Context { claim_templates: Some(claims), ..Context::default() });
        // Upstream looks at them twice.
        pod::template_metadata(&template);
    }
    runs_always(&template, "StatefulSet");
}

/// `ValidateStatefulSetUpdate`: only a few fields may change.
pub(super) fn stateful_set_update(at: &At, old: &At) {
    const MUTABLE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let (spec, before) = (at.get("spec"), old.get("spec"));
    let rest = |spec: &At<'_, '_>| -> usize { spec.entries().filter(|(name, _)| !MUTABLE.contains(name)).count() };
    let differs = |(name, value): (&str, At)| !MUTABLE.contains(&name) && !value.same(&before.get(name));
    if rest(&spec) != rest(&before) || spec.entries().any(differs) {
        spec.forbidden(
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}

pub(super) fn replication_controller(at: &At) {
    let spec = at.get("spec");
    counts(&spec, &["minReadySeconds"]);
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    selector.need();
    if spec.get("replicas").is_set() {
        counts(&spec, &["replicas"]);
    } else {
        spec.get("replicas").required("");
    }
    if !template.is_set() {
        return template.required("");
    }
    let metadata = template.get("metadata");
    let labels = metadata.get("labels");
    if selector.entries().any(|(key, value)| !labels.key(key).same(&value)) {
        labels.invalid(NO_MATCH);
    }
    pod::template(&template);
    runs_always(&template, "ReplicationController");
}

pub(super) fn revision(at: &At) {
    at.get("revision").non_negative();
    let data = at.get("data");
    match data.value() {
        Value::Object(_) => {}
        Value::Null => data.required("data is mandatory"),
        _ => data.required("data must be a valid JSON object"),
    }
}

pub(super) fn revision_update(at: &At, old: &At) {
    let data = at.get("data");
    if !data.same(&old.get("data")) {
        data.invalid(IMMUTABLE);
    }
}

pub(super) fn controller_status(at: &At, _old: &At) {
    common::replica_counts(
        &at.get("status"),
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        &["observedGeneration", "terminatingReplicas"],
        "readyReplicas",
    );
}

pub(super) fn deployment_status(at: &At, old: &At) {
    let status = at.get("status");
    common::replica_counts(
        &status,
        &["updatedReplicas", "readyReplicas", "availableReplicas"],
        &["observedGeneration", "unavailableReplicas", "terminatingReplicas", "collisionCount"],
        "readyReplicas",
    );
    common::not_decremented(&status.get("collisionCount"), &old.get("status").get("collisionCount"));
}

pub(super) fn stateful_set_status(at: &At, old: &At) {
    let status = at.get("status");
    common::replica_counts(
        &status,
        &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"],
        &["observedGeneration", "collisionCount"],
        "status.readyReplicas",
    );
    common::not_decremented(&status.get("collisionCount"), &old.get("status").get("collisionCount"));
}

pub(super) fn daemon_set_status(at: &At, old: &At) {
    let status = at.get("status");
    for name in [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ] {
        status.get(name).non_negative();
    }
    common::not_decremented(&status.get("collisionCount"), &old.get("status").get("collisionCount"));
}
