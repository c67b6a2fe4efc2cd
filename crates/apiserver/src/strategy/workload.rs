//! Workloads: their selectors do not change, and match their templates.

use api::{Value, selector::LabelSelector, status::FieldError};

use super::{Strategy, pod};

/// `spec.selector` is there, means something, and selects the template's pods.
fn validate_selector(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let selector = object.at(&["spec", "selector"]);
    let parsed = LabelSelector::from_value(selector);
    match (&selector, &parsed) {
        (None, _) => errors.push(FieldError::required("spec.selector", "")),
        (_, Err(error)) => {
            errors.push(FieldError::invalid("spec.selector", selector.map(Value::to_string), error.to_string()))
        }
        (_, Ok(parsed)) if parsed.is_everything() => {
            errors.push(FieldError::new(
                api::status::FieldErrorKind::Invalid,
                "spec.selector",
                "{}",
                "empty selector is invalid for deployment",
            ));
        }
        (_, Ok(parsed)) => {
            let labels = object.at(&["spec", "template", "metadata", "labels"]);
            let label = |name: &str| labels.and_then(|labels| labels.get(name)).and_then(Value::as_str);
            if !parsed.matches_with(label) {
                let value = labels.map_or_else(|| "null".to_owned(), Value::to_string);
                errors.push(FieldError::new(
                    api::status::FieldErrorKind::Invalid,
                    "spec.template.metadata.labels",
                    value,
                    "`selector` does not match template `labels`",
                ));
            }
        }
    }
    errors
}

fn validate_template(object: &Value, restart: &[&str]) -> Vec<FieldError> {
    let mut errors = pod::validate_spec(object.at(&["spec", "template", "spec"]), "spec.template.spec");
    let policy = object.str_at(&["spec", "template", "spec", "restartPolicy"]);
    if !restart.contains(&policy) {
        errors.push(FieldError::not_supported("spec.template.spec.restartPolicy", policy, restart));
    }
    errors
}

fn validate_counts(object: &Value, fields: &[&str]) -> Vec<FieldError> {
    let number = |name: &str| object.at(&["spec", name]).and_then(Value::as_i64);
    fields
        .iter()
        .filter_map(|name| number(name).filter(|number| *number < 0).map(|number| (name, number)))
        .map(|(name, number)| FieldError::invalid(format!("spec.{name}"), number, "must be greater than or equal to 0"))
        .collect()
}

fn selector_stays(object: &Value, old: &Value) -> Vec<FieldError> {
    stays(object, old, "selector")
}

fn stays(object: &Value, old: &Value, name: &str) -> Vec<FieldError> {
    if object.at(&["spec", name]) == old.at(&["spec", name]) {
        return Vec::new();
    }
    let value = object.at(&["spec", name]).map_or_else(|| "null".to_owned(), Value::to_string);
    vec![FieldError::new(api::status::FieldErrorKind::Invalid, format!("spec.{name}"), value, "field is immutable")]
}

macro_rules! workload {
    ($name:ident, $counts:expr, $($fields:literal),*) => {
        pub struct $name;

        impl Strategy for $name {
            fn fields(&self) -> &'static [&'static str] {
                &[$($fields),*]
            }

            fn validate(&self, object: &Value) -> Vec<FieldError> {
                let mut errors = validate_selector(object);
                errors.extend(validate_counts(object, $counts));
                errors.extend(validate_template(object, &["Always"]));
                errors
            }

            fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
                selector_stays(object, old)
            }
        }
    };
}

workload!(Deployments, &["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"],);
workload!(ReplicaSets, &["replicas", "minReadySeconds"], "status.replicas");
workload!(DaemonSets, &["minReadySeconds", "revisionHistoryLimit"],);

pub struct StatefulSets;

impl Strategy for StatefulSets {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = validate_selector(object);
        errors.extend(validate_counts(object, &["replicas", "minReadySeconds", "revisionHistoryLimit"]));
        errors.extend(validate_template(object, &["Always"]));
        errors
    }

    /// `validation.ValidateStatefulSetUpdate`: only a few fields may change.
    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        const MUTABLE: [&str; 8] = [
            "replicas",
            "ordinals",
            "template",
            "updateStrategy",
            "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy",
            "minReadySeconds",
            "podManagementPolicy",
        ];
        let rest = |object: &Value| {
            let mut spec = object.get("spec").cloned().unwrap_or_default();
            for name in &MUTABLE[..7] {
                spec.take(&[name]);
            }
            spec
        };
        if rest(object) == rest(old) {
            return Vec::new();
        }
        vec![FieldError::forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        )]
    }
}

pub struct ReplicationControllers;

impl Strategy for ReplicationControllers {
    fn fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = validate_counts(object, &["replicas", "minReadySeconds"]);
        if object.at(&["spec", "selector"]).and_then(Value::as_object).is_none_or(api::Map::is_empty) {
            errors.push(FieldError::required("spec.selector", ""));
        }
        errors.extend(validate_template(object, &["Always"]));
        errors
    }
}

pub struct Jobs;

impl Strategy for Jobs {
    fn fields(&self) -> &'static [&'static str] {
        &["status.successful"]
    }

    fn field_sources(&self, _field: &str) -> &'static [&'static str] {
        &["status.succeeded"]
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    /// A Job selects its pods by its UID unless the client insists on a selector of its own.
    fn prepare_create(&self, object: &mut Value) {
        if object.at(&["spec", "manualSelector"]).and_then(Value::as_bool) == Some(true) {
            return;
        }
        let (uid, name) =
            (object.str_at(&["metadata", "uid"]).to_owned(), object.str_at(&["metadata", "name"]).to_owned());
        for (label, value) in [
            ("controller-uid", &uid),
            ("batch.kubernetes.io/controller-uid", &uid),
            ("job-name", &name),
            ("batch.kubernetes.io/job-name", &name),
        ] {
            object.set(&["spec", "template", "metadata", "labels", label], value.as_str());
        }
        object.set(&["spec", "selector", "matchLabels", "batch.kubernetes.io/controller-uid"], uid);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = validate_counts(
            object,
            &["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"],
        );
        errors.extend(validate_template(object, &["OnFailure", "Never"]));
        let indexed = object.str_at(&["spec", "completionMode"]) == "Indexed";
        if indexed && object.at(&["spec", "completions"]).is_none() {
            errors.push(FieldError::required("spec.completions", "when completion mode is Indexed"));
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = selector_stays(object, old);
        let suspended = old.at(&["spec", "suspend"]).and_then(Value::as_bool) == Some(true);
        if !suspended {
            errors.extend(stays(object, old, "template"));
        }
        if object.str_at(&["spec", "completionMode"]) != "Indexed" {
            errors.extend(stays(object, old, "completions"));
        }
        errors.extend(stays(object, old, "completionMode"));
        errors
    }
}

pub struct CronJobs;

impl Strategy for CronJobs {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if object.str_at(&["spec", "schedule"]).is_empty() {
            errors.push(FieldError::required("spec.schedule", ""));
        }
        let policies = ["Allow", "Forbid", "Replace"];
        let policy = object.str_at(&["spec", "concurrencyPolicy"]);
        if !policies.contains(&policy) {
            errors.push(FieldError::not_supported("spec.concurrencyPolicy", policy, &policies));
        }
        let name = object.str_at(&["metadata", "name"]);
        if name.len() > 52 {
            errors.push(FieldError::invalid("metadata.name", name, "must be no more than 52 characters"));
        }
        let template = object.at(&["spec", "jobTemplate", "spec", "template", "spec"]);
        errors.extend(pod::validate_spec(template, "spec.jobTemplate.spec.template.spec"));
        errors
    }
}
