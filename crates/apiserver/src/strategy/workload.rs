//! Workloads: what makes them more than their schema.

use api::Value;

use super::Strategy;

pub struct ReplicaSets;

impl Strategy for ReplicaSets {
    fn fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
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
}
