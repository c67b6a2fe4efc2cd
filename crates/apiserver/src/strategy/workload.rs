//! Workloads: what makes them more than their schema.

use api::Value;

use super::Strategy;

pub struct ReplicaSets;

impl Strategy for ReplicaSets {
    fn fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }
}

pub struct Deployments;

impl Strategy for Deployments {
    /// ReplicaSets get their Deployment's annotations, so that these count, too.
    fn counts_annotations(&self) -> bool {
        true
    }
}

/// How often the template has changed, for clients of the API's first versions.
const TEMPLATE_GENERATION: [&str; 3] = ["metadata", "annotations", "deprecated.daemonset.template.generation"];

pub struct DaemonSets;

impl Strategy for DaemonSets {
    fn prepare_create(&self, object: &mut Value) {
        if template_generation(object) < 1 {
            object.set(&TEMPLATE_GENERATION, "1");
        }
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        let template = ["spec", "template"];
        let grown = i64::from(object.at(&template) != old.at(&template));
        object.set(&TEMPLATE_GENERATION, (template_generation(old) + grown).to_string());
    }
}

fn template_generation(object: &Value) -> i64 {
    object.str_at(&TEMPLATE_GENERATION).parse().unwrap_or(0)
}

pub struct ReplicationControllers;

impl Strategy for ReplicationControllers {
    fn fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn orphans_by_default(&self) -> bool {
        true
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
        // Labels that the Job has from its template it goes on sharing with it.
        let labels = ["metadata", "labels"];
        let template = ["spec", "template", "metadata", "labels"];
        let is_shared = object.at(&labels).is_none() || object.at(&labels) == object.at(&template);
        let (uid, name) =
            (object.str_at(&["metadata", "uid"]).to_owned(), object.str_at(&["metadata", "name"]).to_owned());
        for (label, value) in [
            ("controller-uid", &uid),
            ("batch.kubernetes.io/controller-uid", &uid),
            ("job-name", &name),
            ("batch.kubernetes.io/job-name", &name),
        ] {
            object.set(&["spec", "template", "metadata", "labels", label], value.as_str());
            if is_shared {
                object.set(&["metadata", "labels", label], value.as_str());
            }
        }
        object.set(&["spec", "selector", "matchLabels", "batch.kubernetes.io/controller-uid"], uid);
    }
}
